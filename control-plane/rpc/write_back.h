// Read, change, write again when somebody else was faster.
#pragma once

#include "base/result.h"
#include "control-plane/api/client.h"

namespace skiff::cp {

// Runs the attempt until it ends other than by kConflict, eight times at most: optimistic writers
// make progress, so one that loses so often is starved by a bug.
template <class Attempt>
Result<> RetryOnConflict(Attempt attempt) {
  constexpr int kAttempts = 8;
  for (int i = 1;; ++i) {
    Result<> outcome = attempt();
    if (outcome.ok() || outcome.error().code() != Code::kConflict || i == kAttempts) return outcome;
  }
}

// Serialised with maps in the order of their keys: equal messages give equal bytes.
std::string SortedBytes(const Message& message);
bool SameBytes(const Message& a, const Message& b);

}  // namespace skiff::cp
