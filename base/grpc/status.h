// Errors on gRPC connections: one mapping for all of Skiff's servers and clients.
#pragma once

#include <grpcpp/support/status.h>

#include "base/result.h"

namespace skiff {

// Each Code has a status code of its own, so an error arrives as it left (without its errno):
// kConflict is ABORTED, kExpired is OUT_OF_RANGE as etcd has it, and kUnknownOutcome is UNKNOWN,
// which is also what other servers answer when they cannot say more. The other names are the same.
grpc::Status ToGrpcStatus(const Result<>& result);

// status: not OK.
Error FromGrpcStatus(const grpc::Status& status);

}  // namespace skiff
