// A Deployment's status and conditions from those of its ReplicaSets. Pure.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "base/clock.h"
#include "control-plane/controllers/deployment_rollout.h"

namespace skiff::cp {

inline constexpr char kProgressing[] = "Progressing";
inline constexpr char kAvailable[] = "Available";
inline constexpr char kReplicaFailure[] = "ReplicaFailure";

// Sets a condition; the times move as upstream's do: none when status and reason stay the same,
// the transition only when the status changes.
void SetCondition(k8s::apps::v1::DeploymentStatus* status, const char* type,
                  const std::string& value, const std::string& reason, const std::string& message,
                  WallTime now);

// The counts and the condition Available; other conditions are taken over.
k8s::apps::v1::DeploymentStatus CountStatus(const k8s::apps::v1::Deployment& deployment,
                                            const ReplicaSets& sets, WallTime now);
// CountStatus with the conditions Progressing and ReplicaFailure of a rollout.
k8s::apps::v1::DeploymentStatus RolloutStatus(const k8s::apps::v1::Deployment& deployment,
                                              const ReplicaSets& sets, WallTime now);

// Every replica is of the current template and available.
bool IsComplete(const k8s::apps::v1::Deployment& deployment,
                const k8s::apps::v1::DeploymentStatus& status);
// Whether spec.progressDeadlineSeconds says anything (its largest value says nothing).
bool HasProgressDeadline(const k8s::apps::v1::Deployment& deployment);
// When the rollout's deadline has to be looked at again, if it runs.
std::optional<std::chrono::seconds> UntilDeadline(const k8s::apps::v1::Deployment& deployment,
                                                  const k8s::apps::v1::DeploymentStatus& status,
                                                  WallTime now);

}  // namespace skiff::cp
