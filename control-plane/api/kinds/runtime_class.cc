// RuntimeClass: which of the node's runtime handlers runs a pod, and what that costs. The rules are
// upstream's (https://kubernetes.io/docs/concepts/containers/runtime-class/).
#include <set>
#include <tuple>

#include "control-plane/api/kinds/cells.h"
#include "control-plane/api/kinds/kinds.h"
#include "control-plane/api/kinds/label_rules.h"
#include "control-plane/api/kinds/pod_rules.h"
#include "proto/codec/json.h"
#include "proto/k8s/core/v1/container.pb.h"
#include "proto/k8s/core/v1/placement.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"
#include "proto/k8s/node/v1/node.pb.h"

namespace skiff::cp {
namespace {

using ::k8s::node::v1::RuntimeClass;
using ::k8s::node::v1::RuntimeClassList;

void ValidateScheduling(const k8s::node::v1::Scheduling& scheduling, const FieldPath& path,
                        FieldErrors& errors) {
  CheckLabels(scheduling.node_selector(), path.Child("nodeSelector"), errors);
  std::set<std::tuple<std::string, std::string, std::string, std::string>> seen;
  for (int i = 0; i < scheduling.tolerations_size(); ++i) {
    const k8s::core::v1::Toleration& toleration = scheduling.tolerations(i);
    FieldPath at = ElementAt(path, "tolerations", i);
    ValidateToleration(toleration, at, errors);
    if (!seen.emplace(toleration.key(), toleration.operator_(), toleration.value(),
                      toleration.effect())
             .second) {
      errors.Duplicate(at, ShownValue::Raw(codec::EncodeJson(toleration)));
    }
  }
}

void ValidateClass(const RuntimeClass& runtime_class, FieldErrors& errors) {
  AddInvalid(codec::CheckDns1123Label(runtime_class.handler()), FieldPath("handler"),
             runtime_class.handler(), errors);
  if (runtime_class.has_overhead()) {
    // Upstream takes the amounts for limits, and says so.
    k8s::core::v1::ResourceRequirements overhead;
    *overhead.mutable_limits() = runtime_class.overhead().pod_fixed();
    ValidateResources(overhead, FieldPath("overhead"), errors);
  }
  ValidateScheduling(runtime_class.scheduling(), FieldPath("scheduling"), errors);
}

// Pods run by the handler; which one it is may not change under them.
void ValidateClassUpdate(const RuntimeClass& runtime_class, const RuntimeClass& old,
                         FieldErrors& errors) {
  if (runtime_class.handler() != old.handler()) {
    errors.Invalid(FieldPath("handler"), runtime_class.handler(), "field is immutable");
  }
}

std::vector<TableCell> ClassRow(const RuntimeClass& runtime_class, WallTime now) {
  return {runtime_class.metadata().name(), runtime_class.handler(),
          AgeCell(runtime_class.metadata(), now)};
}

}  // namespace

KindInfo RuntimeClassKind() {
  KindInfo kind;
  kind.group = "node.k8s.io";
  kind.version = "v1";
  kind.kind = "RuntimeClass";
  kind.plural = "runtimeclasses";
  kind.singular = "runtimeclass";
  kind.namespaced = false;
  kind.prototype = &RuntimeClass::default_instance();
  kind.list_prototype = &RuntimeClassList::default_instance();
  kind.rules.validate = On<RuntimeClass>(&ValidateClass);
  kind.rules.validate_update = On<RuntimeClass>(&ValidateClassUpdate);
  kind.rules.columns = {
      NameColumn(),
      Column("Handler", "The runtime handler, of the node's configuration, that runs the pods"),
      AgeColumn(),
  };
  kind.rules.table_row = On<RuntimeClass>(&ClassRow);
  return kind;
}

}  // namespace skiff::cp
