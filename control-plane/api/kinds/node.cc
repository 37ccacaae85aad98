#include <set>

#include "control-plane/api/kinds/cells.h"
#include "control-plane/api/kinds/kinds.h"
#include "control-plane/api/kinds/label_rules.h"
#include "proto/codec/quantity.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/placement.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"
#include "proto/k8s/meta/v1/time.pb.h"
#include "proto/k8s/resource/quantity.pb.h"

namespace skiff::cp {
namespace {

namespace core = k8s::core::v1;

void SetDefaults(core::Node& node) {
  // What a node does not keep for itself is for pods.
  core::NodeStatus& status = *node.mutable_status();
  for (const auto& [name, amount] : status.capacity()) {
    if (!status.allocatable().contains(name)) (*status.mutable_allocatable())[name] = amount;
  }
}

void PrepareUpdate(core::Node& node, const core::Node& old) {
  *node.mutable_status() = old.status();
}

void PrepareStatusUpdate(core::Node& node, const core::Node& old) {
  *node.mutable_spec() = old.spec();
}

void ValidateTaints(const core::Node& node, FieldErrors& errors) {
  FieldPath path = FieldPath("spec").Child("taints");
  std::set<std::pair<std::string, std::string>> seen;
  for (int i = 0; i < node.spec().taints_size(); ++i) {
    const core::Taint& taint = node.spec().taints(i);
    FieldPath at = path.Index(static_cast<size_t>(i));
    CheckLabelKey(taint.key(), at.Child("key"), errors);
    for (const std::string& why : codec::CheckLabelValue(taint.value())) {
      errors.Invalid(at.Child("value"), taint.value(), why);
    }
    CheckTaintEffect(taint.effect(), /*allow_empty=*/false, at.Child("effect"), errors);
    if (!seen.emplace(taint.key(), taint.effect()).second) {
      errors.Duplicate(at, ShownValue::Raw("{\"key\":\"" + taint.key() + "\",\"effect\":\"" +
                                           taint.effect() + "\"}"));
    }
  }
}

void ValidateNodeAmounts(const google::protobuf::Map<std::string, k8s::resource::Quantity>& amounts,
                         const FieldPath& path, FieldErrors& errors) {
  for (const auto& [name, amount] : amounts) {
    if (codec::Quantity::From(amount).IsNegative()) {
      errors.Invalid(path.Key(name), amount.string(), "must be greater than or equal to 0");
    }
  }
}

void Validate(const core::Node& node, FieldErrors& errors) {
  ValidateTaints(node, errors);
  ValidateNodeAmounts(node.status().capacity(), FieldPath("status").Child("capacity"), errors);
  ValidateNodeAmounts(node.status().allocatable(), FieldPath("status").Child("allocatable"),
                      errors);
}

void ValidateUpdate(const core::Node& node, const core::Node& old, FieldErrors& errors) {
  Validate(node, errors);
  // May be assigned once: pods have addresses from them.
  if (old.spec().pod_cidrs_size() > 0) {
    // Another family may be added behind those it has.
    bool kept = node.spec().pod_cidrs_size() >= old.spec().pod_cidrs_size() &&
                std::equal(old.spec().pod_cidrs().begin(), old.spec().pod_cidrs().end(),
                           node.spec().pod_cidrs().begin());
    if (!kept) {
      errors.Forbidden(FieldPath("spec").Child("podCIDRs"),
                       "node updates may not change podCIDR except from \"\" to valid");
    }
  }
  if (!old.spec().provider_id().empty() && node.spec().provider_id() != old.spec().provider_id()) {
    errors.Forbidden(FieldPath("spec").Child("providerID"),
                     "node updates may not change providerID except from \"\" to valid");
  }
}

std::string StatusText(const core::Node& node) {
  std::string text = "Unknown";
  for (const auto& condition : node.status().conditions()) {
    if (condition.type() == "Ready") text = condition.status() == "True" ? "Ready" : "NotReady";
  }
  return node.spec().unschedulable() ? text + ",SchedulingDisabled" : text;
}

std::string RolesText(const core::Node& node) {
  constexpr std::string_view kPrefix = "node-role.kubernetes.io/";
  std::set<std::string> roles;
  for (const auto& [key, value] : node.metadata().labels()) {
    if (key.starts_with(kPrefix) && key.size() > kPrefix.size()) {
      roles.insert(key.substr(kPrefix.size()));
    }
    if (key == "kubernetes.io/role" && !value.empty()) roles.insert(value);
  }
  return OrNone(JoinText({roles.begin(), roles.end()}));
}

std::string AddressText(const core::Node& node, std::string_view type) {
  for (const auto& address : node.status().addresses()) {
    if (address.type() == type) return address.address();
  }
  return "<none>";
}

std::string OrUnknown(const std::string& text) { return text.empty() ? "<unknown>" : text; }

std::vector<TableCell> Row(const core::Node& node, WallTime now) {
  const core::NodeSystemInfo& info = node.status().node_info();
  return {node.metadata().name(),
          StatusText(node),
          RolesText(node),
          AgeCell(node.metadata(), now),
          info.kubelet_version(),
          AddressText(node, "InternalIP"),
          AddressText(node, "ExternalIP"),
          OrUnknown(info.os_image()),
          OrUnknown(info.kernel_version()),
          OrUnknown(info.container_runtime_version())};
}

std::map<std::string, std::string> SelectableFields(const core::Node& node) {
  return {{"spec.unschedulable", node.spec().unschedulable() ? "true" : "false"}};
}

}  // namespace

KindInfo NodeKind() {
  KindInfo kind;
  kind.version = "v1";
  kind.kind = "Node";
  kind.plural = "nodes";
  kind.singular = "node";
  kind.short_names = {"no"};
  kind.namespaced = false;
  kind.prototype = &core::Node::default_instance();
  kind.list_prototype = &core::NodeList::default_instance();
  kind.has_status = true;
  kind.rules.set_defaults = On<core::Node>(&SetDefaults);
  kind.rules.prepare_update = On<core::Node>(&PrepareUpdate);
  kind.rules.prepare_status_update = On<core::Node>(&PrepareStatusUpdate);
  kind.rules.validate = On<core::Node>(&Validate);
  kind.rules.validate_update = On<core::Node>(&ValidateUpdate);
  kind.rules.columns = {
      NameColumn(),
      Column("Status", "The status of the node"),
      Column("Roles", "The roles of the node"),
      AgeColumn(),
      Column("Version", "Kubelet Version reported by the node."),
      WideColumn("Internal-IP", "The node's address within the cluster"),
      WideColumn("External-IP", "The node's address from outside"),
      WideColumn("OS-Image", "OS Image reported by the node from /etc/os-release."),
      WideColumn("Kernel-Version", "Kernel Version reported by the node from 'uname -r'."),
      WideColumn("Container-Runtime", "ContainerRuntime Version reported by the node."),
  };
  kind.rules.table_row = On<core::Node>(&Row);
  kind.rules.selectable_fields = On<core::Node>(&SelectableFields);
  return kind;
}

}  // namespace skiff::cp
