// The scheduler: gives pods without a node the best node that can take them.
//
// A strand on the executor: it schedules one pod after the other against its own picture of the
// nodes, in which a pod counts from the moment it is decided (assumed), and binds them by the
// binding call.
#pragma once

#include <memory>
#include <string>

#include "base/async/executor.h"
#include "control-plane/api/client.h"

namespace skiff::cp {

struct SchedulerDeps {
  Client* client = nullptr;
  // For work that blocks on the store. Its clock is the scheduler's clock.
  Executor* executor = nullptr;
  // Pods whose spec.schedulerName is another one are left to it.
  std::string name = "default-scheduler";
};

// Thread-safe.
class Scheduler {
 public:
  explicit Scheduler(SchedulerDeps deps);
  // Stops.
  ~Scheduler();

  void Start();
  // No new work begins after it has returned. What is running ends with the executor, which is to
  // be stopped before the client goes away.
  void Stop();

 private:
  class Core;
  std::shared_ptr<Core> core_;
};

}  // namespace skiff::cp
