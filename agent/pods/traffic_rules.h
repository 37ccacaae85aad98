// TrafficRules: what decides who may speak with a pod. A pod's containers do not start before the
// rules for its addresses are in force.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "proto/k8s/fwd.h"

namespace skiff::agent {

// Thread-safe; calls return at once.
class TrafficRules {
 public:
  using PodPtr = std::shared_ptr<const k8s::core::v1::Pod>;
  virtual ~TrafficRules() = default;

  // A container of the pod is about to start. done is called, on a thread of its own, once the
  // rules for these addresses are in force, or with the error why they are not.
  virtual void Admit(PodPtr pod, std::vector<std::string> addresses,
                     std::function<void(Result<>)> done) = 0;
  // The pod's addresses as the runtime tells them now; none when nothing of the pod runs.
  virtual void Observe(PodPtr pod, std::vector<std::string> addresses) = 0;
  // Nothing of the pod is left on the node.
  virtual void Forget(const std::string& uid) = 0;
};

}  // namespace skiff::agent
