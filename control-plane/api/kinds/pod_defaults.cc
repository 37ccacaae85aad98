// Defaults as upstream's pkg/apis/core/v1/defaults.go documents them for clients: what `kubectl get
// -o yaml` shows of a pod that said nothing.
#include <algorithm>

#include "control-plane/api/kinds/pod_rules.h"
#include "proto/codec/quantity.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/resource/quantity.pb.h"

namespace skiff::cp {
namespace {

namespace core = k8s::core::v1;

constexpr int32_t kFileMode = 0644;
constexpr int64_t kTokenSeconds = 3600;

// The policy that an image's tag suggests: what may change under its name is pulled every time.
std::string PullPolicyFor(const std::string& image) {
  if (image.find('@') != std::string::npos) return "IfNotPresent";
  // A colon before the last slash belongs to the registry's port.
  size_t slash = image.rfind('/');
  size_t colon = image.find(':', slash == std::string::npos ? 0 : slash);
  std::string tag = colon == std::string::npos ? "latest" : image.substr(colon + 1);
  return tag == "latest" ? "Always" : "IfNotPresent";
}

void SetHttpGetDefaults(core::HTTPGetAction& action) {
  if (action.path().empty()) action.set_path("/");
  if (action.scheme().empty()) action.set_scheme("HTTP");
}

void SetHandlerDefaults(core::LifecycleHandler& handler) {
  if (handler.has_http_get()) SetHttpGetDefaults(*handler.mutable_http_get());
}

void SetProbeDefaults(core::Probe& probe) {
  if (probe.timeout_seconds() == 0) probe.set_timeout_seconds(1);
  if (probe.period_seconds() == 0) probe.set_period_seconds(10);
  if (probe.success_threshold() == 0) probe.set_success_threshold(1);
  if (probe.failure_threshold() == 0) probe.set_failure_threshold(3);
  if (!probe.has_handler()) return;
  core::ProbeHandler& handler = *probe.mutable_handler();
  if (handler.has_http_get()) SetHttpGetDefaults(*handler.mutable_http_get());
  if (handler.has_grpc() && !handler.grpc().has_service()) {
    handler.mutable_grpc()->set_service("");
  }
}

// Container and EphemeralContainerCommon have the same fields.
template <class C>
void SetContainerDefaults(C& container) {
  if (container.image_pull_policy().empty()) {
    container.set_image_pull_policy(PullPolicyFor(container.image()));
  }
  if (container.termination_message_path().empty()) {
    container.set_termination_message_path("/dev/termination-log");
  }
  if (container.termination_message_policy().empty()) {
    container.set_termination_message_policy("File");
  }
  for (auto& port : *container.mutable_ports()) {
    if (port.protocol().empty()) port.set_protocol("TCP");
  }
  for (auto& env : *container.mutable_env()) {
    if (!env.has_value_from() || !env.value_from().has_field_ref()) continue;
    auto& ref = *env.mutable_value_from()->mutable_field_ref();
    if (ref.api_version().empty()) ref.set_api_version("v1");
  }
  if (container.has_liveness_probe()) SetProbeDefaults(*container.mutable_liveness_probe());
  if (container.has_readiness_probe()) SetProbeDefaults(*container.mutable_readiness_probe());
  if (container.has_startup_probe()) SetProbeDefaults(*container.mutable_startup_probe());
  if (container.has_lifecycle()) {
    auto& lifecycle = *container.mutable_lifecycle();
    if (lifecycle.has_post_start()) SetHandlerDefaults(*lifecycle.mutable_post_start());
    if (lifecycle.has_pre_stop()) SetHandlerDefaults(*lifecycle.mutable_pre_stop());
  }
}

template <class Source>
void SetModeDefault(Source& source) {
  if (!source.has_default_mode()) source.set_default_mode(kFileMode);
}

template <class Items>
void SetDownwardItemDefaults(Items& items) {
  for (auto& item : items) {
    if (item.has_field_ref() && item.field_ref().api_version().empty()) {
      item.mutable_field_ref()->set_api_version("v1");
    }
  }
}

void SetVolumeDefaults(core::Volume& volume) {
  core::VolumeSource& source = *volume.mutable_volume_source();
  if (source.ByteSizeLong() == 0) source.mutable_empty_dir();
  if (source.has_secret()) SetModeDefault(*source.mutable_secret());
  if (source.has_config_map()) SetModeDefault(*source.mutable_config_map());
  if (source.has_host_path() && !source.host_path().has_type()) {
    source.mutable_host_path()->set_type("");
  }
  if (source.has_downward_api()) {
    SetModeDefault(*source.mutable_downward_api());
    SetDownwardItemDefaults(*source.mutable_downward_api()->mutable_items());
  }
  if (source.has_projected()) {
    SetModeDefault(*source.mutable_projected());
    for (auto& projection : *source.mutable_projected()->mutable_sources()) {
      if (projection.has_service_account_token() &&
          !projection.service_account_token().has_expiration_seconds()) {
        projection.mutable_service_account_token()->set_expiration_seconds(kTokenSeconds);
      }
      if (projection.has_downward_api()) {
        SetDownwardItemDefaults(*projection.mutable_downward_api()->mutable_items());
      }
    }
  }
  if (source.has_ephemeral() && source.ephemeral().has_volume_claim_template()) {
    auto& claim = *source.mutable_ephemeral()->mutable_volume_claim_template()->mutable_spec();
    if (!claim.has_volume_mode()) claim.set_volume_mode("Filesystem");
  }
}

// A limit without a request asks for as much.
void SetRequestDefaults(core::Container& container) {
  if (!container.has_resources()) return;
  auto& resources = *container.mutable_resources();
  for (const auto& [name, limit] : resources.limits()) {
    if (!resources.requests().contains(name)) (*resources.mutable_requests())[name] = limit;
  }
}

void SetHostPortDefaults(core::Container& container) {
  for (auto& port : *container.mutable_ports()) {
    if (port.host_port() == 0) port.set_host_port(port.container_port());
  }
}

using Resources = google::protobuf::Map<std::string, k8s::resource::Quantity>;

// The amount of a compute resource that counts for the class; zero counts as none.
bool HasAmount(const Resources& amounts, const std::string& name, codec::Quantity* amount) {
  auto found = amounts.find(name);
  *amount = found == amounts.end() ? codec::Quantity() : codec::Quantity::From(found->second);
  return !amount->IsZero();
}

}  // namespace

void SetPodSpecDefaults(core::PodSpec& spec) {
  if (spec.dns_policy().empty()) spec.set_dns_policy("ClusterFirst");
  if (spec.restart_policy().empty()) spec.set_restart_policy("Always");
  if (!spec.has_security_context()) spec.mutable_security_context();
  if (!spec.has_termination_grace_period_seconds()) {
    spec.set_termination_grace_period_seconds(30);
  }
  if (spec.scheduler_name().empty()) spec.set_scheduler_name("default-scheduler");
  // The deprecated name of the same field goes both ways.
  if (spec.service_account_name().empty() && !spec.service_account().empty()) {
    spec.set_service_account_name(spec.service_account());
  }
  if (!spec.service_account_name().empty()) spec.set_service_account(spec.service_account_name());
  for (auto& volume : *spec.mutable_volumes()) SetVolumeDefaults(volume);
  for (auto& container : *spec.mutable_containers()) SetContainerDefaults(container);
  for (auto& container : *spec.mutable_init_containers()) SetContainerDefaults(container);
  for (auto& container : *spec.mutable_ephemeral_containers()) {
    SetContainerDefaults(*container.mutable_ephemeral_container_common());
  }
}

void SetPodDefaults(core::Pod& pod) {
  core::PodSpec& spec = *pod.mutable_spec();
  for (auto* containers : {spec.mutable_containers(), spec.mutable_init_containers()}) {
    for (auto& container : *containers) {
      SetRequestDefaults(container);
      if (spec.host_network()) SetHostPortDefaults(container);
    }
  }
  if (!spec.has_enable_service_links()) spec.set_enable_service_links(true);
  SetPodSpecDefaults(spec);
}

std::string PodQosClass(const core::PodSpec& spec) {
  bool any = false;
  bool guaranteed = true;
  for (const auto* containers : {&spec.containers(), &spec.init_containers()}) {
    for (const auto& container : *containers) {
      for (const char* name : {"cpu", "memory"}) {
        codec::Quantity request, limit;
        bool has_request = HasAmount(container.resources().requests(), name, &request);
        bool has_limit = HasAmount(container.resources().limits(), name, &limit);
        any = any || has_request || has_limit;
        guaranteed = guaranteed && has_limit && (!has_request || request == limit);
      }
    }
  }
  if (!any) return "BestEffort";
  return guaranteed ? "Guaranteed" : "Burstable";
}

}  // namespace skiff::cp
