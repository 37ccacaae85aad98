// A node's report of a pod laid over the status that is stored. Pure.
#pragma once

#include <string_view>

#include "proto/k8s/fwd.h"

namespace skiff::cp {

// Conditions that the node decides (upstream's kubelet owns the same); all others are kept as they
// are when a report comes in.
bool IsNodesCondition(std::string_view type);

// The status to store: the report, with what others wrote kept, the times of conditions that did
// not change kept, and host addresses filled in from the node where the report has none. A phase
// that is final (Succeeded, Failed) stays.
k8s::core::v1::PodStatus MergePodStatus(const k8s::core::v1::PodStatus& stored,
                                        k8s::core::v1::PodStatus report,
                                        const k8s::core::v1::Node& node);

}  // namespace skiff::cp
