#include "control-plane/controllers/deployment_status.h"

#include <algorithm>
#include <limits>

#include "control-plane/controllers/framework/objects.h"
#include "proto/k8s/apps/v1/apps.pb.h"

namespace skiff::cp {
namespace {

using k8s::apps::v1::Deployment;
using k8s::apps::v1::DeploymentCondition;
using k8s::apps::v1::DeploymentStatus;
using k8s::apps::v1::ReplicaSetCondition;

constexpr char kCompleteReason[] = "NewReplicaSetAvailable";
constexpr char kTimedOutReason[] = "ProgressDeadlineExceeded";
constexpr char kPausedReason[] = "DeploymentPaused";

std::chrono::seconds Deadline(const Deployment& deployment) {
  return std::chrono::seconds(deployment.spec().progress_deadline_seconds());
}

bool IsProgressing(const DeploymentStatus& before, const DeploymentStatus& now) {
  const int old_before = before.replicas() - before.updated_replicas();
  const int old_now = now.replicas() - now.updated_replicas();
  return now.updated_replicas() > before.updated_replicas() || old_now < old_before ||
         now.ready_replicas() > before.ready_replicas() ||
         now.available_replicas() > before.available_replicas();
}

bool IsTimedOut(const Deployment& deployment, const DeploymentStatus& status, WallTime now) {
  const DeploymentCondition* progressing = FindCondition(status, kProgressing);
  if (progressing == nullptr || progressing->reason() == kCompleteReason) return false;
  if (progressing->reason() == kTimedOutReason) return true;
  return ToWall(progressing->last_update_time()) + Deadline(deployment) < now;
}

// "ReplicaSet "web-5d4" " or "Deployment "web" ".
std::string Subject(const Deployment& deployment, const ReplicaSets& sets) {
  if (sets.current) return "ReplicaSet \"" + sets.current->metadata().name() + "\" ";
  return "Deployment \"" + deployment.metadata().name() + "\" ";
}

void SetProgress(const Deployment& deployment, const ReplicaSets& sets, DeploymentStatus* status,
                 WallTime now) {
  const std::string subject = Subject(deployment, sets);
  if (IsComplete(deployment, *status)) {
    SetCondition(status, kProgressing, "True", kCompleteReason,
                 subject + "has successfully progressed.", now);
  } else if (IsProgressing(deployment.status(), *status)) {
    // Each step is an update, also if nothing but its time changes: the deadline counts from it.
    const DeploymentCondition* found = FindCondition(*status, kProgressing);
    DeploymentCondition before = found ? *found : DeploymentCondition();
    RemoveCondition(status, kProgressing);
    SetCondition(status, kProgressing, "True", "ReplicaSetUpdated", subject + "is progressing.",
                 now);
    if (before.status() == "True") {
      *MutableCondition(status, kProgressing)->mutable_last_transition_time() =
          before.last_transition_time();
    }
  } else if (IsTimedOut(deployment, *status, now)) {
    SetCondition(status, kProgressing, "False", kTimedOutReason,
                 subject + "has timed out progressing.", now);
  }
}

// Why the current ReplicaSet, or else an old one, cannot make or delete pods.
const ReplicaSetCondition* FailureOf(const ReplicaSets& sets) {
  if (sets.current) {
    if (const auto* failure = FindCondition(sets.current->status(), kReplicaFailure)) {
      return failure;
    }
  }
  for (const ReplicaSetPtr& set : sets.old) {
    if (const auto* failure = FindCondition(set->status(), kReplicaFailure)) return failure;
  }
  return nullptr;
}

}  // namespace

void SetCondition(DeploymentStatus* status, const char* type, const std::string& value,
                  const std::string& reason, const std::string& message, WallTime now) {
  DeploymentCondition condition;
  condition.set_type(type);
  condition.set_status(value);
  condition.set_reason(reason);
  condition.set_message(message);
  SetTime(condition.mutable_last_update_time(), now);
  SetTime(condition.mutable_last_transition_time(), now);
  if (const DeploymentCondition* before = FindCondition(*status, type)) {
    if (before->status() == value && before->reason() == reason) return;
    if (before->status() == value) {
      *condition.mutable_last_transition_time() = before->last_transition_time();
    }
    RemoveCondition(status, type);
  }
  *status->add_conditions() = std::move(condition);
}

DeploymentStatus CountStatus(const Deployment& deployment, const ReplicaSets& sets, WallTime now) {
  const std::vector<ReplicaSetPtr> all = sets.All();
  const int available = AvailableReplicas(all);
  int terminating = 0;
  for (const ReplicaSetPtr& set : all) terminating += set->status().terminating_replicas();
  DeploymentStatus status = deployment.status();
  status.set_observed_generation(deployment.metadata().generation());
  status.set_replicas(ActualReplicas(all));
  status.set_updated_replicas(ActualReplicas({sets.current}));
  status.set_ready_replicas(ReadyReplicas(all));
  status.set_available_replicas(available);
  status.set_unavailable_replicas(std::max(0, DesiredReplicas(all) - available));
  status.set_terminating_replicas(terminating);
  if (available >= deployment.spec().replicas() - MaxUnavailable(deployment)) {
    SetCondition(&status, kAvailable, "True", "MinimumReplicasAvailable",
                 "Deployment has minimum availability.", now);
  } else {
    SetCondition(&status, kAvailable, "False", "MinimumReplicasUnavailable",
                 "Deployment does not have minimum availability.", now);
  }
  return status;
}

DeploymentStatus RolloutStatus(const Deployment& deployment, const ReplicaSets& sets,
                               WallTime now) {
  DeploymentStatus status = CountStatus(deployment, sets, now);
  if (!HasProgressDeadline(deployment)) {
    RemoveCondition(&status, kProgressing);
  } else {
    const DeploymentCondition* before = FindCondition(deployment.status(), kProgressing);
    // Once complete it stays so until the template changes, whatever happens to single pods.
    const bool stays_complete = status.replicas() == status.updated_replicas() && before &&
                                before->reason() == kCompleteReason;
    if (!stays_complete) SetProgress(deployment, sets, &status, now);
  }
  if (const ReplicaSetCondition* failure = FailureOf(sets)) {
    SetCondition(&status, kReplicaFailure, failure->status(), failure->reason(), failure->message(),
                 now);
  } else {
    RemoveCondition(&status, kReplicaFailure);
  }
  return status;
}

bool IsComplete(const Deployment& deployment, const DeploymentStatus& status) {
  const int replicas = deployment.spec().replicas();
  return status.updated_replicas() == replicas && status.replicas() == replicas &&
         status.available_replicas() == replicas &&
         status.observed_generation() >= deployment.metadata().generation();
}

bool HasProgressDeadline(const Deployment& deployment) {
  return deployment.spec().has_progress_deadline_seconds() &&
         deployment.spec().progress_deadline_seconds() != std::numeric_limits<int32_t>::max();
}

std::optional<std::chrono::seconds> UntilDeadline(const Deployment& deployment,
                                                  const DeploymentStatus& status, WallTime now) {
  const DeploymentCondition* progressing = FindCondition(status, kProgressing);
  if (!HasProgressDeadline(deployment) || progressing == nullptr ||
      IsComplete(deployment, status) || progressing->reason() == kTimedOutReason ||
      progressing->reason() == kCompleteReason || progressing->reason() == kPausedReason) {
    return std::nullopt;
  }
  auto left = ToWall(progressing->last_update_time()) + Deadline(deployment) - now;
  // A second more, as the stored times have no fractions.
  return std::max(std::chrono::duration_cast<std::chrono::seconds>(left), std::chrono::seconds(0)) +
         std::chrono::seconds(1);
}

}  // namespace skiff::cp
