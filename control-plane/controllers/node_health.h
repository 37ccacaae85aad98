// What the state of a node means for its conditions and taints. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "proto/k8s/fwd.h"

namespace skiff::cp {

// How much of the cluster looks dead. If nearly all of it does, it is rather the control plane that
// is cut off, and nothing is evicted.
enum class Disruption { kNone, kPartial, kFull };
Disruption DisruptionOf(int ready_nodes, int not_ready_nodes);

// Sets the conditions of a node that has stopped reporting to Unknown; false when they are already.
bool MarkUnknown(k8s::core::v1::Node* node, WallTime now);

// "True", "False" or "Unknown"; a node that never reported is "Unknown".
std::string ReadyStatus(const k8s::core::v1::Node& node);

// The taints the node should have: those of its conditions and of spec.unschedulable added or
// removed, all others left alone. may_evict: whether a NoExecute taint may be added; keep_evicting:
// whether those there are may stay. Nothing when its taints are right.
std::optional<std::vector<k8s::core::v1::Taint>> PlanTaints(const k8s::core::v1::Node& node,
                                                            bool may_evict, bool keep_evicting,
                                                            WallTime now);

}  // namespace skiff::cp
