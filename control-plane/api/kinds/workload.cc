// Deployment and ReplicaSet.
#include "control-plane/api/kinds/kinds.h"
#include "control-plane/api/kinds/label_rules.h"
#include "control-plane/api/kinds/workload_rules.h"
#include "proto/codec/int_or_string.h"
#include "proto/codec/json.h"
#include "proto/codec/selector.h"
#include "proto/k8s/apps/v1/apps.pb.h"
#include "proto/k8s/intstr/int_or_string.pb.h"

namespace skiff::cp {
namespace {

namespace apps = k8s::apps::v1;

bool IsEmpty(const k8s::meta::v1::LabelSelector& selector) {
  return selector.match_labels().empty() && selector.match_expressions().empty();
}

ShownValue Shown(const Message& message) { return ShownValue::Raw(codec::EncodeJson(message)); }

// The selector and the template it must select.
template <class Spec>
void ValidateSelector(const Spec& spec, std::string_view kind, FieldErrors& errors) {
  FieldPath path("spec");
  if (!spec.has_selector()) {
    errors.Required(path.Child("selector"));
  } else {
    CheckLabelSelector(spec.selector(), path.Child("selector"), errors);
    if (IsEmpty(spec.selector())) {
      errors.Invalid(path.Child("selector"), Shown(spec.selector()),
                     "empty selector is invalid for " + std::string(kind));
    }
  }
  auto selector = codec::LabelSelector::From(spec.selector());
  if (!selector) {
    errors.Invalid(path.Child("selector"), Shown(spec.selector()), "invalid label selector");
    return;
  }
  const auto& labels = spec.template_().metadata().labels();
  if (!IsEmpty(spec.selector()) && !selector->Matches(labels)) {
    errors.Invalid(path.Child("template").Child("metadata").Child("labels"), ShownLabels(labels),
                   "`selector` does not match template `labels`");
  }
}

template <class Spec>
void ValidateSelectorUpdate(const Spec& spec, const Spec& old, FieldErrors& errors) {
  if (!SameMessage(spec.selector(), old.selector())) {
    errors.Invalid(FieldPath("spec").Child("selector"), Shown(spec.selector()),
                   "field is immutable");
  }
}

// ---- Deployment ----

void SetDeploymentDefaults(apps::Deployment& deployment) {
  apps::DeploymentSpec& spec = *deployment.mutable_spec();
  if (!spec.has_replicas()) spec.set_replicas(1);
  apps::DeploymentStrategy& strategy = *spec.mutable_strategy();
  if (strategy.type().empty()) strategy.set_type("RollingUpdate");
  if (strategy.type() == "RollingUpdate") {
    auto& rolling = *strategy.mutable_rolling_update();
    if (!rolling.has_max_unavailable()) codec::SetText(rolling.mutable_max_unavailable(), "25%");
    if (!rolling.has_max_surge()) codec::SetText(rolling.mutable_max_surge(), "25%");
  }
  if (!spec.has_revision_history_limit()) spec.set_revision_history_limit(10);
  if (!spec.has_progress_deadline_seconds()) spec.set_progress_deadline_seconds(600);
  SetPodSpecDefaults(*spec.mutable_template_()->mutable_spec());
}

// The percentage, or -1 for anything else.
int64_t Percent(const k8s::intstr::IntOrString& value) {
  if (codec::IsInt(value)) return -1;
  auto scaled = codec::ScaledValue(value, 100, /*round_up=*/false);
  return scaled ? *scaled : -1;
}

bool IsNothing(const k8s::intstr::IntOrString& value) {
  return codec::IsInt(value) ? value.int_val() == 0 : Percent(value) == 0;
}

void ValidateStrategy(const apps::DeploymentStrategy& strategy, FieldErrors& errors) {
  FieldPath path = FieldPath("spec").Child("strategy");
  if (strategy.type() == "Recreate") {
    if (strategy.has_rolling_update()) {
      errors.Forbidden(path.Child("rollingUpdate"),
                       "may not be specified when strategy `type` is 'Recreate'");
    }
    return;
  }
  if (strategy.type() != "RollingUpdate") {
    errors.NotSupported(path.Child("type"), strategy.type(), {"Recreate", "RollingUpdate"});
    return;
  }
  const auto& rolling = strategy.rolling_update();
  FieldPath at = path.Child("rollingUpdate");
  CheckNonNegativeOrPercent(rolling.max_unavailable(), at.Child("maxUnavailable"), errors);
  CheckNonNegativeOrPercent(rolling.max_surge(), at.Child("maxSurge"), errors);
  if (IsNothing(rolling.max_unavailable()) && IsNothing(rolling.max_surge())) {
    errors.Invalid(at.Child("maxUnavailable"), codec::ToText(rolling.max_unavailable()),
                   "may not be 0 when `maxSurge` is 0");
  }
  if (Percent(rolling.max_unavailable()) > 100) {
    errors.Invalid(at.Child("maxUnavailable"), codec::ToText(rolling.max_unavailable()),
                   "must not be greater than 100%");
  }
}

void ValidateDeployment(const apps::Deployment& deployment, FieldErrors& errors) {
  const apps::DeploymentSpec& spec = deployment.spec();
  FieldPath path("spec");
  CheckNonNegative(spec.replicas(), path.Child("replicas"), errors);
  ValidateSelector(spec, "deployment", errors);
  ValidateLastingTemplate(spec.template_(), "ReplicaSet", errors);
  ValidateStrategy(spec.strategy(), errors);
  CheckNonNegative(spec.min_ready_seconds(), path.Child("minReadySeconds"), errors);
  CheckNonNegative(spec.revision_history_limit(), path.Child("revisionHistoryLimit"), errors);
  FieldPath deadline = path.Child("progressDeadlineSeconds");
  CheckNonNegative(spec.progress_deadline_seconds(), deadline, errors);
  if (spec.progress_deadline_seconds() <= spec.min_ready_seconds()) {
    errors.Invalid(deadline, spec.progress_deadline_seconds(),
                   "must be greater than minReadySeconds");
  }
}

void ValidateDeploymentUpdate(const apps::Deployment& deployment, const apps::Deployment& old,
                              FieldErrors& errors) {
  ValidateDeployment(deployment, errors);
  ValidateSelectorUpdate(deployment.spec(), old.spec(), errors);
}

std::vector<TableCell> DeploymentRow(const apps::Deployment& deployment, WallTime now) {
  const apps::DeploymentStatus& status = deployment.status();
  const auto& pod = deployment.spec().template_().spec();
  return {
      deployment.metadata().name(),
      std::to_string(status.ready_replicas()) + "/" + std::to_string(deployment.spec().replicas()),
      int64_t{status.updated_replicas()},
      int64_t{status.available_replicas()},
      AgeCell(deployment.metadata(), now),
      ContainerNamesCell(pod),
      ContainerImagesCell(pod),
      FormatLabelSelector(deployment.spec().selector())};
}

// ---- ReplicaSet ----

void SetReplicaSetDefaults(apps::ReplicaSet& set) {
  if (!set.spec().has_replicas()) set.mutable_spec()->set_replicas(1);
  SetPodSpecDefaults(*set.mutable_spec()->mutable_template_()->mutable_spec());
}

void ValidateReplicaSet(const apps::ReplicaSet& set, FieldErrors& errors) {
  FieldPath path("spec");
  CheckNonNegative(set.spec().replicas(), path.Child("replicas"), errors);
  CheckNonNegative(set.spec().min_ready_seconds(), path.Child("minReadySeconds"), errors);
  ValidateSelector(set.spec(), "deployment", errors);
  ValidateLastingTemplate(set.spec().template_(), "ReplicaSet", errors);
}

void ValidateReplicaSetUpdate(const apps::ReplicaSet& set, const apps::ReplicaSet& old,
                              FieldErrors& errors) {
  ValidateReplicaSet(set, errors);
  ValidateSelectorUpdate(set.spec(), old.spec(), errors);
}

std::vector<TableCell> ReplicaSetRow(const apps::ReplicaSet& set, WallTime now) {
  return ReplicaRow(set, FormatLabelSelector(set.spec().selector()), now);
}

}  // namespace

KindInfo DeploymentKind() {
  KindInfo kind = WorkloadKind<apps::Deployment, apps::DeploymentList>(
      "apps", "Deployment", "deployments", "deployment", "deploy");
  kind.rules.set_defaults = On<apps::Deployment>(&SetDeploymentDefaults);
  kind.rules.validate = On<apps::Deployment>(&ValidateDeployment);
  kind.rules.validate_update = On<apps::Deployment>(&ValidateDeploymentUpdate);
  kind.rules.columns = {
      NameColumn(),
      Column("Ready", "Number of the pod with ready state"),
      Column("Up-to-date", "Pods made from the present template"),
      Column("Available", "Pods ready for at least minReadySeconds"),
      AgeColumn(),
      WideColumn("Containers", "Names of each container in the template."),
      WideColumn("Images", "Images referenced by each container in the template."),
      WideColumn("Selector", "Label selector for pods."),
  };
  kind.rules.table_row = On<apps::Deployment>(&DeploymentRow);
  return kind;
}

KindInfo ReplicaSetKind() {
  KindInfo kind = WorkloadKind<apps::ReplicaSet, apps::ReplicaSetList>(
      "apps", "ReplicaSet", "replicasets", "replicaset", "rs");
  kind.rules.set_defaults = On<apps::ReplicaSet>(&SetReplicaSetDefaults);
  kind.rules.validate = On<apps::ReplicaSet>(&ValidateReplicaSet);
  kind.rules.validate_update = On<apps::ReplicaSet>(&ValidateReplicaSetUpdate);
  kind.rules.validate_status_update =
      On<apps::ReplicaSet>(&ValidateReplicaCounts<apps::ReplicaSet>);
  kind.rules.columns = ReplicaColumns();
  kind.rules.table_row = On<apps::ReplicaSet>(&ReplicaSetRow);
  kind.rules.selectable_fields = On<apps::ReplicaSet>(&ReplicaFields<apps::ReplicaSet>);
  return kind;
}

}  // namespace skiff::cp
