#include "control-plane/store/store.h"

#include <future>

namespace skiff::cp {

Result<TxnResult> Store::Txn(TxnRequest request) {
  std::promise<Result<TxnResult>> promise;
  std::future<Result<TxnResult>> future = promise.get_future();
  Commit(std::move(request),
         [&promise](Result<TxnResult> result) { promise.set_value(std::move(result)); });
  return future.get();
}

std::string PrefixEnd(std::string prefix) {
  while (!prefix.empty() && prefix.back() == '\xff') prefix.pop_back();
  if (!prefix.empty()) ++prefix.back();
  return prefix;
}

}  // namespace skiff::cp
