// LeaseTable: which leases live, and until when. Thread-safe.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "base/async/executor.h"
#include "control-plane/store/store.h"

namespace skiff::cp {

class LeaseTable {
 public:
  // on_expired runs on the executor, again and again until the lease is erased. The executor must
  // outlive the table.
  LeaseTable(Executor& executor, std::function<void(LeaseId)> on_expired);
  // on_expired does not run afterwards.
  ~LeaseTable();

  void Add(LeaseId lease, std::chrono::seconds ttl);
  void Erase(LeaseId lease);
  bool Contains(LeaseId lease) const;
  // False when there is no such lease.
  bool KeepAlive(LeaseId lease);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

// A random lease id.
LeaseId NewLeaseId();

}  // namespace skiff::cp
