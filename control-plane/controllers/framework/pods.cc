#include "control-plane/controllers/framework/pods.h"

#include "control-plane/controllers/framework/objects.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::cp {

bool IsPodTerminal(const k8s::core::v1::Pod& pod) {
  return pod.status().phase() == "Succeeded" || pod.status().phase() == "Failed";
}

bool IsPodActive(const k8s::core::v1::Pod& pod) {
  return !IsPodTerminal(pod) && !IsBeingDeleted(pod.metadata());
}

bool IsPodReady(const k8s::core::v1::Pod& pod) {
  const k8s::core::v1::PodCondition* ready = FindCondition(pod.status(), "Ready");
  return ready != nullptr && ready->status() == "True";
}

WallTime ReadySince(const k8s::core::v1::Pod& pod) {
  const k8s::core::v1::PodCondition* ready = FindCondition(pod.status(), "Ready");
  if (ready == nullptr || ready->status() != "True") return {};
  return ToWall(ready->last_transition_time());
}

bool IsPodAvailable(const k8s::core::v1::Pod& pod, std::chrono::seconds min_ready, WallTime now) {
  return IsPodReady(pod) && (min_ready.count() == 0 || ReadySince(pod) + min_ready <= now);
}

}  // namespace skiff::cp
