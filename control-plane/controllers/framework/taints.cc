#include "control-plane/controllers/framework/taints.h"

#include <algorithm>

#include "proto/k8s/core/v1/placement.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::cp {

using k8s::core::v1::Pod;
using k8s::core::v1::Taint;
using k8s::core::v1::Toleration;

bool Tolerates(const Toleration& toleration, const Taint& taint) {
  if (!toleration.effect().empty() && toleration.effect() != taint.effect()) return false;
  // An empty key goes with Exists only, and means every taint.
  if (!toleration.key().empty() && toleration.key() != taint.key()) return false;
  if (toleration.operator_() == "Exists") return true;
  const bool equal = toleration.operator_().empty() || toleration.operator_() == "Equal";
  return equal && !toleration.key().empty() && toleration.value() == taint.value();
}

bool PodTolerates(const Pod& pod, const Taint& taint) {
  return std::ranges::any_of(pod.spec().tolerations(), [&taint](const Toleration& toleration) {
    return Tolerates(toleration, taint);
  });
}

std::optional<std::chrono::seconds> TolerationTime(const Pod& pod,
                                                   const std::vector<const Taint*>& taints) {
  std::optional<std::chrono::seconds> least;
  for (const Taint* taint : taints) {
    if (taint->effect() != "NoExecute") continue;
    bool tolerated = false;
    for (const Toleration& toleration : pod.spec().tolerations()) {
      if (!Tolerates(toleration, *taint)) continue;
      tolerated = true;
      if (!toleration.has_toleration_seconds()) continue;
      std::chrono::seconds time(std::max<int64_t>(toleration.toleration_seconds(), 0));
      least = std::min(least.value_or(time), time);
    }
    if (!tolerated) return std::chrono::seconds(0);
  }
  return least;
}

}  // namespace skiff::cp
