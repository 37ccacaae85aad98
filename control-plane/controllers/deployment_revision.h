// What ties a Deployment to its ReplicaSets: template hashes, revisions and the annotations that
// `kubectl rollout` reads. Pure.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "proto/k8s/fwd.h"

namespace skiff::cp {

inline constexpr char kRevisionAnnotation[] = "deployment.kubernetes.io/revision";
inline constexpr char kRevisionHistoryAnnotation[] = "deployment.kubernetes.io/revision-history";
inline constexpr char kDesiredReplicasAnnotation[] = "deployment.kubernetes.io/desired-replicas";
inline constexpr char kMaxReplicasAnnotation[] = "deployment.kubernetes.io/max-replicas";
inline constexpr char kPodTemplateHashLabel[] = "pod-template-hash";

// The suffix of the ReplicaSet's name. collisions: how often another template had the same hash.
std::string PodTemplateHash(const k8s::core::v1::PodTemplateSpec& pod_template, int collisions);
// Whether the templates are the same but for the hash label.
bool EqualTemplates(const k8s::core::v1::PodTemplateSpec& a,
                    const k8s::core::v1::PodTemplateSpec& b);

// 0 when there is none.
int64_t RevisionAnnotation(const k8s::meta::v1::ObjectMeta& meta);
int64_t MaxRevision(const std::vector<std::shared_ptr<const k8s::apps::v1::ReplicaSet>>& sets);
std::optional<int> DesiredAnnotation(const k8s::apps::v1::ReplicaSet& set);
std::optional<int> MaxReplicasAnnotation(const k8s::apps::v1::ReplicaSet& set);

// Both size annotations; false when they were right already.
bool SetSizeAnnotations(k8s::apps::v1::ReplicaSet* set, int desired, int max);
// Takes the Deployment's annotations over to its current ReplicaSet and gives that at least the
// revision, remembering the one it had. False when nothing changed.
bool SetCurrentAnnotations(const k8s::apps::v1::Deployment& deployment, int64_t revision,
                           k8s::apps::v1::ReplicaSet* set);

// A ReplicaSet for the Deployment's template, with the revision, of size 0.
k8s::apps::v1::ReplicaSet NewReplicaSet(const k8s::apps::v1::Deployment& deployment,
                                        int64_t revision);

}  // namespace skiff::cp
