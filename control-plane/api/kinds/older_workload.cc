// Deployments and ReplicaSets as manifests of 2016 to 2019 have them: extensions/v1beta1,
// apps/v1beta1 and apps/v1beta2. They are views of apps/v1, which they have the same field numbers
// as; each version's own defaults are filled in on the way there.
#include <google/protobuf/message.h>

#include <limits>

#include "control-plane/api/kinds/kinds.h"
#include "proto/codec/int_or_string.h"
#include "proto/k8s/apps/v1/apps.pb.h"
#include "proto/k8s/apps/v1beta1/apps.pb.h"
#include "proto/k8s/apps/v1beta2/apps.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/extensions/v1beta1/extensions.pb.h"
#include "proto/k8s/intstr/int_or_string.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"

namespace skiff::cp {
namespace {

namespace apps = k8s::apps::v1;

// Of a version that has no deadlines and keeps every revision.
constexpr int32_t kNoLimit = std::numeric_limits<int32_t>::max();

// Fields that the other version does not have (rollbackTo, terminatingReplicas) are left out.
void Translate(const Message& from, Message& to) {
  CHECK(to.ParsePartialFromString(from.SerializePartialAsString()));
  to.DiscardUnknownFields();
}

// An absent selector is the template's labels, and so are absent labels of the object.
template <class Object>
void TakeTemplateLabels(Object& object) {
  const auto& labels = object.spec().template_().metadata().labels();
  if (labels.empty()) return;
  auto* selector = object.mutable_spec()->mutable_selector();
  if (selector->match_labels().empty() && selector->match_expressions().empty()) {
    *selector->mutable_match_labels() = labels;
  }
  if (object.metadata().labels().empty()) *object.mutable_metadata()->mutable_labels() = labels;
}

void FillExtensionsDeployment(apps::Deployment& deployment) {
  TakeTemplateLabels(deployment);
  auto& spec = *deployment.mutable_spec();
  auto& strategy = *spec.mutable_strategy();
  if (strategy.type().empty()) strategy.set_type("RollingUpdate");
  if (strategy.type() == "RollingUpdate") {
    auto& rolling = *strategy.mutable_rolling_update();
    if (!rolling.has_max_unavailable()) codec::SetInt(rolling.mutable_max_unavailable(), 1);
    if (!rolling.has_max_surge()) codec::SetInt(rolling.mutable_max_surge(), 1);
  }
  if (!spec.has_progress_deadline_seconds()) spec.set_progress_deadline_seconds(kNoLimit);
  if (!spec.has_revision_history_limit()) spec.set_revision_history_limit(kNoLimit);
}

void FillBeta1Deployment(apps::Deployment& deployment) {
  TakeTemplateLabels(deployment);
  auto& spec = *deployment.mutable_spec();
  if (!spec.has_revision_history_limit()) spec.set_revision_history_limit(2);
}

// fill: the version's own defaults, before those of apps/v1.
template <class Stored, class Shown, class List>
KindInfo OlderKind(KindInfo kind, std::string_view group, std::string_view version,
                   void (*fill)(Stored&)) {
  auto view = std::make_shared<KindView>();
  view->group = kind.group;
  view->plural = kind.plural;
  view->from_stored = &Translate;
  view->to_stored = [fill](const Message& shown, Message& stored) {
    Translate(shown, stored);
    if (fill != nullptr) fill(static_cast<Stored&>(stored));
  };
  kind.view = std::move(view);
  kind.group = group;
  kind.version = version;
  kind.prototype = &Shown::default_instance();
  kind.list_prototype = &List::default_instance();
  // Short words mean the kind of today.
  kind.short_names.clear();
  kind.categories.clear();
  // The rules are those of what is stored.
  KindRules rules;
  rules.columns = kind.rules.columns;
  rules.table_row = [row = kind.rules.table_row](const Message& shown, WallTime now) {
    Stored stored;
    Translate(shown, stored);
    return row(stored, now);
  };
  if (kind.rules.selectable_fields) {
    rules.selectable_fields = [fields = kind.rules.selectable_fields](const Message& shown) {
      Stored stored;
      Translate(shown, stored);
      return fields(stored);
    };
  }
  kind.rules = std::move(rules);
  return kind;
}

}  // namespace

KindInfo AppsBeta2DeploymentKind() {
  namespace beta = k8s::apps::v1beta2;
  return OlderKind<apps::Deployment, beta::Deployment, beta::DeploymentList>(
      DeploymentKind(), "apps", "v1beta2", nullptr);
}

KindInfo AppsBeta2ReplicaSetKind() {
  namespace beta = k8s::apps::v1beta2;
  return OlderKind<apps::ReplicaSet, beta::ReplicaSet, beta::ReplicaSetList>(
      ReplicaSetKind(), "apps", "v1beta2", nullptr);
}

KindInfo AppsBeta1DeploymentKind() {
  namespace beta = k8s::apps::v1beta1;
  return OlderKind<apps::Deployment, beta::Deployment, beta::DeploymentList>(
      DeploymentKind(), "apps", "v1beta1", &FillBeta1Deployment);
}

KindInfo ExtensionsDeploymentKind() {
  namespace extensions = k8s::extensions::v1beta1;
  return OlderKind<apps::Deployment, extensions::Deployment, extensions::DeploymentList>(
      DeploymentKind(), "extensions", "v1beta1", &FillExtensionsDeployment);
}

KindInfo ExtensionsReplicaSetKind() {
  namespace extensions = k8s::extensions::v1beta1;
  return OlderKind<apps::ReplicaSet, extensions::ReplicaSet, extensions::ReplicaSetList>(
      ReplicaSetKind(), "extensions", "v1beta1", &TakeTemplateLabels<apps::ReplicaSet>);
}

}  // namespace skiff::cp
