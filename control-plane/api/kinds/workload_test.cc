// The hand-written rules of the kinds that keep pods running, case by case.
#include <gmock/gmock.h>

#include "control-plane/api/kinds/testing_kinds.h"
#include "proto/codec/meta.h"
#include "proto/k8s/apps/v1/apps.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/core/v1/rest.pb.h"

namespace skiff::cp {
namespace {

namespace core = k8s::core::v1;

const KindInfo& Deployments() { return Kind("apps", "deployments"); }

TEST(DeploymentTest, HasUpstreamsDefaults) {
  MessagePtr object = Read(Deployments(), "spec: {}");
  const auto& spec = static_cast<const k8s::apps::v1::Deployment&>(*object).spec();
  EXPECT_EQ(spec.replicas(), 1);
  EXPECT_EQ(spec.strategy().type(), "RollingUpdate");
  EXPECT_EQ(spec.strategy().rolling_update().max_surge().str_val(), "25%");
  EXPECT_EQ(spec.strategy().rolling_update().max_unavailable().str_val(), "25%");
  EXPECT_EQ(spec.revision_history_limit(), 10);
  EXPECT_EQ(spec.progress_deadline_seconds(), 600);
}

std::string DeploymentYaml(const std::string& spec) {
  return "spec: {" + spec +
         "template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: b}]}}}";
}

TEST(DeploymentTest, ValidatesAsUpstream) {
  const std::pair<const char*, Errors> cases[] = {
      {"selector: {matchLabels: {a: b}}, ", {}},
      {"", {"spec.selector: Required value"}},
      {"selector: {matchLabels: {a: c}}, ",
       {"spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match "
        "template "
        "`labels`"}},
      {"replicas: -1, selector: {matchLabels: {a: b}}, ",
       {"spec.replicas: Invalid value: -1: must be greater than or equal to 0"}},
      {"strategy: {type: Recreate, rollingUpdate: {maxSurge: 1}}, selector: {matchLabels: {a: "
       "b}}, ",
       {"spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is "
        "'Recreate'"}},
      {"strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 0}}, selector: {matchLabels: {a: "
       "b}}, ",
       {"spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0\": may not be 0 when "
        "`maxSurge` is 0"}},
      {"minReadySeconds: 600, selector: {matchLabels: {a: b}}, ",
       {"spec.progressDeadlineSeconds: Invalid value: 600: must be greater than "
        "minReadySeconds"}},
  };
  for (const auto& [spec, errors] : cases) {
    EXPECT_EQ(Validate(Deployments(), DeploymentYaml(spec)), errors) << spec;
  }
}

TEST(DeploymentTest, KeepsItsSelector) {
  Errors errors = ValidateUpdate(
      Deployments(), DeploymentYaml("selector: {matchLabels: {a: b}}, "),
      DeploymentYaml("selector: {matchExpressions: [{key: a, operator: Exists}]}, "));
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_EQ(errors[0],
            "spec.selector: Invalid value: {\"matchExpressions\":[{\"key\":\"a\",\"operator\":"
            "\"Exists\"}]}: field is immutable");
}

TEST(DeploymentTest, RaisesItsGenerationWithItsSpec) {
  MessagePtr old = Read(Deployments(), DeploymentYaml("selector: {matchLabels: {a: b}}, "));
  Deployments().rules.prepare_create(*old);
  EXPECT_EQ(codec::MetaOf(*old).generation(), 1);
  MessagePtr same(old->New());
  same->CopyFrom(*old);
  (*codec::MutableMetaOf(same.get())->mutable_labels())["x"] = "y";
  Deployments().rules.prepare_update(*same, *old);
  EXPECT_EQ(codec::MetaOf(*same).generation(), 1);
  MessagePtr scaled(old->New());
  scaled->CopyFrom(*old);
  static_cast<k8s::apps::v1::Deployment&>(*scaled).mutable_spec()->set_replicas(3);
  Deployments().rules.prepare_update(*scaled, *old);
  EXPECT_EQ(codec::MetaOf(*scaled).generation(), 2);
}

TEST(DeploymentTest, PrintsItsColumns) {
  EXPECT_EQ(Row(Deployments(),
                "metadata: {name: d, creationTimestamp: 2020-01-01T00:00:00Z}\n"
                "spec: {replicas: 3, selector: {matchLabels: {b: c, a: b}}, template: {spec: "
                "{containers: [{name: x, image: i}, {name: z, image: j}]}}}\n"
                "status: {readyReplicas: 1, updatedReplicas: 2, availableReplicas: 1}"),
            "d | 1/3 | 2 | 1 | 2m5s | x,z | i,j | a=b,b=c");
}

// ---- older versions ----

const KindInfo& Older(std::string_view group, std::string_view version, std::string_view plural) {
  static const auto& kinds = *new Kinds(BuiltinKinds());
  const KindInfo* kind = kinds.FindResource(group, version, plural);
  EXPECT_NE(kind, nullptr) << group << version;
  return *kind;
}

// What is stored of a manifest without a selector.
k8s::apps::v1::Deployment StoredFrom(const KindInfo& kind, const std::string& spec = "") {
  k8s::apps::v1::Deployment stored;
  kind.view->to_stored(*Read(kind, DeploymentYaml(spec)), stored);
  return stored;
}

TEST(OlderDeploymentTest, EachVersionHasItsDefaults) {
  auto stored = StoredFrom(Older("extensions", "v1beta1", "deployments"));
  EXPECT_EQ(stored.spec().selector().match_labels().at("a"), "b");
  EXPECT_EQ(stored.metadata().labels().at("a"), "b");
  EXPECT_EQ(stored.spec().strategy().rolling_update().max_surge().int_val(), 1);
  EXPECT_EQ(stored.spec().strategy().rolling_update().max_unavailable().int_val(), 1);
  EXPECT_EQ(stored.spec().progress_deadline_seconds(), 2147483647);
  EXPECT_EQ(stored.spec().revision_history_limit(), 2147483647);
  stored = StoredFrom(Older("apps", "v1beta1", "deployments"));
  EXPECT_EQ(stored.spec().selector().match_labels().at("a"), "b");
  EXPECT_EQ(stored.spec().revision_history_limit(), 2);
  EXPECT_FALSE(stored.spec().has_progress_deadline_seconds());
  stored = StoredFrom(Older("apps", "v1beta2", "deployments"));
  EXPECT_FALSE(stored.spec().has_selector());
  stored =
      StoredFrom(Older("extensions", "v1beta1", "deployments"),
                 "selector: {matchLabels: {a: b}}, rollbackTo: {revision: 3}, strategy: {type: "
                 "Recreate}, ");
  EXPECT_FALSE(stored.spec().strategy().has_rolling_update());
  EXPECT_EQ(stored.GetReflection()->GetUnknownFields(stored).field_count(), 0);
}

TEST(OlderDeploymentTest, IsShownAsItsVersion) {
  const KindInfo& kind = Older("extensions", "v1beta1", "deployments");
  MessagePtr stored = Read(Deployments(),
                           "metadata: {name: d}\nspec: {replicas: 3, selector: {matchLabels: {a: "
                           "b}}}\nstatus: {readyReplicas: 1, terminatingReplicas: 2}");
  MessagePtr shown(kind.prototype->New());
  kind.view->from_stored(*stored, *shown);
  EXPECT_THAT(codec::EncodeJson(*shown),
              testing::StartsWith(R"({"kind":"Deployment","apiVersion":"extensions/v1beta1")"));
  EXPECT_EQ(codec::MetaOf(*shown).name(), "d");
  const KindInfo& sets = Older("apps", "v1beta2", "replicasets");
  EXPECT_EQ(sets.rules.selectable_fields(*Read(sets, "status: {replicas: 2}")),
            (std::map<std::string, std::string>{{"status.replicas", "2"}}));
}

const KindInfo& ReplicationControllers() { return Kind("", "replicationcontrollers"); }

TEST(ReplicationControllerTest, TakesTheTemplatesLabels) {
  MessagePtr object =
      Read(ReplicationControllers(), "spec: {template: {metadata: {labels: {a: b}}}}");
  const auto& controller = static_cast<const core::ReplicationController&>(*object);
  EXPECT_EQ(controller.spec().replicas(), 1);
  EXPECT_EQ(controller.spec().selector().at("a"), "b");
  EXPECT_EQ(controller.metadata().labels().at("a"), "b");
  EXPECT_EQ(controller.spec().template_().spec().restart_policy(), "Always");
}

TEST(ReplicationControllerTest, ValidatesAsUpstream) {
  const char pods[] =
      "template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: b}]}}}";
  const std::pair<std::string, Errors> cases[] = {
      {std::string("spec: {") + pods, {}},
      {"spec: {selector: {a: b}}", {"spec.template: Required value"}},
      {"spec: {template: {spec: {containers: [{name: a, image: b}]}}}",
       {"spec.selector: Required value"}},
      {std::string("spec: {selector: {a: c}, ") + pods,
       {"spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match "
        "template `labels`"}},
      {std::string("spec: {replicas: -1, minReadySeconds: -1, ") + pods,
       {"spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0",
        "spec.replicas: Invalid value: -1: must be greater than or equal to 0"}},
      {"spec: {template: {metadata: {labels: {a: b}}, spec: {activeDeadlineSeconds: 1, "
       "restartPolicy: Never, containers: [{name: a, image: b}]}}}",
       {"spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: "
        "\"Always\"",
        "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in "
        "ReplicationController is not Supported"}},
  };
  for (const auto& [yaml, errors] : cases) {
    EXPECT_EQ(Validate(ReplicationControllers(), yaml), errors) << yaml;
  }
}

TEST(ReplicationControllerTest, PrintsItsColumns) {
  EXPECT_EQ(Row(ReplicationControllers(),
                "metadata: {name: r, creationTimestamp: 2020-01-01T00:00:00Z}\n"
                "spec: {replicas: 3, selector: {b: c, a: b}, template: {metadata: {labels: {a: b, "
                "b: c}}, spec: {containers: [{name: x, image: i}, {name: z, image: j}]}}}\n"
                "status: {replicas: 2, readyReplicas: 1}"),
            "r | 3 | 2 | 1 | 2m5s | x,z | i,j | a=b,b=c");
}

}  // namespace
}  // namespace skiff::cp
