// Which pods a ReplicaSet or ReplicationController gives up first. Pure.
#pragma once

#include <memory>
#include <vector>

#include "base/clock.h"
#include "proto/k8s/fwd.h"

namespace skiff::cp {

using PodPtr = std::shared_ptr<const k8s::core::v1::Pod>;

// The pods to delete to be rid of `count` of them, in upstream's order: without a node, not
// running, not ready, of lower controller.kubernetes.io/pod-deletion-cost, on a node with more
// pods of the same kind, ready for a shorter time, restarted more often, younger.
// related: the active pods of all ReplicaSets of the same owner, for "of the same kind".
std::vector<PodPtr> ChoosePodsToDelete(std::vector<PodPtr> pods, const std::vector<PodPtr>& related,
                                       size_t count, WallTime now);

}  // namespace skiff::cp
