// AppArmor profiles of containers: the fields, and the annotations that said the same before
// Kubernetes 1.30 (container.apparmor.security.beta.kubernetes.io/<container>).
#include <algorithm>
#include <optional>

#include "control-plane/api/kinds/pod_rules.h"
#include "control-plane/api/kinds/spec_generation.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"

namespace skiff::cp {
namespace {

namespace core = k8s::core::v1;

constexpr std::string_view kAnnotation = "container.apparmor.security.beta.kubernetes.io/";
constexpr std::string_view kLocalhostPrefix = "localhost/";
constexpr size_t kMaxProfileBytes = 4095;

// Of a text that is not empty.
bool IsPadded(std::string_view text) {
  constexpr std::string_view kSpaces = " \t\r\n\v\f";
  return kSpaces.find(text.front()) != kSpaces.npos || kSpaces.find(text.back()) != kSpaces.npos;
}

std::string AnnotationOf(const core::AppArmorProfile& profile) {
  if (profile.type() == "Unconfined") return "unconfined";
  if (profile.type() == "RuntimeDefault") return "runtime/default";
  if (profile.type() == "Localhost" && profile.has_localhost_profile()) {
    return std::string(kLocalhostPrefix) + profile.localhost_profile();
  }
  return "";
}

// Nothing for an annotation that no field can say.
std::optional<core::AppArmorProfile> ProfileOf(std::string_view annotation) {
  core::AppArmorProfile profile;
  if (annotation == "unconfined") {
    profile.set_type("Unconfined");
  } else if (annotation == "runtime/default") {
    profile.set_type("RuntimeDefault");
  } else if (annotation.starts_with(kLocalhostPrefix)) {
    profile.set_type("Localhost");
    profile.set_localhost_profile(std::string(annotation.substr(kLocalhostPrefix.size())));
    FieldErrors errors;
    ValidateAppArmor(profile, FieldPath("annotation"), errors);
    if (!errors.empty()) return std::nullopt;
  } else {
    return std::nullopt;
  }
  return profile;
}

template <class F>
void ForEachContainer(core::PodSpec& spec, F&& act) {
  for (auto* list : {spec.mutable_init_containers(), spec.mutable_containers()}) {
    for (core::Container& container : *list) act(container);
  }
}

bool HasContainer(const core::PodSpec& spec, std::string_view name) {
  const auto named = [&](const core::Container& container) { return container.name() == name; };
  return std::any_of(spec.containers().begin(), spec.containers().end(), named) ||
         std::any_of(spec.init_containers().begin(), spec.init_containers().end(), named);
}

// Where a container (at path) has both words, they are one.
void CheckAgreement(const core::AppArmorProfile& field, const std::string& annotation,
                    const FieldPath& path, FieldErrors& errors) {
  const std::string type = annotation == "unconfined"        ? "Unconfined"
                           : annotation == "runtime/default" ? "RuntimeDefault"
                                                             : "Localhost";
  const FieldPath at = path.Child("securityContext").Child("appArmorProfile");
  if (field.type() != type) {
    errors.Forbidden(at.Child("type"), "apparmor type in annotation and field must match");
  } else if (type == "Localhost" && AnnotationOf(field) != annotation) {
    errors.Forbidden(at.Child("localhostProfile"),
                     "apparmor profile in annotation and field must match");
  }
}

}  // namespace

void ValidateAppArmor(const core::AppArmorProfile& profile, const FieldPath& path,
                      FieldErrors& errors) {
  const std::string& type = profile.type();
  const std::string& name = profile.localhost_profile();
  const FieldPath at = path.Child("localhostProfile");
  if (type == "Localhost") {
    if (name.empty()) {
      errors.Required(at, "must be set when AppArmor type is Localhost");
    } else if (IsPadded(name)) {
      errors.Invalid(at, name, "must not be padded with whitespace");
    }
    if (name.size() > kMaxProfileBytes) errors.TooLong(at, kMaxProfileBytes);
  } else if (type == "RuntimeDefault" || type == "Unconfined") {
    if (profile.has_localhost_profile()) {
      errors.Invalid(at, name, "can only be set when AppArmor type is Localhost");
    }
  } else if (type.empty()) {
    errors.Required(path.Child("type"), "type is required when appArmorProfile is set");
  } else {
    errors.NotSupported(path.Child("type"), type, {"Localhost", "RuntimeDefault", "Unconfined"});
  }
}

void SyncAppArmor(core::Pod& pod) {
  core::PodSpec& spec = *pod.mutable_spec();
  const auto& shared = spec.security_context();
  ForEachContainer(spec, [&](core::Container& container) {
    const std::string key = std::string(kAnnotation) + container.name();
    const auto& annotations = pod.metadata().annotations();
    const auto found = annotations.find(key);
    const bool own = container.security_context().has_app_armor_profile();
    if (found == annotations.end()) {
      const std::string word = AnnotationOf(own ? container.security_context().app_armor_profile()
                                                : shared.app_armor_profile());
      if (!word.empty()) (*pod.mutable_metadata()->mutable_annotations())[key] = word;
    } else if (!own) {
      const auto profile = ProfileOf(found->second);
      if (profile &&
          !(shared.has_app_armor_profile() && SameMessage(*profile, shared.app_armor_profile()))) {
        *container.mutable_security_context()->mutable_app_armor_profile() = *profile;
      }
    }
  });
}

void ValidateAppArmorAnnotations(const k8s::meta::v1::ObjectMeta& metadata,
                                 const core::PodSpec& spec, const FieldPath& path,
                                 FieldErrors& errors) {
  for (const auto& [key, value] : metadata.annotations()) {
    if (!key.starts_with(kAnnotation)) continue;
    const std::string name = key.substr(kAnnotation.size());
    if (!HasContainer(spec, name)) {
      errors.Invalid(path.Key(key), name, "container not found");
    } else if (!value.empty() && value != "unconfined" && value != "runtime/default" &&
               !value.starts_with(kLocalhostPrefix)) {
      errors.Invalid(path.Key(key), value, "invalid AppArmor profile name: \"" + value + "\"");
    }
  }
}

void ValidateAppArmorAgreement(const core::Pod& pod, FieldErrors& errors) {
  const auto& annotations = pod.metadata().annotations();
  const auto check = [&](const auto& list, std::string_view name) {
    for (int i = 0; i < list.size(); ++i) {
      const auto found = annotations.find(std::string(kAnnotation) + list[i].name());
      if (found == annotations.end() || found->second.empty()) continue;
      const auto& own = list[i].security_context();
      const auto& shared = pod.spec().security_context();
      if (!own.has_app_armor_profile() && !shared.has_app_armor_profile()) continue;
      CheckAgreement(
          own.has_app_armor_profile() ? own.app_armor_profile() : shared.app_armor_profile(),
          found->second, ElementAt(FieldPath("spec"), name, i), errors);
    }
  };
  check(pod.spec().init_containers(), "initContainers");
  check(pod.spec().containers(), "containers");
}

void ValidateAppArmorUpdate(const core::Pod& pod, const core::Pod& old, FieldErrors& errors) {
  const FieldPath path = FieldPath("metadata").Child("annotations");
  const auto& now = pod.metadata().annotations();
  const auto& before = old.metadata().annotations();
  for (const auto& [key, value] : before) {
    if (!key.starts_with(kAnnotation)) continue;
    const auto found = now.find(key);
    if (found != now.end() && found->second == value) continue;
    errors.Forbidden(path.Key(key), "may not remove or update AppArmor annotations");
  }
  for (const auto& [key, value] : now) {
    if (!key.starts_with(kAnnotation) || before.contains(key)) continue;
    errors.Forbidden(path.Key(key), "may not add AppArmor annotations");
  }
}

}  // namespace skiff::cp
