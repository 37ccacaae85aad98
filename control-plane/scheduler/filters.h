// Whether a node can take a pod, and if not, why. Pure.
#pragma once

#include <string>
#include <vector>

#include "control-plane/scheduler/node_info.h"

namespace skiff::cp {

// Why the node cannot take the pod, in upstream's words ("Insufficient cpu"); empty when it can.
// Checks in upstream's order and stops at the first that fails, which may have several reasons.
std::vector<std::string> WhyNot(const k8s::core::v1::Pod& pod, const NodeInfo& node);

// "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable."
// reasons: of each node, one entry a node.
std::string FitErrorMessage(const std::vector<std::vector<std::string>>& reasons);

// spec.nodeSelector and the required node affinity.
bool MatchesNodeAffinity(const k8s::core::v1::Pod& pod, const k8s::core::v1::Node& node);
// One term of a node selector; an empty one matches nothing.
bool MatchesTerm(const k8s::core::v1::NodeSelectorTerm& term, const k8s::core::v1::Node& node);

}  // namespace skiff::cp
