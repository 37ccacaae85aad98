// How many replicas each ReplicaSet of a Deployment should have. Pure: a Deployment and its
// ReplicaSets in, sizes out. The rules are upstream's, so that a rollout looks as users know it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "proto/k8s/fwd.h"

namespace skiff::cp {

using ReplicaSetPtr = std::shared_ptr<const k8s::apps::v1::ReplicaSet>;

// The ReplicaSets of a Deployment; current has the Deployment's pod template and may be null.
struct ReplicaSets {
  ReplicaSetPtr current;
  std::vector<ReplicaSetPtr> old;

  std::vector<ReplicaSetPtr> All() const;
  // Those with spec.replicas > 0.
  std::vector<ReplicaSetPtr> Active() const;
};

// A decision: this ReplicaSet gets this many replicas.
struct Resize {
  ReplicaSetPtr set;
  int replicas = 0;
};

bool IsRollingUpdate(const k8s::apps::v1::Deployment& deployment);
int MaxSurge(const k8s::apps::v1::Deployment& deployment);
int MaxUnavailable(const k8s::apps::v1::Deployment& deployment);

// Sums over ReplicaSets; null entries count nothing.
int DesiredReplicas(const std::vector<ReplicaSetPtr>& sets);    // spec.replicas
int ActualReplicas(const std::vector<ReplicaSetPtr>& sets);     // status.replicas
int ReadyReplicas(const std::vector<ReplicaSetPtr>& sets);      // status.readyReplicas
int AvailableReplicas(const std::vector<ReplicaSetPtr>& sets);  // status.availableReplicas

// The size of the current ReplicaSet (of size now, 0 when it is to be made) in the next step.
int NextCurrentSize(const k8s::apps::v1::Deployment& deployment,
                    const std::vector<ReplicaSetPtr>& all, int now);
// Which old ones shrink in the next step of a rolling update: first pods that are not available,
// then as many as maxUnavailable allows.
std::vector<Resize> ShrinkOld(const k8s::apps::v1::Deployment& deployment, const ReplicaSets& sets);

// A change of spec.replicas while several ReplicaSets are active, or while paused: spread in
// proportion to their sizes.
std::vector<Resize> ScaleInProportion(const k8s::apps::v1::Deployment& deployment,
                                      const ReplicaSets& sets);

// Old ones beyond spec.revisionHistoryLimit that have no pods, oldest first.
std::vector<ReplicaSetPtr> BeyondHistory(const k8s::apps::v1::Deployment& deployment,
                                         const std::vector<ReplicaSetPtr>& old);

// By creation, then name.
bool OlderFirst(const ReplicaSetPtr& a, const ReplicaSetPtr& b);

}  // namespace skiff::cp
