#include "control-plane/controllers/deployment_revision.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

#include "control-plane/controllers/framework/objects.h"
#include "proto/k8s/apps/v1/apps.pb.h"

namespace skiff::cp {
namespace {

using k8s::apps::v1::Deployment;
using k8s::apps::v1::ReplicaSet;
using k8s::core::v1::PodTemplateSpec;

uint32_t Fnv1a(uint32_t hash, std::string_view bytes) {
  for (char byte : bytes) {
    hash ^= static_cast<uint8_t>(byte);
    hash *= 16777619u;
  }
  return hash;
}

// Digits as letters without vowels, as upstream's names look ("7d9c4b5f8").
std::string SafeEncode(uint32_t value) {
  constexpr std::string_view kAlphabet = "bcdfghjklmnpqrstvwxz2456789";
  std::string text = std::to_string(value);
  for (char& digit : text) digit = kAlphabet[static_cast<size_t>(digit) % kAlphabet.size()];
  return text;
}

// What stays with the Deployment when its annotations are copied.
bool StaysBehind(std::string_view annotation) {
  constexpr std::array kOwn = {
      std::string_view("kubectl.kubernetes.io/last-applied-configuration"),
      std::string_view(kRevisionAnnotation),
      std::string_view(kRevisionHistoryAnnotation),
      std::string_view(kDesiredReplicasAnnotation),
      std::string_view(kMaxReplicasAnnotation),
      std::string_view("deprecated.deployment.rollback.to"),
  };
  return std::ranges::find(kOwn, annotation) != kOwn.end();
}

std::optional<int64_t> NumberOf(const k8s::meta::v1::ObjectMeta& meta, const char* annotation) {
  auto found = meta.annotations().find(annotation);
  if (found == meta.annotations().end()) return std::nullopt;
  int64_t number = 0;
  const char* end = found->second.data() + found->second.size();
  auto parsed = std::from_chars(found->second.data(), end, number);
  if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  return number;
}

bool SetAnnotation(k8s::meta::v1::ObjectMeta* meta, const std::string& key, std::string value) {
  auto& annotations = *meta->mutable_annotations();
  auto found = annotations.find(key);
  if (found != annotations.end() && found->second == value) return false;
  annotations[key] = std::move(value);
  return true;
}

}  // namespace

std::string PodTemplateHash(const PodTemplateSpec& pod_template, int collisions) {
  uint32_t hash = Fnv1a(2166136261u, DeterministicBytes(pod_template));
  if (collisions > 0) hash = Fnv1a(hash, std::to_string(collisions));
  return SafeEncode(hash);
}

bool EqualTemplates(const PodTemplateSpec& a, const PodTemplateSpec& b) {
  PodTemplateSpec left = a, right = b;
  left.mutable_metadata()->mutable_labels()->erase(kPodTemplateHashLabel);
  right.mutable_metadata()->mutable_labels()->erase(kPodTemplateHashLabel);
  return Equal(left, right);
}

int64_t RevisionAnnotation(const k8s::meta::v1::ObjectMeta& meta) {
  return NumberOf(meta, kRevisionAnnotation).value_or(0);
}

int64_t MaxRevision(const std::vector<std::shared_ptr<const ReplicaSet>>& sets) {
  int64_t revision = 0;
  for (const auto& set : sets) revision = std::max(revision, RevisionAnnotation(set->metadata()));
  return revision;
}

std::optional<int> DesiredAnnotation(const ReplicaSet& set) {
  return NumberOf(set.metadata(), kDesiredReplicasAnnotation);
}
std::optional<int> MaxReplicasAnnotation(const ReplicaSet& set) {
  return NumberOf(set.metadata(), kMaxReplicasAnnotation);
}

bool SetSizeAnnotations(ReplicaSet* set, int desired, int max) {
  bool changed =
      SetAnnotation(set->mutable_metadata(), kDesiredReplicasAnnotation, std::to_string(desired));
  changed |= SetAnnotation(set->mutable_metadata(), kMaxReplicasAnnotation, std::to_string(max));
  return changed;
}

bool SetCurrentAnnotations(const Deployment& deployment, int64_t revision, ReplicaSet* set) {
  bool changed = false;
  for (const auto& [key, value] : deployment.metadata().annotations()) {
    if (!StaysBehind(key)) changed |= SetAnnotation(set->mutable_metadata(), key, value);
  }
  auto& annotations = *set->mutable_metadata()->mutable_annotations();
  const int64_t before = RevisionAnnotation(set->metadata());
  if (before < revision) {
    // `rollout undo` brings an old ReplicaSet back under a new number.
    if (before > 0) {
      std::string& history = annotations[kRevisionHistoryAnnotation];
      if (!history.empty()) history += ',';
      history += std::to_string(before);
    }
    annotations[kRevisionAnnotation] = std::to_string(revision);
    changed = true;
  }
  return changed;
}

ReplicaSet NewReplicaSet(const Deployment& deployment, int64_t revision) {
  const auto& spec = deployment.spec();
  const std::string hash = PodTemplateHash(spec.template_(), deployment.status().collision_count());
  ReplicaSet set;
  auto* meta = set.mutable_metadata();
  meta->set_name(deployment.metadata().name() + "-" + hash);
  meta->set_namespace_(deployment.metadata().namespace_());
  *meta->mutable_labels() = spec.template_().metadata().labels();
  (*meta->mutable_labels())[kPodTemplateHashLabel] = hash;
  *meta->add_owner_references() = ControllerReference(deployment);
  auto* set_spec = set.mutable_spec();
  set_spec->set_replicas(0);
  if (spec.min_ready_seconds() != 0) set_spec->set_min_ready_seconds(spec.min_ready_seconds());
  *set_spec->mutable_selector() = spec.selector();
  (*set_spec->mutable_selector()->mutable_match_labels())[kPodTemplateHashLabel] = hash;
  *set_spec->mutable_template_() = spec.template_();
  (*set_spec->mutable_template_()->mutable_metadata()->mutable_labels())[kPodTemplateHashLabel] =
      hash;
  (void)SetCurrentAnnotations(deployment, revision, &set);
  return set;
}

}  // namespace skiff::cp
