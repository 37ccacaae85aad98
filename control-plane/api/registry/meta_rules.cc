#include "control-plane/api/registry/meta_rules.h"

#include <algorithm>

#include "base/random.h"
#include "proto/codec/names.h"
#include "proto/k8s/meta/v1/object.pb.h"

namespace skiff::cp {
namespace {

using k8s::meta::v1::ObjectMeta;

constexpr size_t kMaxAnnotationBytes = 256 * 1024;
// Upstream's safe characters: no vowels, so that no words appear, and no 0, 1, 3.
constexpr std::string_view kNameAlphabet = "bcdfghjklmnpqrstvwxz2456789";
constexpr size_t kSuffixLength = 5;
constexpr size_t kMaxGeneratedName = 63;

void ValidateName(const KindInfo& kind, const ObjectMeta& meta, FieldErrors& errors) {
  const FieldPath path("metadata");
  auto check = [&](std::string_view name) {
    return kind.rules.validate_name ? kind.rules.validate_name(name)
                                    : codec::CheckDns1123Subdomain(name);
  };
  if (!meta.generate_name().empty()) {
    // What is generated ends in an alphanumeric character: a trailing dash is fine.
    std::string name = meta.generate_name();
    if (name.ends_with('-')) name.back() = 'a';
    for (const auto& complaint : check(name)) {
      errors.Invalid(path.Child("generateName"), meta.generate_name(), complaint);
    }
  }
  if (meta.name().empty()) {
    errors.Required(path.Child("name"), "name or generateName is required");
    return;
  }
  for (const auto& complaint : check(meta.name())) {
    errors.Invalid(path.Child("name"), meta.name(), complaint);
  }
}

void ValidateLabelsAndAnnotations(const ObjectMeta& meta, FieldErrors& errors) {
  const FieldPath labels = FieldPath("metadata").Child("labels");
  for (const auto& [key, value] : meta.labels()) {
    for (const auto& complaint : codec::CheckQualifiedName(key))
      errors.Invalid(labels, key, complaint);
    for (const auto& complaint : codec::CheckLabelValue(value))
      errors.Invalid(labels, value, complaint);
  }
  const FieldPath annotations = FieldPath("metadata").Child("annotations");
  size_t bytes = 0;
  for (const auto& [key, value] : meta.annotations()) {
    std::string lower = key;
    std::transform(lower.begin(), lower.end(), lower.begin(), ::tolower);
    for (const auto& complaint : codec::CheckQualifiedName(lower)) {
      errors.Invalid(annotations, key, complaint);
    }
    bytes += key.size() + value.size();
  }
  if (bytes > kMaxAnnotationBytes) errors.TooLong(annotations, kMaxAnnotationBytes);
}

void ValidateOwners(const ObjectMeta& meta, FieldErrors& errors) {
  const FieldPath path = FieldPath("metadata").Child("ownerReferences");
  int controllers = 0;
  for (int i = 0; i < meta.owner_references_size(); ++i) {
    const auto& owner = meta.owner_references(i);
    const FieldPath at = path.Index(static_cast<size_t>(i));
    auto required = [&](const std::string& value, const char* field) {
      if (value.empty()) errors.Invalid(at.Child(field), value, "must not be empty");
    };
    required(owner.api_version(), "apiVersion");
    required(owner.kind(), "kind");
    required(owner.name(), "name");
    required(owner.uid(), "uid");
    if (owner.controller()) ++controllers;
  }
  if (controllers > 1) {
    errors.Invalid(path, ShownValue::Raw(std::to_string(controllers) + " controllers"),
                   "Only one reference can have Controller set to true");
  }
}

}  // namespace

std::string GenerateName(std::string_view base) {
  base = base.substr(0, kMaxGeneratedName - kSuffixLength);
  return std::string(base) + RandomString(kSuffixLength, kNameAlphabet);
}

void PrepareMetaForCreate(ObjectMeta* meta, WallTime now) {
  meta->clear_deletion_timestamp();
  meta->clear_deletion_grace_period_seconds();
  meta->clear_resource_version();
  meta->clear_self_link();
  meta->clear_managed_fields();
  meta->clear_generation();
  meta->set_uid(RandomUuid());
  meta->mutable_creation_timestamp()->set_seconds(
      std::chrono::floor<std::chrono::seconds>(now.time_since_epoch()).count());
  meta->mutable_creation_timestamp()->clear_nanos();
  if (meta->name().empty() && !meta->generate_name().empty()) {
    meta->set_name(GenerateName(meta->generate_name()));
  }
}

void PrepareMetaForUpdate(ObjectMeta* meta, const ObjectMeta& old) {
  meta->clear_self_link();
  meta->clear_managed_fields();
  meta->set_name(old.name());
  if (old.has_namespace_()) meta->set_namespace_(old.namespace_());
  if (old.has_generate_name()) meta->set_generate_name(old.generate_name());
  meta->set_uid(old.uid());
  *meta->mutable_creation_timestamp() = old.creation_timestamp();
  if (old.has_generation()) {
    meta->set_generation(old.generation());
  } else {
    meta->clear_generation();
  }
  if (old.has_deletion_timestamp()) {
    *meta->mutable_deletion_timestamp() = old.deletion_timestamp();
  } else {
    meta->clear_deletion_timestamp();
  }
  if (old.has_deletion_grace_period_seconds()) {
    meta->set_deletion_grace_period_seconds(old.deletion_grace_period_seconds());
  } else {
    meta->clear_deletion_grace_period_seconds();
  }
}

void ValidateMeta(const KindInfo& kind, const ObjectMeta& meta, FieldErrors& errors) {
  ValidateName(kind, meta, errors);
  if (kind.namespaced) {
    const FieldPath path = FieldPath("metadata").Child("namespace");
    if (meta.namespace_().empty()) {
      errors.Required(path);
    } else {
      for (const auto& complaint : codec::CheckDns1123Label(meta.namespace_())) {
        errors.Invalid(path, meta.namespace_(), complaint);
      }
    }
  } else if (!meta.namespace_().empty()) {
    errors.Forbidden(FieldPath("metadata").Child("namespace"), "not allowed on this type");
  }
  ValidateLabelsAndAnnotations(meta, errors);
  ValidateOwners(meta, errors);
  const FieldPath finalizers = FieldPath("metadata").Child("finalizers");
  for (const auto& finalizer : meta.finalizers()) {
    for (const auto& complaint : codec::CheckQualifiedName(finalizer)) {
      errors.Invalid(finalizers, finalizer, complaint);
    }
  }
}

void ValidateMetaUpdate(const ObjectMeta& meta, const ObjectMeta& old, FieldErrors& errors) {
  ValidateLabelsAndAnnotations(meta, errors);
  ValidateOwners(meta, errors);
  if (!old.has_deletion_timestamp()) return;
  std::string added;
  for (const auto& finalizer : meta.finalizers()) {
    const auto& known = old.finalizers();
    if (std::find(known.begin(), known.end(), finalizer) != known.end()) continue;
    if (!added.empty()) added += ", ";
    added += "\"" + finalizer + "\"";
  }
  if (!added.empty()) {
    errors.Forbidden(FieldPath("metadata").Child("finalizers"),
                     "no new finalizers can be added if the object is being deleted, found new "
                     "finalizers []string{" +
                         added + "}");
  }
}

}  // namespace skiff::cp
