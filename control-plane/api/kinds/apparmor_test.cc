// AppArmor profiles of pods: fields and annotations.
#include "control-plane/api/kinds/testing_kinds.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"

namespace skiff::cp {
namespace {

namespace core = k8s::core::v1;

constexpr char kPrefix[] = "container.apparmor.security.beta.kubernetes.io/";

const KindInfo& PodsKind() { return Kind("", "pods"); }

// As a manifest has it; each of the annotations' words for container a, and fields of the pod and
// of it.
std::string PodYaml(const std::string& annotation, const std::string& pod_field,
                    const std::string& field) {
  std::string text;
  if (!annotation.empty()) {
    text += "metadata: {annotations: {" + std::string(kPrefix) + "a: \"" + annotation + "\"}}\n";
  }
  text += "spec:\n";
  if (!pod_field.empty()) text += "  securityContext: {appArmorProfile: " + pod_field + "}\n";
  text += "  containers: [{name: a, image: b";
  if (!field.empty()) text += ", securityContext: {appArmorProfile: " + field + "}";
  return text + "}]\n";
}

core::Pod Created(const std::string& yaml) {
  MessagePtr object = Read(PodsKind(), yaml);
  PodsKind().rules.prepare_create(*object);
  return static_cast<const core::Pod&>(*object);
}

TEST(AppArmorRules, FieldsAndAnnotationsOfANewPodBecomeOne) {
  struct Case {
    const char *annotation, *pod_field, *field, *annotation_after, *type_after, *profile_after;
  };
  const Case cases[] = {
      {"", "", "", "", "", ""},
      {"unconfined", "", "", "unconfined", "Unconfined", ""},
      {"runtime/default", "", "", "runtime/default", "RuntimeDefault", ""},
      {"localhost/mine", "", "", "localhost/mine", "Localhost", "mine"},
      // Of these no field can be made.
      {"localhost/", "", "", "localhost/", "", ""},
      {"other", "", "", "other", "", ""},
      {"", "", "{type: Localhost, localhostProfile: mine}", "localhost/mine", "Localhost", "mine"},
      {"", "{type: RuntimeDefault}", "", "runtime/default", "", ""},
      {"", "{type: RuntimeDefault}", "{type: Unconfined}", "unconfined", "Unconfined", ""},
      // The pod's field says it already.
      {"unconfined", "{type: Unconfined}", "", "unconfined", "", ""},
      {"unconfined", "{type: RuntimeDefault}", "", "unconfined", "Unconfined", ""},
  };
  for (const Case& c : cases) {
    const std::string yaml = PodYaml(c.annotation, c.pod_field, c.field);
    const core::Pod pod = Created(yaml);
    const auto& annotations = pod.metadata().annotations();
    const auto found = annotations.find(std::string(kPrefix) + "a");
    EXPECT_EQ(found == annotations.end() ? "" : found->second, c.annotation_after) << yaml;
    const auto& field = pod.spec().containers(0).security_context().app_armor_profile();
    EXPECT_EQ(field.type(), c.type_after) << yaml;
    EXPECT_EQ(field.localhost_profile(), c.profile_after) << yaml;
  }
}

TEST(AppArmorRules, ValidateAsUpstream) {
  const std::string at = "spec.containers[0].securityContext.appArmorProfile";
  const std::string key = "metadata.annotations[" + std::string(kPrefix) + "a]";
  const std::pair<std::string, Errors> cases[] = {
      {PodYaml("runtime/default", "", "{type: RuntimeDefault}"), {}},
      {PodYaml("", "{type: Localhost}", ""),
       {"spec.securityContext.appArmorProfile.localhostProfile: Required value: must be set when "
        "AppArmor type is Localhost"}},
      {PodYaml("", "", "{type: Localhost, localhostProfile: ' a'}"),
       {at + ".localhostProfile: Invalid value: \" a\": must not be padded with whitespace"}},
      {PodYaml("", "", "{type: Unconfined, localhostProfile: a}"),
       {at + ".localhostProfile: Invalid value: \"a\": can only be set when AppArmor type is "
             "Localhost"}},
      {PodYaml("", "", "{localhostProfile: a}"),
       {at + ".type: Required value: type is required when appArmorProfile is set"}},
      {PodYaml("", "", "{type: Mine}"),
       {at + ".type: Unsupported value: \"Mine\": supported values: \"Localhost\", "
             "\"RuntimeDefault\", \"Unconfined\""}},
      {PodYaml("mine", "", ""),
       {key + ": Invalid value: \"mine\": invalid AppArmor profile name: \"mine\""}},
      {"metadata: {annotations: {" + std::string(kPrefix) + "b: unconfined}}\n" +
           PodYaml("", "", ""),
       {"metadata.annotations[" + std::string(kPrefix) +
        "b]: Invalid value: \"b\": container not found"}},
      {PodYaml("unconfined", "", "{type: RuntimeDefault}"),
       {at + ".type: Forbidden: apparmor type in annotation and field must match"}},
      {PodYaml("localhost/a", "", "{type: Localhost, localhostProfile: b}"),
       {at + ".localhostProfile: Forbidden: apparmor profile in annotation and field must match"}},
  };
  for (const auto& [yaml, errors] : cases) EXPECT_EQ(Validate(PodsKind(), yaml), errors) << yaml;
}

TEST(AppArmorRules, APodKeepsItsAnnotations) {
  const std::string none = PodYaml("", "", ""), one = PodYaml("unconfined", "", "");
  const std::string key = "metadata.annotations[" + std::string(kPrefix) + "a]";
  EXPECT_EQ(ValidateUpdate(PodsKind(), one, one), Errors{});
  EXPECT_EQ(ValidateUpdate(PodsKind(), none, one),
            Errors{key + ": Forbidden: may not add AppArmor annotations"});
  EXPECT_EQ(ValidateUpdate(PodsKind(), one, none),
            Errors{key + ": Forbidden: may not remove or update AppArmor annotations"});
}

}  // namespace
}  // namespace skiff::cp
