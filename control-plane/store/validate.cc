#include "control-plane/store/validate.h"

#include <string>
#include <string_view>
#include <unordered_set>

namespace skiff::cp {
namespace {

Result<> ValidateKey(const std::string& key) {
  if (key.empty()) return Error(Code::kInvalidArgument, "empty key");
  if (key.size() > kMaxKeyBytes) {
    return Error(Code::kInvalidArgument, "key longer than " + std::to_string(kMaxKeyBytes));
  }
  return {};
}

Error FutureError(Revision revision, Revision current) {
  return Error(Code::kInvalidArgument, "revision " + std::to_string(revision) +
                                           " is in the future of " + std::to_string(current));
}

}  // namespace

Result<> ValidateTxn(const TxnRequest& request) {
  if (request.ops.size() > kMaxTxnOps || request.compares.size() > kMaxTxnOps) {
    return Error(Code::kInvalidArgument, "more than " + std::to_string(kMaxTxnOps) + " operations");
  }
  for (const Compare& compare : request.compares) TRY(ValidateKey(compare.key));
  size_t bytes = 0;
  std::unordered_set<std::string_view> keys;
  for (const Op& op : request.ops) {
    TRY(ValidateKey(op.key));
    if (!keys.insert(op.key).second) {
      return Error(Code::kInvalidArgument, "two operations on key " + op.key);
    }
    bytes += op.key.size() + op.value.size();
  }
  if (bytes > kMaxTxnBytes) {
    return Error(Code::kInvalidArgument,
                 "transaction of more than " + std::to_string(kMaxTxnBytes) + " bytes");
  }
  return {};
}

Error CompactedError(Revision revision, Revision compacted) {
  return Error(Code::kExpired, "revision " + std::to_string(revision) +
                                   " is compacted, the oldest is " + std::to_string(compacted));
}

Result<> ValidateReadRevision(Revision revision, Revision compacted, Revision current) {
  if (revision < compacted) return CompactedError(revision, compacted);
  if (revision > current) return FutureError(revision, current);
  return {};
}

Result<> ValidateCompaction(Revision revision, Revision compacted, Revision current) {
  if (revision <= compacted) return CompactedError(revision, compacted);
  if (revision > current) return FutureError(revision, current);
  return {};
}

}  // namespace skiff::cp
