#include "control-plane/api/registry/admission.h"

#include <algorithm>

#include "proto/codec/meta.h"
#include "proto/k8s/core/v1/namespace.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::Namespace;
using k8s::core::v1::Pod;

constexpr int64_t kLostNodeSeconds = 300;

// DefaultTolerationSeconds: a pod leaves a lost node after five minutes unless it says otherwise.
void TolerateFor(Pod& pod, const char* taint) {
  for (const auto& toleration : pod.spec().tolerations()) {
    bool same_key = toleration.key() == taint || toleration.key().empty();
    if (same_key && (toleration.effect() == "NoExecute" || toleration.effect().empty())) return;
  }
  auto* added = pod.mutable_spec()->add_tolerations();
  added->set_key(taint);
  added->set_operator_("Exists");
  added->set_effect("NoExecute");
  added->set_toleration_seconds(kLostNodeSeconds);
}

void AdmitPod(Pod& pod) {
  auto* spec = pod.mutable_spec();
  if (spec->service_account_name().empty()) {
    spec->set_service_account_name(spec->service_account().empty() ? "default"
                                                                   : spec->service_account());
  }
  spec->set_service_account(spec->service_account_name());
  TolerateFor(pod, "node.kubernetes.io/not-ready");
  TolerateFor(pod, "node.kubernetes.io/unreachable");
  if (!spec->has_priority()) spec->set_priority(0);
  if (!spec->has_preemption_policy()) spec->set_preemption_policy("PreemptLowerPriority");
}

void AdmitNamespace(Namespace& ns) {
  auto& finalizers = *ns.mutable_spec()->mutable_finalizers();
  if (std::find(finalizers.begin(), finalizers.end(), "kubernetes") == finalizers.end()) {
    *finalizers.Add() = "kubernetes";
  }
  ns.mutable_status()->set_phase("Active");
  (*ns.mutable_metadata()->mutable_labels())["kubernetes.io/metadata.name"] = ns.metadata().name();
}

}  // namespace

void Admit(Message& object) {
  if (auto* pod = dynamic_cast<Pod*>(&object)) return AdmitPod(*pod);
  if (auto* ns = dynamic_cast<Namespace*>(&object)) return AdmitNamespace(*ns);
}

bool HasFinalizers(const Message& object) {
  if (codec::MetaOf(object).finalizers_size() != 0) return true;
  auto* ns = dynamic_cast<const Namespace*>(&object);
  return ns != nullptr && ns->spec().finalizers_size() != 0;
}

}  // namespace skiff::cp
