// EventLeases: events are forgotten an hour after they were written, by the store's leases.
#pragma once

#include <chrono>
#include <mutex>

#include "base/clock.h"
#include "base/result.h"
#include "control-plane/store/store.h"

namespace skiff::cp {

// Thread-safe. Events written within the same minute share a lease.
class EventLeases {
 public:
  EventLeases(Store& store, const Clock& clock) : store_(store), clock_(clock) {}

  // For an event written now; asks the store once a minute.
  Result<LeaseId> Current() {
    std::lock_guard lock(mutex_);
    SteadyTime now = clock_.Now();
    if (lease_ != 0 && now < renew_at_) return lease_;
    lease_ = TRY(store_.GrantLease(kTtl + kShared));
    renew_at_ = now + kShared;
    return lease_;
  }

 private:
  static constexpr std::chrono::seconds kTtl{3600};
  static constexpr std::chrono::seconds kShared{60};

  Store& store_;
  const Clock& clock_;
  std::mutex mutex_;
  LeaseId lease_ = 0;
  SteadyTime renew_at_;
};

}  // namespace skiff::cp
