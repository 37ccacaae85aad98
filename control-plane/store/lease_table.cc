#include "control-plane/store/lease_table.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/random.h"

namespace skiff::cp {
namespace {

// How soon an expired lease is reported again while it has not been erased.
constexpr std::chrono::seconds kRetry{5};

}  // namespace

struct LeaseTable::State : std::enable_shared_from_this<State> {
  explicit State(Executor& executor_in) : executor(executor_in) {}

  struct Lease {
    std::chrono::seconds ttl;
    SteadyTime deadline;
  };

  Executor& executor;
  mutable std::mutex mutex;
  std::unordered_map<LeaseId, Lease> leases;
  Executor::TimerId timer = 0;
  SteadyTime timer_due;
  bool closed = false;

  // Held while on_expired runs.
  std::mutex expiring;
  std::function<void(LeaseId)> on_expired;

  // With the mutex held: one timer, for the earliest deadline.
  void Arm() {
    if (closed || leases.empty()) return;
    auto earliest = std::min_element(
        leases.begin(), leases.end(),
        [](const auto& a, const auto& b) { return a.second.deadline < b.second.deadline; });
    SteadyTime due = earliest->second.deadline;
    if (timer != 0) {
      if (timer_due <= due) return;
      executor.Cancel(timer);
    }
    timer_due = due;
    auto delay = std::max<SteadyTime::duration>(due - executor.clock().Now(), {});
    timer = executor.PostAfter(delay, [self = shared_from_this()] { self->Expire(); });
  }

  void Expire() {
    std::vector<LeaseId> expired;
    std::lock_guard expiring_lock(expiring);
    {
      std::lock_guard lock(mutex);
      timer = 0;
      if (closed) return;
      SteadyTime now = executor.clock().Now();
      for (auto& [id, lease] : leases) {
        if (lease.deadline > now) continue;
        expired.push_back(id);
        lease.deadline = now + kRetry;
      }
      Arm();
    }
    for (LeaseId id : expired) on_expired(id);
  }
};

LeaseTable::LeaseTable(Executor& executor, std::function<void(LeaseId)> on_expired)
    : state_(std::make_shared<State>(executor)) {
  state_->on_expired = std::move(on_expired);
}

LeaseTable::~LeaseTable() {
  {
    std::lock_guard lock(state_->mutex);
    state_->closed = true;
    if (state_->timer != 0) state_->executor.Cancel(state_->timer);
  }
  std::lock_guard wait(state_->expiring);
}

void LeaseTable::Add(LeaseId lease, std::chrono::seconds ttl) {
  std::lock_guard lock(state_->mutex);
  state_->leases[lease] = {ttl, state_->executor.clock().Now() + ttl};
  state_->Arm();
}

void LeaseTable::Erase(LeaseId lease) {
  std::lock_guard lock(state_->mutex);
  state_->leases.erase(lease);
}

bool LeaseTable::Contains(LeaseId lease) const {
  std::lock_guard lock(state_->mutex);
  return state_->leases.contains(lease);
}

bool LeaseTable::KeepAlive(LeaseId lease) {
  std::lock_guard lock(state_->mutex);
  auto found = state_->leases.find(lease);
  if (found == state_->leases.end()) return false;
  found->second.deadline = state_->executor.clock().Now() + found->second.ttl;
  return true;
}

LeaseId NewLeaseId() {
  LeaseId id = 0;
  std::string bytes = RandomBytes(sizeof(id));
  std::memcpy(&id, bytes.data(), sizeof(id));
  return (id & 0x7fffffffffffffff) | 1;
}

}  // namespace skiff::cp
