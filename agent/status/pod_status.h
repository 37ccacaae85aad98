// PodStatus, computed from what is observed the way kubelet computes it. Pure.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/pods/observed.h"
#include "agent/pods/plan.h"
#include "agent/spec/node_context.h"
#include "base/clock.h"
#include "proto/k8s/fwd.h"

namespace skiff::agent {

struct ContainerHealth {
  bool ready = false;    // as its readiness probe says
  bool started = false;  // as its startup probe says
};

struct WaitingReason {
  std::string reason;  // "CrashLoopBackOff", "ErrImagePull", ...
  std::string message;
};

struct StatusInput {
  const k8s::core::v1::Pod* pod = nullptr;
  const PodShape* shape = nullptr;
  const ObservedPod* observed = nullptr;
  const NodeContext* node = nullptr;
  std::string runtime_name;                       // of container ids: "skiff://<id>"
  std::map<std::string, ContainerHealth> health;  // by container id
  std::map<std::string, WaitingReason> waiting;   // by container name: why it does not start
  // Nothing of the pod runs any more and nothing will: the phase becomes final.
  bool terminated = false;
  // The pod was stopped for a reason of its own ("DeadlineExceeded"): it failed.
  std::string failure_reason;
  std::string failure_message;
  // The status before this one (reported or read from the API): times of conditions, addresses and
  // ends of containers that are gone are taken from it.
  const k8s::core::v1::PodStatus* previous = nullptr;
  WallTime now;
};

k8s::core::v1::PodStatus ComputeStatus(const StatusInput& input);

// Phase "Succeeded" or "Failed".
bool IsFinal(const k8s::core::v1::PodStatus& status);

}  // namespace skiff::agent
