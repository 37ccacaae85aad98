// NodeReports: writes what nodes observe into the API: pod status, finished pods, node status,
// events and leases. A node may only write about itself and its own pods.
//
// Reports of one pod are applied in order, those of several pods at the same time, so that a burst
// of them shares the store's commits; all else is applied in order, beside the pods. It happens on
// a pool for blocking work. A newer report of the same pod or node replaces one that still waits,
// so what waits is bounded by the number of pods. Leases are held in memory and written no more
// often than half their duration.
#pragma once

#include <memory>
#include <string>

#include "base/async/executor.h"
#include "control-plane/api/client.h"
#include "proto/k8s/fwd.h"

namespace skiff::cp {

struct PodIdentity {
  std::string ns;
  std::string name;
  std::string uid;
};

// Thread-safe: nothing blocks the caller.
class NodeReports {
 public:
  // client and blocking (an executor whose closures may block) must outlive this.
  NodeReports(Client& client, Executor& blocking, std::string node);
  // What waits is still written.
  ~NodeReports();

  void ReportPod(PodIdentity pod, k8s::core::v1::PodStatus status);
  void ReportPodGone(PodIdentity pod);
  void ReportNode(k8s::core::v1::Node node);
  // Dropped, with a warning, when too many wait.
  void ReportEvent(k8s::core::v1::Event event);
  void RenewLease(int duration_seconds);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace skiff::cp
