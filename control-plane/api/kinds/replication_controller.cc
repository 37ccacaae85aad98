// ReplicationController: what ReplicaSets were before there were selectors by sets.
#include "control-plane/api/kinds/kinds.h"
#include "control-plane/api/kinds/workload_rules.h"
#include "proto/codec/selector.h"
#include "proto/k8s/core/v1/rest.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::ReplicationController;
using k8s::core::v1::ReplicationControllerList;

// The template's labels stand for a selector and for labels that are left out.
void SetReplicationControllerDefaults(ReplicationController& controller) {
  auto& spec = *controller.mutable_spec();
  if (!spec.has_replicas()) spec.set_replicas(1);
  if (!spec.has_template_()) return;
  const auto& labels = spec.template_().metadata().labels();
  if (!labels.empty()) {
    if (spec.selector().empty()) *spec.mutable_selector() = labels;
    if (controller.metadata().labels().empty()) {
      *controller.mutable_metadata()->mutable_labels() = labels;
    }
  }
  SetPodSpecDefaults(*spec.mutable_template_()->mutable_spec());
}

void ValidateReplicationController(const ReplicationController& controller, FieldErrors& errors) {
  FieldPath path("spec");
  const auto& spec = controller.spec();
  CheckNonNegative(spec.min_ready_seconds(), path.Child("minReadySeconds"), errors);
  if (spec.selector().empty()) errors.Required(path.Child("selector"));
  CheckNonNegative(spec.replicas(), path.Child("replicas"), errors);
  if (!spec.has_template_()) {
    errors.Required(path.Child("template"));
    return;
  }
  const auto& labels = spec.template_().metadata().labels();
  if (!codec::LabelSelector::FromSet(spec.selector()).Matches(labels)) {
    errors.Invalid(path.Child("template").Child("metadata").Child("labels"), ShownLabels(labels),
                   "`selector` does not match template `labels`");
  }
  ValidateLastingTemplate(spec.template_(), "ReplicationController", errors);
}

void ValidateReplicationControllerUpdate(const ReplicationController& controller,
                                         const ReplicationController&, FieldErrors& errors) {
  ValidateReplicationController(controller, errors);
}

std::vector<TableCell> ReplicationControllerRow(const ReplicationController& controller,
                                                WallTime now) {
  return ReplicaRow(controller, FormatLabels(controller.spec().selector()), now);
}

}  // namespace

KindInfo ReplicationControllerKind() {
  KindInfo kind = WorkloadKind<ReplicationController, ReplicationControllerList>(
      "", "ReplicationController", "replicationcontrollers", "replicationcontroller", "rc");
  // As it was when the kind was made: who says nothing keeps the pods.
  kind.default_propagation = "Orphan";
  kind.rules.set_defaults = On<ReplicationController>(&SetReplicationControllerDefaults);
  kind.rules.validate = On<ReplicationController>(&ValidateReplicationController);
  kind.rules.validate_update = On<ReplicationController>(&ValidateReplicationControllerUpdate);
  kind.rules.validate_status_update =
      On<ReplicationController>(&ValidateReplicaCounts<ReplicationController>);
  kind.rules.columns = ReplicaColumns();
  kind.rules.table_row = On<ReplicationController>(&ReplicationControllerRow);
  kind.rules.selectable_fields = On<ReplicationController>(&ReplicaFields<ReplicationController>);
  return kind;
}

}  // namespace skiff::cp
