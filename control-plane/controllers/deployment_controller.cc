#include "control-plane/controllers/deployment_controller.h"

#include <algorithm>

#include "control-plane/controllers/deployment_revision.h"
#include "control-plane/controllers/deployment_rollout.h"
#include "control-plane/controllers/deployment_status.h"
#include "control-plane/controllers/framework/event_recorder.h"
#include "control-plane/controllers/framework/namespaces.h"
#include "control-plane/controllers/framework/objects.h"
#include "control-plane/controllers/framework/pods.h"
#include "proto/codec/selector.h"
#include "proto/k8s/apps/v1/apps.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::cp {
namespace {

using k8s::apps::v1::Deployment;
using k8s::apps::v1::DeploymentStatus;
using k8s::apps::v1::ReplicaSet;
using k8s::core::v1::Pod;
using DeploymentPtr = std::shared_ptr<const Deployment>;
using PodPtr = std::shared_ptr<const Pod>;

class DeploymentController : public Controller {
 public:
  DeploymentController(Client& client, Executor& executor)
      : Controller("deployment", client, executor),
        events_(client, executor, "deployment-controller"),
        deployments_(client, strand_),
        sets_(client, strand_),
        pods_(client, strand_) {
    deployments_by_namespace_ = deployments_.AddIndex([](const Deployment& deployment) {
      return std::vector{deployment.metadata().namespace_()};
    });
    by_owner_ = sets_.AddIndex([](const ReplicaSet& set) {
      const auto* owner = ControllerOf(set.metadata());
      return std::vector{owner ? owner->uid() : OrphansOf(set.metadata().namespace_())};
    });
    pods_by_owner_ = pods_.AddIndex([](const Pod& pod) {
      const auto* owner = ControllerOf(pod.metadata());
      return owner ? std::vector{owner->uid()} : std::vector<std::string>();
    });
    Observe<Deployment>(deployments_,
                        [this](const DeploymentPtr& before, const DeploymentPtr& now) {
                          queue_.Add(KeyOf((now ? now : before)->metadata()));
                        });
    Observe<ReplicaSet>(sets_, [this](const ReplicaSetPtr& before, const ReplicaSetPtr& now) {
      if (before) AddOwner(*before);
      if (now) AddOwner(*now);
    });
    Observe<Pod>(pods_, [this](const PodPtr& before, const PodPtr& now) { OnPod(before, now); });
  }

 protected:
  Result<> Sync(const std::string& key) override;

 private:
  void AddOwner(const ReplicaSet& set);
  void OnPod(const PodPtr& before, const PodPtr& now);

  // The Deployment's ReplicaSets; adopts those that match and belong to nobody, and lets those go
  // that match no more.
  Result<ReplicaSets> Claim(const Deployment& deployment, const codec::LabelSelector& selector);
  Result<> Adopt(const Deployment& deployment, const ReplicaSetPtr& set);

  // Makes sure that the current ReplicaSet is there and has the newest revision; the Deployment is
  // replaced by what was stored.
  Result<> EnsureCurrent(DeploymentPtr* deployment, ReplicaSets* sets);
  Result<> UpdateCurrent(DeploymentPtr* deployment, ReplicaSets* sets, int64_t revision);
  Result<> MakeCurrent(DeploymentPtr* deployment, ReplicaSets* sets, int64_t revision);
  Result<> Collide(const Deployment& deployment);
  Result<> ReportNotMade(const Deployment& deployment, const std::string& name, const Error& error);
  Result<> SetRevision(DeploymentPtr* deployment, int64_t revision);

  Result<> Roll(DeploymentPtr deployment, ReplicaSets sets);
  Result<> Recreate(DeploymentPtr deployment, ReplicaSets sets);
  Result<> ScaleOnly(DeploymentPtr deployment, ReplicaSets sets);
  bool OldPodsRun(const ReplicaSets& sets) const;

  // Stores the size; true when it changed.
  Result<bool> Scale(const Deployment& deployment, const Resize& resize);
  Result<> CleanUp(const Deployment& deployment, const ReplicaSets& sets);
  Result<DeploymentPtr> MarkPaused(const DeploymentPtr& deployment);
  Result<DeploymentPtr> WriteStatus(const Deployment& deployment, DeploymentStatus status);
  // Stores the status of a rollout and comes back for its deadline.
  Result<> ReportRollout(const Deployment& deployment, const ReplicaSets& sets);
  // The sets as they are after what this controller has just written.
  ReplicaSets Refresh(const ReplicaSets& sets) const;

  EventRecorder events_;
  Informer<Deployment> deployments_;
  Informer<ReplicaSet> sets_;
  Informer<Pod> pods_;
  int deployments_by_namespace_ = 0;
  int by_owner_ = 0;
  int pods_by_owner_ = 0;
};

void DeploymentController::AddOwner(const ReplicaSet& set) {
  const std::string& ns = set.metadata().namespace_();
  if (const auto* owner = ControllerOf(set.metadata())) {
    if (owner->kind() == "Deployment") queue_.Add(JoinKey(ns, owner->name()));
    return;
  }
  for (const DeploymentPtr& deployment : deployments_.ByIndex(deployments_by_namespace_, ns)) {
    auto selector = codec::LabelSelector::From(deployment->spec().selector());
    if (selector.ok() && !selector->MatchesEverything() &&
        selector->Matches(set.metadata().labels())) {
      queue_.Add(KeyOf(deployment->metadata()));
    }
  }
}

// Only Recreate waits for pods: it goes on when the last old one has ended.
void DeploymentController::OnPod(const PodPtr& before, const PodPtr& now) {
  if (!before || (now && !IsPodTerminal(*now))) return;
  const auto* owner = ControllerOf(before->metadata());
  if (owner == nullptr || owner->kind() != "ReplicaSet") return;
  ReplicaSetPtr set = sets_.Find(JoinKey(before->metadata().namespace_(), owner->name()));
  const auto* grand_owner = set ? ControllerOf(set->metadata()) : nullptr;
  if (grand_owner == nullptr) return;
  std::string key = JoinKey(before->metadata().namespace_(), grand_owner->name());
  DeploymentPtr deployment = deployments_.Find(key);
  if (deployment && !IsRollingUpdate(*deployment)) queue_.Add(key);
}

Result<> DeploymentController::Sync(const std::string& key) {
  DeploymentPtr deployment = deployments_.Find(key);
  if (!deployment) return {};
  auto selector = codec::LabelSelector::From(deployment->spec().selector());
  // Validation refuses such selectors: nothing to retry.
  if (!selector.ok() || selector->MatchesEverything()) return {};

  ReplicaSets sets = TRY(Claim(*deployment, *selector));
  if (IsBeingDeleted(deployment->metadata())) {
    TRY(WriteStatus(*deployment, CountStatus(*deployment, sets, Now())));
    return {};
  }
  deployment = TRY(MarkPaused(deployment));
  const int replicas = deployment->spec().replicas();
  const std::vector<ReplicaSetPtr> active = sets.Active();
  const bool resized = std::ranges::any_of(active, [replicas](const ReplicaSetPtr& set) {
    return DesiredAnnotation(*set).value_or(replicas) != replicas;
  });
  if (deployment->spec().paused() || resized) return ScaleOnly(deployment, std::move(sets));
  return IsRollingUpdate(*deployment) ? Roll(deployment, std::move(sets))
                                      : Recreate(deployment, std::move(sets));
}

Result<ReplicaSets> DeploymentController::Claim(const Deployment& deployment,
                                                const codec::LabelSelector& selector) {
  std::vector<ReplicaSetPtr> claimed;
  for (const ReplicaSetPtr& set : sets_.ByIndex(by_owner_, deployment.metadata().uid())) {
    if (selector.Matches(set->metadata().labels())) {
      claimed.push_back(set);
      continue;
    }
    ReplicaSet released = *set;
    RemoveOwner(released.mutable_metadata(), deployment.metadata().uid());
    sets_.Assume(TRY(client_.Update(released)));
  }
  if (!IsBeingDeleted(deployment.metadata())) {
    for (const ReplicaSetPtr& set :
         sets_.ByIndex(by_owner_, OrphansOf(deployment.metadata().namespace_()))) {
      if (!selector.Matches(set->metadata().labels()) || IsBeingDeleted(set->metadata())) continue;
      TRY(Adopt(deployment, set));
      claimed.push_back(sets_.Find(KeyOf(set->metadata())));
    }
  }
  // Of several with the template (there should be one) the oldest is the current one.
  std::ranges::sort(claimed, OlderFirst);
  ReplicaSets sets;
  for (const ReplicaSetPtr& set : claimed) {
    if (!sets.current && EqualTemplates(set->spec().template_(), deployment.spec().template_())) {
      sets.current = set;
    } else {
      sets.old.push_back(set);
    }
  }
  return sets;
}

Result<> DeploymentController::Adopt(const Deployment& deployment, const ReplicaSetPtr& set) {
  // A Deployment that is going must not take ReplicaSets along: ask the API, not the cache.
  const auto& meta = deployment.metadata();
  auto live = TRY(client_.Get<Deployment>(meta.namespace_(), meta.name()));
  if (live->metadata().uid() != meta.uid() || IsBeingDeleted(live->metadata())) {
    return Error(Code::kConflict, "the Deployment has been deleted");
  }
  ReplicaSet adopted = *set;
  *adopted.mutable_metadata()->add_owner_references() = ControllerReference(deployment);
  sets_.Assume(TRY(client_.Update(adopted)));
  return {};
}

Result<> DeploymentController::EnsureCurrent(DeploymentPtr* deployment, ReplicaSets* sets) {
  const int64_t revision = MaxRevision(sets->old) + 1;
  return sets->current ? UpdateCurrent(deployment, sets, revision)
                       : MakeCurrent(deployment, sets, revision);
}

Result<> DeploymentController::UpdateCurrent(DeploymentPtr* deployment, ReplicaSets* sets,
                                             int64_t revision) {
  ReplicaSet updated = *sets->current;
  bool changed = SetCurrentAnnotations(**deployment, revision, &updated);
  if (updated.spec().min_ready_seconds() != (*deployment)->spec().min_ready_seconds()) {
    updated.mutable_spec()->set_min_ready_seconds((*deployment)->spec().min_ready_seconds());
    changed = true;
  }
  if (changed) {
    sets->current = TRY(client_.Update(updated));
    sets_.Assume(sets->current);
  }
  TRY(SetRevision(deployment, RevisionAnnotation(sets->current->metadata())));
  if (HasProgressDeadline(**deployment) &&
      FindCondition((*deployment)->status(), kProgressing) == nullptr) {
    DeploymentStatus status = (*deployment)->status();
    SetCondition(&status, kProgressing, "True", "FoundNewReplicaSet",
                 "Found new replica set \"" + sets->current->metadata().name() + "\"", Now());
    *deployment = TRY(WriteStatus(**deployment, std::move(status)));
  }
  return {};
}

Result<> DeploymentController::MakeCurrent(DeploymentPtr* deployment, ReplicaSets* sets,
                                           int64_t revision) {
  ReplicaSet set = NewReplicaSet(**deployment, revision);
  const int size = NextCurrentSize(**deployment, sets->old, 0);
  set.mutable_spec()->set_replicas(size);
  const int replicas = (*deployment)->spec().replicas();
  SetSizeAnnotations(&set, replicas, replicas + MaxSurge(**deployment));
  auto created = client_.Create(set);
  const bool exists = !created.ok() && created.error().code() == Code::kAlreadyExists;
  if (exists) {
    created = client_.Get<ReplicaSet>(set.metadata().namespace_(), set.metadata().name());
    if (created.ok() &&
        !(IsControlledBy((*created)->metadata(), (*deployment)->metadata().uid()) &&
          EqualTemplates((*created)->spec().template_(), (*deployment)->spec().template_()))) {
      return Collide(**deployment);
    }
  }
  if (!created.ok()) {
    return ReportNotMade(**deployment, set.metadata().name(), created.error());
  }
  sets->current = *created;
  sets_.Assume(sets->current);
  const std::string& name = sets->current->metadata().name();
  if (!exists && size > 0) {
    events_.Normal(**deployment, "ScalingReplicaSet",
                   "Scaled up replica set " + name + " from 0 to " + std::to_string(size));
  }
  TRY(SetRevision(deployment, revision));
  if (HasProgressDeadline(**deployment)) {
    DeploymentStatus status = (*deployment)->status();
    SetCondition(&status, kProgressing, "True", "NewReplicaSetCreated",
                 "Created new replica set \"" + name + "\"", Now());
    *deployment = TRY(WriteStatus(**deployment, std::move(status)));
  }
  return {};
}

// Another template has the same hash: the next try uses another one.
Result<> DeploymentController::Collide(const Deployment& deployment) {
  DeploymentStatus status = deployment.status();
  status.set_collision_count(status.collision_count() + 1);
  TRY(WriteStatus(deployment, std::move(status)));
  return Error(Code::kConflict, "the pod template's hash collides with another one's");
}

Result<> DeploymentController::ReportNotMade(const Deployment& deployment, const std::string& name,
                                             const Error& error) {
  if (RefusedByEndingNamespace(client_, deployment.metadata().namespace_(), error)) {
    return Error(Code::kNotFound, "the namespace is being deleted");
  }
  const std::string message =
      "Failed to create new replica set \"" + name + "\": " + error.message();
  events_.Warning(deployment, "ReplicaSetCreateError", message);
  if (HasProgressDeadline(deployment)) {
    DeploymentStatus status = deployment.status();
    SetCondition(&status, kProgressing, "False", "ReplicaSetCreateError", message, Now());
    TRY(WriteStatus(deployment, std::move(status)));
  }
  return error;
}

Result<> DeploymentController::SetRevision(DeploymentPtr* deployment, int64_t revision) {
  if (RevisionAnnotation((*deployment)->metadata()) == revision) return {};
  Deployment updated = **deployment;
  (*updated.mutable_metadata()->mutable_annotations())[kRevisionAnnotation] =
      std::to_string(revision);
  *deployment = TRY(client_.Update(updated));
  deployments_.Assume(*deployment);
  return {};
}

ReplicaSets DeploymentController::Refresh(const ReplicaSets& sets) const {
  auto refresh = [this](const ReplicaSetPtr& set) {
    ReplicaSetPtr now = set ? sets_.Find(KeyOf(set->metadata())) : nullptr;
    return now ? now : set;
  };
  ReplicaSets refreshed{refresh(sets.current), {}};
  for (const ReplicaSetPtr& set : sets.old) refreshed.old.push_back(refresh(set));
  return refreshed;
}

// One step at a time: grow the new one, else shrink the old ones. Each step's pods bring the key
// back.
Result<> DeploymentController::Roll(DeploymentPtr deployment, ReplicaSets sets) {
  TRY(EnsureCurrent(&deployment, &sets));
  const int size = sets.current->spec().replicas();
  const int next = NextCurrentSize(*deployment, sets.All(), size);
  bool moved = next != size;
  if (moved) {
    TRY(Scale(*deployment, {sets.current, next}));
  } else {
    for (const Resize& resize : ShrinkOld(*deployment, sets)) {
      moved |= TRY(Scale(*deployment, resize));
    }
  }
  sets = Refresh(sets);
  if (!moved && IsComplete(*deployment, CountStatus(*deployment, sets, Now()))) {
    TRY(CleanUp(*deployment, sets));
  }
  return ReportRollout(*deployment, sets);
}

Result<> DeploymentController::Recreate(DeploymentPtr deployment, ReplicaSets sets) {
  bool shrunk = false;
  for (const ReplicaSetPtr& set : sets.old) {
    if (set->spec().replicas() > 0) shrunk |= TRY(Scale(*deployment, {set, 0}));
  }
  if (shrunk || OldPodsRun(sets)) {
    if (sets.current) TRY(EnsureCurrent(&deployment, &sets));
    return ReportRollout(*deployment, Refresh(sets));
  }
  TRY(EnsureCurrent(&deployment, &sets));
  TRY(Scale(*deployment, {sets.current, deployment->spec().replicas()}));
  sets = Refresh(sets);
  if (IsComplete(*deployment, CountStatus(*deployment, sets, Now()))) {
    TRY(CleanUp(*deployment, sets));
  }
  return ReportRollout(*deployment, sets);
}

// Terminating pods count as well: two versions never run at once.
bool DeploymentController::OldPodsRun(const ReplicaSets& sets) const {
  if (ActualReplicas(sets.old) > 0) return true;
  for (const ReplicaSetPtr& set : sets.old) {
    for (const PodPtr& pod : pods_.ByIndex(pods_by_owner_, set->metadata().uid())) {
      if (!IsPodTerminal(*pod)) return true;
    }
  }
  return false;
}

Result<> DeploymentController::ScaleOnly(DeploymentPtr deployment, ReplicaSets sets) {
  // A paused Deployment makes no new ReplicaSet, but keeps the one it has up to date.
  if (sets.current) TRY(EnsureCurrent(&deployment, &sets));
  for (const Resize& resize : ScaleInProportion(*deployment, sets)) {
    TRY(Scale(*deployment, resize));
  }
  sets = Refresh(sets);
  if (deployment->spec().paused()) TRY(CleanUp(*deployment, sets));
  TRY(WriteStatus(*deployment, CountStatus(*deployment, sets, Now())));
  return {};
}

Result<bool> DeploymentController::Scale(const Deployment& deployment, const Resize& resize) {
  const int before = resize.set->spec().replicas();
  const int replicas = deployment.spec().replicas();
  ReplicaSet updated = *resize.set;
  updated.mutable_spec()->set_replicas(resize.replicas);
  const bool annotated = SetSizeAnnotations(&updated, replicas, replicas + MaxSurge(deployment));
  if (before == resize.replicas && !annotated) return false;
  sets_.Assume(TRY(client_.Update(updated)));
  if (before == resize.replicas) return false;
  events_.Normal(deployment, "ScalingReplicaSet",
                 std::string("Scaled ") + (before < resize.replicas ? "up" : "down") +
                     " replica set " + updated.metadata().name() + " from " +
                     std::to_string(before) + " to " + std::to_string(resize.replicas));
  return true;
}

Result<> DeploymentController::CleanUp(const Deployment& deployment, const ReplicaSets& sets) {
  for (const ReplicaSetPtr& set : BeyondHistory(deployment, sets.old)) {
    auto deleted = client_.Delete<ReplicaSet>(set->metadata().namespace_(), set->metadata().name(),
                                              {.uid = set->metadata().uid()});
    if (!deleted.ok() && deleted.error().code() != Code::kNotFound) return deleted.error();
  }
  return {};
}

// A pause stops the deadline's clock, a resume starts it anew.
Result<DeploymentPtr> DeploymentController::MarkPaused(const DeploymentPtr& deployment) {
  if (!HasProgressDeadline(*deployment)) return deployment;
  const auto* progressing = FindCondition(deployment->status(), kProgressing);
  if (progressing && progressing->reason() == "ProgressDeadlineExceeded") return deployment;
  const bool marked = progressing && progressing->reason() == "DeploymentPaused";
  if (marked == deployment->spec().paused()) return deployment;
  DeploymentStatus status = deployment->status();
  if (marked) {
    SetCondition(&status, kProgressing, "Unknown", "DeploymentResumed", "Deployment is resumed",
                 Now());
  } else {
    SetCondition(&status, kProgressing, "Unknown", "DeploymentPaused", "Deployment is paused",
                 Now());
  }
  return WriteStatus(*deployment, std::move(status));
}

Result<DeploymentPtr> DeploymentController::WriteStatus(const Deployment& deployment,
                                                        DeploymentStatus status) {
  Deployment updated = deployment;
  *updated.mutable_status() = std::move(status);
  if (Equal(updated.status(), deployment.status())) {
    return std::make_shared<const Deployment>(deployment);
  }
  DeploymentPtr stored = TRY(client_.UpdateStatus(updated));
  deployments_.Assume(stored);
  return stored;
}

Result<> DeploymentController::ReportRollout(const Deployment& deployment,
                                             const ReplicaSets& sets) {
  DeploymentStatus status = RolloutStatus(deployment, sets, Now());
  if (auto left = UntilDeadline(deployment, status, Now())) {
    queue_.AddAfter(KeyOf(deployment.metadata()), *left);
  }
  TRY(WriteStatus(deployment, std::move(status)));
  return {};
}

}  // namespace

std::shared_ptr<Controller> MakeDeploymentController(Client& client, Executor& executor) {
  return std::make_shared<DeploymentController>(client, executor);
}

}  // namespace skiff::cp
