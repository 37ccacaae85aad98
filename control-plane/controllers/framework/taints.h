// Taints and tolerations. Pure.
#pragma once

#include <chrono>
#include <optional>
#include <string_view>
#include <vector>

#include "proto/k8s/fwd.h"

namespace skiff::cp {

// The taints that the control plane itself puts on nodes.
inline constexpr char kTaintNotReady[] = "node.kubernetes.io/not-ready";
inline constexpr char kTaintUnreachable[] = "node.kubernetes.io/unreachable";
inline constexpr char kTaintUnschedulable[] = "node.kubernetes.io/unschedulable";

bool Tolerates(const k8s::core::v1::Toleration& toleration, const k8s::core::v1::Taint& taint);
bool PodTolerates(const k8s::core::v1::Pod& pod, const k8s::core::v1::Taint& taint);

// How long the pod may stay on a node with these taints: nothing: for ever; 0: not at all. Only
// those with the effect NoExecute count.
std::optional<std::chrono::seconds> TolerationTime(
    const k8s::core::v1::Pod& pod, const std::vector<const k8s::core::v1::Taint*>& taints);

}  // namespace skiff::cp
