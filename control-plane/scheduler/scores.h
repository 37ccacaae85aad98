// How well nodes that can take a pod suit it. Pure.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "control-plane/scheduler/node_info.h"
#include "control-plane/scheduler/pod_affinity.h"
#include "control-plane/scheduler/topology_spread.h"

namespace skiff::cp {

// Whether another pod is of the same kind as the one to be placed (same owner, same Service).
using IsReplica = std::function<bool(const k8s::core::v1::Pod& other)>;

// One total for each node, higher is better. Each of these gives 0 to 100 and counts with its
// weight: tolerated PreferNoSchedule taints (3), spread as the pod asks for or else of replicas
// (2), preferred affinity to nodes (2) and to pods (2), free resources (1), balance of CPU and
// memory (1), images already there (1).
std::vector<int64_t> ScoreNodes(const k8s::core::v1::Pod& pod,
                                const std::vector<const NodeInfo*>& nodes,
                                const IsReplica& is_replica, const PodAffinity& affinity,
                                const TopologySpread& spread);

// The single scores, one a node, for tests and for reading.
std::vector<int64_t> ScoreFreeResources(const k8s::core::v1::Pod& pod,
                                        const std::vector<const NodeInfo*>& nodes);
std::vector<int64_t> ScoreBalance(const k8s::core::v1::Pod& pod,
                                  const std::vector<const NodeInfo*>& nodes);
std::vector<int64_t> ScoreSpread(const k8s::core::v1::Pod& pod,
                                 const std::vector<const NodeInfo*>& nodes,
                                 const IsReplica& is_replica);
std::vector<int64_t> ScoreAffinity(const k8s::core::v1::Pod& pod,
                                   const std::vector<const NodeInfo*>& nodes);
std::vector<int64_t> ScoreTaints(const k8s::core::v1::Pod& pod,
                                 const std::vector<const NodeInfo*>& nodes);
std::vector<int64_t> ScoreImages(const k8s::core::v1::Pod& pod,
                                 const std::vector<const NodeInfo*>& nodes);

}  // namespace skiff::cp
