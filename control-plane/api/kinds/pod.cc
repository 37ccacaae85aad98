#include "control-plane/api/kinds/kinds.h"
#include "control-plane/api/kinds/pod_rules.h"
#include "control-plane/api/kinds/spec_generation.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"

namespace skiff::cp {
namespace {

namespace core = k8s::core::v1;

void PrepareCreate(core::Pod& pod) {
  pod.mutable_metadata()->set_generation(1);
  pod.clear_status();
  pod.mutable_status()->set_phase("Pending");
  pod.mutable_status()->set_qos_class(PodQosClass(pod.spec()));
  SyncAppArmor(pod);
}

void PrepareUpdate(core::Pod& pod, const core::Pod& old) {
  *pod.mutable_status() = old.status();
  RaiseGeneration(pod.spec(), old.spec(), old.metadata(), pod.mutable_metadata());
}

void PrepareStatusUpdate(core::Pod& pod, const core::Pod& old) {
  *pod.mutable_spec() = old.spec();
  // The class is decided once, from the spec.
  pod.mutable_status()->set_qos_class(old.status().qos_class());
}

std::map<std::string, std::string> SelectableFields(const core::Pod& pod) {
  const core::PodSpec& spec = pod.spec();
  const core::PodStatus& status = pod.status();
  std::string ip = status.pod_ips().empty() ? status.pod_ip() : status.pod_ips(0).ip();
  return {
      {"spec.nodeName", spec.node_name()},
      {"spec.restartPolicy", spec.restart_policy()},
      {"spec.schedulerName", spec.scheduler_name()},
      {"spec.serviceAccountName", spec.service_account_name()},
      {"spec.hostNetwork", spec.host_network() ? "true" : "false"},
      {"status.phase", status.phase()},
      {"status.podIP", ip},
      {"status.podIPs", ip},
      {"status.nominatedNodeName", status.nominated_node_name()},
  };
}

}  // namespace

KindInfo PodKind() {
  KindInfo kind;
  kind.version = "v1";
  kind.kind = "Pod";
  kind.plural = "pods";
  kind.singular = "pod";
  kind.short_names = {"po"};
  kind.categories = {"all"};
  kind.prototype = &core::Pod::default_instance();
  kind.list_prototype = &core::PodList::default_instance();
  kind.has_status = true;
  kind.graceful_deletion = true;
  kind.rules.set_defaults = On<core::Pod>(&SetPodDefaults);
  kind.rules.prepare_create = On<core::Pod>(&PrepareCreate);
  kind.rules.prepare_update = On<core::Pod>(&PrepareUpdate);
  kind.rules.prepare_status_update = On<core::Pod>(&PrepareStatusUpdate);
  kind.rules.validate = On<core::Pod>(&ValidatePod);
  kind.rules.validate_update = On<core::Pod>(&ValidatePodUpdate);
  kind.rules.columns = PodColumns();
  kind.rules.table_row = On<core::Pod>(&PodRow);
  kind.rules.selectable_fields = On<core::Pod>(&SelectableFields);
  return kind;
}

}  // namespace skiff::cp
