#include "control-plane/controllers/deployment_rollout.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "control-plane/controllers/deployment_revision.h"
#include "control-plane/controllers/framework/objects.h"
#include "proto/codec/int_or_string.h"
#include "proto/k8s/apps/v1/apps.pb.h"

namespace skiff::cp {
namespace {

using k8s::apps::v1::Deployment;
using k8s::apps::v1::ReplicaSet;

template <class Count>
int Sum(const std::vector<ReplicaSetPtr>& sets, Count count) {
  int sum = 0;
  for (const ReplicaSetPtr& set : sets) sum += set ? count(*set) : 0;
  return sum;
}

int Scaled(const k8s::intstr::IntOrString& value, int total, bool round_up) {
  // Validation refuses what is neither a number nor a percentage.
  return codec::ScaledValue(value, total, round_up).value_or(0);
}

// Both bounds; with both at zero nothing could ever move.
struct Bounds {
  int surge = 0;
  int unavailable = 0;
};
Bounds BoundsOf(const Deployment& deployment) {
  const auto& rolling = deployment.spec().strategy().rolling_update();
  const int replicas = deployment.spec().replicas();
  Bounds bounds{Scaled(rolling.max_surge(), replicas, true),
                Scaled(rolling.max_unavailable(), replicas, false)};
  if (bounds.surge == 0 && bounds.unavailable == 0) bounds.unavailable = 1;
  return bounds;
}

int CreationSign(const ReplicaSetPtr& a, const ReplicaSetPtr& b) {
  const auto& left = a->metadata().creation_timestamp();
  const auto& right = b->metadata().creation_timestamp();
  if (left.seconds() != right.seconds()) return left.seconds() < right.seconds() ? -1 : 1;
  return a->metadata().name().compare(b->metadata().name());
}

// The one ReplicaSet that a change of spec.replicas is all about: the only active one, or the
// newest when there is none. Null when several are active.
ReplicaSetPtr ActiveOrLatest(const ReplicaSets& sets) {
  std::vector<ReplicaSetPtr> active = sets.Active();
  if (active.size() == 1) return active[0];
  if (active.size() > 1) return nullptr;
  if (sets.current) return sets.current;
  auto newest = std::ranges::max_element(sets.old, OlderFirst);
  return newest == sets.old.end() ? nullptr : *newest;
}

bool IsSaturated(const Deployment& deployment, const ReplicaSetPtr& set) {
  const int replicas = deployment.spec().replicas();
  return set && set->spec().replicas() == replicas && DesiredAnnotation(*set) == replicas &&
         set->status().available_replicas() == replicas;
}

// What a ReplicaSet's size changes by if all keep their shares.
int FractionOf(const Deployment& deployment, const ReplicaSet& set) {
  const int size = set.spec().replicas();
  if (deployment.spec().replicas() == 0) return -size;
  double before = MaxReplicasAnnotation(set).value_or(deployment.status().replicas());
  if (before == 0) return 0;
  double after = size * (deployment.spec().replicas() + MaxSurge(deployment)) / before;
  return static_cast<int>(std::lround(after)) - size;
}

}  // namespace

std::vector<ReplicaSetPtr> ReplicaSets::All() const {
  std::vector<ReplicaSetPtr> all = old;
  if (current) all.push_back(current);
  return all;
}

std::vector<ReplicaSetPtr> ReplicaSets::Active() const {
  std::vector<ReplicaSetPtr> active = All();
  std::erase_if(active, [](const ReplicaSetPtr& set) { return set->spec().replicas() <= 0; });
  return active;
}

bool IsRollingUpdate(const Deployment& deployment) {
  return deployment.spec().strategy().type() != "Recreate";
}

int MaxSurge(const Deployment& deployment) {
  return IsRollingUpdate(deployment) ? BoundsOf(deployment).surge : 0;
}

int MaxUnavailable(const Deployment& deployment) {
  if (!IsRollingUpdate(deployment)) return 0;
  return std::min(BoundsOf(deployment).unavailable, deployment.spec().replicas());
}

int DesiredReplicas(const std::vector<ReplicaSetPtr>& sets) {
  return Sum(sets, [](const ReplicaSet& set) { return set.spec().replicas(); });
}
int ActualReplicas(const std::vector<ReplicaSetPtr>& sets) {
  return Sum(sets, [](const ReplicaSet& set) { return set.status().replicas(); });
}
int ReadyReplicas(const std::vector<ReplicaSetPtr>& sets) {
  return Sum(sets, [](const ReplicaSet& set) { return set.status().ready_replicas(); });
}
int AvailableReplicas(const std::vector<ReplicaSetPtr>& sets) {
  return Sum(sets, [](const ReplicaSet& set) { return set.status().available_replicas(); });
}

bool OlderFirst(const ReplicaSetPtr& a, const ReplicaSetPtr& b) { return CreationSign(a, b) < 0; }

int NextCurrentSize(const Deployment& deployment, const std::vector<ReplicaSetPtr>& all, int now) {
  const int replicas = deployment.spec().replicas();
  if (!IsRollingUpdate(deployment)) return replicas;
  if (now >= replicas) return replicas;
  const int room = replicas + MaxSurge(deployment) - DesiredReplicas(all);
  return room <= 0 ? now : now + std::min(room, replicas - now);
}

std::vector<Resize> ShrinkOld(const Deployment& deployment, const ReplicaSets& sets) {
  const std::vector<ReplicaSetPtr> all = sets.All();
  const int min_available = deployment.spec().replicas() - MaxUnavailable(deployment);
  const int current_unavailable =
      sets.current ? sets.current->spec().replicas() - sets.current->status().available_replicas()
                   : 0;
  int may_go = DesiredReplicas(all) - min_available - current_unavailable;
  if (DesiredReplicas(sets.old) == 0 || may_go <= 0) return {};

  std::vector<ReplicaSetPtr> oldest_first = sets.old;
  std::ranges::sort(oldest_first, OlderFirst);
  std::map<std::string, int> sizes;
  for (const ReplicaSetPtr& set : oldest_first) {
    int size = set->spec().replicas();
    int unavailable = std::clamp(size - set->status().available_replicas(), 0, may_go);
    may_go -= unavailable;
    sizes[set->metadata().name()] = size - unavailable;
  }
  int spare = AvailableReplicas(all) - min_available;
  for (const ReplicaSetPtr& set : oldest_first) {
    int& size = sizes[set->metadata().name()];
    int gone = std::clamp(size, 0, std::max(spare, 0));
    spare -= gone;
    size -= gone;
  }
  std::vector<Resize> resizes;
  for (const ReplicaSetPtr& set : oldest_first) {
    int size = sizes[set->metadata().name()];
    if (size != set->spec().replicas()) resizes.push_back({set, size});
  }
  return resizes;
}

std::vector<Resize> ScaleInProportion(const Deployment& deployment, const ReplicaSets& sets) {
  const int replicas = deployment.spec().replicas();
  if (ReplicaSetPtr only = ActiveOrLatest(sets)) return {{only, replicas}};
  std::vector<Resize> resizes;
  if (IsSaturated(deployment, sets.current)) {
    for (const ReplicaSetPtr& set : sets.old) {
      if (set->spec().replicas() > 0) resizes.push_back({set, 0});
    }
    return resizes;
  }
  if (!IsRollingUpdate(deployment)) return {};

  std::vector<ReplicaSetPtr> active = sets.Active();
  const int allowed = replicas > 0 ? replicas + MaxSurge(deployment) : 0;
  const int to_add = allowed - DesiredReplicas(active);
  // The largest first; of equal ones the newer grows first and the older shrinks first.
  std::ranges::sort(active, [to_add](const ReplicaSetPtr& a, const ReplicaSetPtr& b) {
    if (a->spec().replicas() != b->spec().replicas()) {
      return a->spec().replicas() > b->spec().replicas();
    }
    return to_add > 0 ? OlderFirst(b, a) : OlderFirst(a, b);
  });
  int added = 0;
  for (const ReplicaSetPtr& set : active) {
    int change = 0;
    if (to_add != 0 && added != to_add) {
      int left = to_add - added;
      int fraction = FractionOf(deployment, *set);
      change = to_add > 0 ? std::min(fraction, left) : std::max(fraction, left);
    }
    added += change;
    resizes.push_back({set, set->spec().replicas() + change});
  }
  // What rounding has left over goes to the largest.
  if (!resizes.empty() && to_add != 0) {
    resizes[0].replicas = std::max(0, resizes[0].replicas + to_add - added);
  }
  return resizes;
}

std::vector<ReplicaSetPtr> BeyondHistory(const Deployment& deployment,
                                         const std::vector<ReplicaSetPtr>& old) {
  if (!deployment.spec().has_revision_history_limit()) return {};
  std::vector<ReplicaSetPtr> kept = old;
  std::erase_if(kept, [](const ReplicaSetPtr& set) { return IsBeingDeleted(set->metadata()); });
  const int excess = static_cast<int>(kept.size()) - deployment.spec().revision_history_limit();
  if (excess <= 0) return {};
  std::ranges::stable_sort(kept, [](const ReplicaSetPtr& a, const ReplicaSetPtr& b) {
    int64_t left = RevisionAnnotation(a->metadata()), right = RevisionAnnotation(b->metadata());
    return left != right ? left < right : OlderFirst(a, b);
  });
  kept.resize(static_cast<size_t>(excess));
  // Those with pods stay, also when that leaves more than the limit.
  std::erase_if(kept, [](const ReplicaSetPtr& set) {
    return set->status().replicas() != 0 || set->spec().replicas() != 0 ||
           set->metadata().generation() > set->status().observed_generation();
  });
  return kept;
}

}  // namespace skiff::cp
