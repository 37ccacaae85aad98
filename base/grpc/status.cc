#include "base/grpc/status.h"

#include <algorithm>
#include <utility>

namespace skiff {
namespace {

using enum grpc::StatusCode;

constexpr std::pair<Code, grpc::StatusCode> kCodes[] = {
    {Code::kInvalidArgument, INVALID_ARGUMENT},
    {Code::kNotFound, NOT_FOUND},
    {Code::kAlreadyExists, ALREADY_EXISTS},
    {Code::kConflict, ABORTED},
    {Code::kFailedPrecondition, FAILED_PRECONDITION},
    {Code::kPermissionDenied, PERMISSION_DENIED},
    {Code::kUnauthenticated, UNAUTHENTICATED},
    {Code::kResourceExhausted, RESOURCE_EXHAUSTED},
    {Code::kUnavailable, UNAVAILABLE},
    {Code::kDeadlineExceeded, DEADLINE_EXCEEDED},
    {Code::kCancelled, CANCELLED},
    {Code::kUnimplemented, UNIMPLEMENTED},
    {Code::kExpired, OUT_OF_RANGE},
    {Code::kInternal, INTERNAL},
    {Code::kUnknownOutcome, UNKNOWN},
    {Code::kDataLoss, DATA_LOSS},
};

}  // namespace

grpc::Status ToGrpcStatus(const Result<>& result) {
  if (result.ok()) return grpc::Status::OK;
  const Error& error = result.error();
  const auto* found =
      std::ranges::find(kCodes, error.code(), &std::pair<Code, grpc::StatusCode>::first);
  CHECK(found != std::end(kCodes));
  return {found->second, error.message()};
}

Error FromGrpcStatus(const grpc::Status& status) {
  const auto* found =
      std::ranges::find(kCodes, status.error_code(), &std::pair<Code, grpc::StatusCode>::second);
  // A number that gRPC does not define, from a peer that does as it likes.
  Code code = found == std::end(kCodes) ? Code::kUnknownOutcome : found->first;
  return Error(code, status.error_message());
}

}  // namespace skiff
