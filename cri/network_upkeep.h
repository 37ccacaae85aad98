// NetworkUpkeep: has the pod network put back, now and then, what other programs removed of it.
#pragma once

#include "base/async/executor.h"
#include "cni/network.h"

namespace skiff::cri {

// Calls network.Reconcile() every 30 s on the executor, whose threads may block. The executor must
// have stopped when the upkeep is destroyed, and the network outlives both.
class NetworkUpkeep {
 public:
  NetworkUpkeep(cni::PodNetwork& network, Executor& blocking);

 private:
  void Schedule();
  void Run();

  cni::PodNetwork& network_;
  Executor& blocking_;
  bool failing_ = false;  // of the closure that runs: there is one at a time
};

}  // namespace skiff::cri
