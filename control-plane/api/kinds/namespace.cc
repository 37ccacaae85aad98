#include "control-plane/api/kinds/cells.h"
#include "control-plane/api/kinds/kinds.h"
#include "proto/codec/names.h"
#include "proto/k8s/core/v1/namespace.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"

namespace skiff::cp {
namespace {

namespace core = k8s::core::v1;

constexpr char kNameLabel[] = "kubernetes.io/metadata.name";

void SetDefaults(core::Namespace& ns) {
  if (!ns.metadata().name().empty()) {
    (*ns.mutable_metadata()->mutable_labels())[kNameLabel] = ns.metadata().name();
  }
  if (ns.status().phase().empty()) ns.mutable_status()->set_phase("Active");
}

// The finalizer is taken away by the namespace controller once the namespace is empty.
void PrepareCreate(core::Namespace& ns) {
  ns.clear_status();
  ns.mutable_status()->set_phase("Active");
  ns.clear_spec();
  ns.mutable_spec()->add_finalizers("kubernetes");
}

void PrepareUpdate(core::Namespace& ns, const core::Namespace& old) {
  *ns.mutable_spec() = old.spec();
  *ns.mutable_status() = old.status();
}

void PrepareStatusUpdate(core::Namespace& ns, const core::Namespace& old) {
  *ns.mutable_spec() = old.spec();
}

void ValidateStatusUpdate(const core::Namespace& ns, const core::Namespace&, FieldErrors& errors) {
  bool deleting = ns.metadata().has_deletion_timestamp();
  const std::string& phase = ns.status().phase();
  if (!deleting && phase != "Active") {
    errors.Invalid(FieldPath("status").Child("phase"), phase,
                   "may only be 'Active' if `deletionTimestamp` is empty");
  }
  if (deleting && phase != "Terminating") {
    errors.Invalid(FieldPath("status").Child("phase"), phase,
                   "may only be 'Terminating' if `deletionTimestamp` is not empty");
  }
}

std::vector<TableCell> Row(const core::Namespace& ns, WallTime now) {
  return {ns.metadata().name(), ns.status().phase(), AgeCell(ns.metadata(), now)};
}

std::map<std::string, std::string> SelectableFields(const core::Namespace& ns) {
  return {{"status.phase", ns.status().phase()}, {"name", ns.metadata().name()}};
}

}  // namespace

KindInfo NamespaceKind() {
  KindInfo kind;
  kind.version = "v1";
  kind.kind = "Namespace";
  kind.plural = "namespaces";
  kind.singular = "namespace";
  kind.short_names = {"ns"};
  kind.namespaced = false;
  kind.prototype = &core::Namespace::default_instance();
  kind.list_prototype = &core::NamespaceList::default_instance();
  kind.has_status = true;
  kind.rules.set_defaults = On<core::Namespace>(&SetDefaults);
  kind.rules.prepare_create = On<core::Namespace>(&PrepareCreate);
  kind.rules.prepare_update = On<core::Namespace>(&PrepareUpdate);
  kind.rules.prepare_status_update = On<core::Namespace>(&PrepareStatusUpdate);
  kind.rules.validate_status_update = On<core::Namespace>(&ValidateStatusUpdate);
  kind.rules.validate_name = &codec::CheckDns1123Label;
  kind.rules.columns = {NameColumn(), Column("Status", "The status of the namespace"), AgeColumn()};
  kind.rules.table_row = On<core::Namespace>(&Row);
  kind.rules.selectable_fields = On<core::Namespace>(&SelectableFields);
  return kind;
}

}  // namespace skiff::cp
