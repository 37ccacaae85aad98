// Version, status, configuration and statistics: the calls of RuntimeService that change no pod.
#include <nlohmann/json.hpp>

#include "cri/metrics.h"
#include "cri/render.h"
#include "cri/runtime_service.h"
#include "cri/translate.h"

namespace skiff::cri {
namespace {

void AddCondition(api::RuntimeStatus* status, const char* type, const std::string& trouble,
                  const char* reason) {
  api::RuntimeCondition* condition = status->add_conditions();
  condition->set_type(type);
  condition->set_status(trouble.empty());
  if (!trouble.empty()) {
    condition->set_reason(reason);
    condition->set_message(trouble);
  }
}

void AddHandler(api::StatusResponse* response, const std::string& name,
                const runtime::HandlerStatus& status) {
  api::RuntimeHandler* handler = response->add_runtime_handlers();
  handler->set_name(name);
  handler->mutable_features()->set_recursive_read_only_mounts(status.recursive_read_only_mounts);
  handler->mutable_features()->set_user_namespaces(status.user_namespaces);
}

bool Matches(const api::ContainerStatsFilter& filter, const Container& container) {
  return container.id.starts_with(filter.id()) &&
         container.sandbox_id.starts_with(filter.pod_sandbox_id()) &&
         HasLabels(container.fixed.labels(), filter.label_selector());
}

}  // namespace

Result<> RuntimeService::Version(const api::VersionRequest&, api::VersionResponse* response) {
  response->set_version("0.1.0");  // of the kubelet's runtime API, as upstream pins it
  response->set_runtime_name("skiff");
  response->set_runtime_version(deps_.version);
  response->set_runtime_api_version("v1");
  return {};
}

// Whether pods may have user namespaces here, with their images' layers id-mapped. Tried out where
// the image store keeps unfinished work, so that nothing stays of a try that is killed.
const Result<>& RuntimeService::UserNamespaces() {
  std::call_once(user_namespaces_probed_, [this] {
    user_namespaces_ = deps_.runtime->CheckUserNamespaces(deps_.images->root() + "/staging");
  });
  return user_namespaces_;
}

Result<> RuntimeService::Status(const api::StatusRequest& request, api::StatusResponse* response) {
  AddCondition(response->mutable_status(), "RuntimeReady", "", "");
  AddCondition(response->mutable_status(), "NetworkReady", deps_.network->Unready(),
               "NetworkPluginNotReady");
  const bool user_namespaces = UserNamespaces().ok();
  nlohmann::json versions = nlohmann::json::object();
  nlohmann::json features = nlohmann::json::object();
  for (runtime::HandlerStatus& handler : deps_.runtime->Handlers()) {
    if (handler.name.empty()) handler.user_namespaces = user_namespaces;
    AddHandler(response, handler.name, handler);
    if (handler.name.empty()) AddHandler(response, std::string(kBuiltinHandler), handler);
    if (!handler.version.empty()) versions[handler.name] = handler.version;
    if (!handler.features.empty()) features[handler.name] = handler.features;
  }
  response->mutable_features()->set_supplemental_groups_policy(true);
  response->mutable_features()->set_user_namespaces_host_network(user_namespaces);
  if (request.verbose()) {
    std::vector<std::string> degradations = deps_.runtime->Degradations();
    if (!user_namespaces) degradations.push_back(UserNamespaces().error().message());
    const nlohmann::json config{{"cgroupV2", deps_.runtime->cgroup_v2()},
                                {"imageRoot", deps_.images->root()},
                                {"ociRuntimes", versions},
                                {"ociRuntimeFeatures", features},
                                {"degradations", std::move(degradations)}};
    (*response->mutable_info())["config"] = config.dump();
  }
  return {};
}

Result<> RuntimeService::RuntimeConfig(const api::RuntimeConfigRequest&,
                                       api::RuntimeConfigResponse* response) {
  response->mutable_linux()->set_cgroup_driver(api::CGROUPFS);
  return {};
}

Result<> RuntimeService::UpdateRuntimeConfig(const api::UpdateRuntimeConfigRequest& request,
                                             api::UpdateRuntimeConfigResponse*) {
  // "10.244.1.0/24,fd00:10:244:1::/64", from a kubelet that was given its node's ranges.
  std::string_view rest = request.runtime_config().network_config().pod_cidr();
  std::vector<net::IpPrefix> ranges;
  while (!rest.empty()) {
    const size_t comma = std::min(rest.find(','), rest.size());
    ranges.push_back(TRY(net::IpPrefix::Parse(rest.substr(0, comma)).With("pod CIDR")));
    rest.remove_prefix(std::min(comma + 1, rest.size()));
  }
  if (ranges.empty()) return {};
  return deps_.network->SetPodCidrs(ranges, {});
}

Result<> RuntimeService::ContainerStats(const api::ContainerStatsRequest& request,
                                        api::ContainerStatsResponse* response) {
  const ContainerPtr container = TRY(table_.FindContainer(request.container_id()));
  *response->mutable_stats() = stats_.ReadContainer(*container);
  return {};
}

Result<> RuntimeService::ListContainerStats(const api::ListContainerStatsRequest& request,
                                            api::ListContainerStatsResponse* response) {
  for (const ContainerPtr& container : table_.Containers()) {
    if (!Matches(request.filter(), *container)) continue;
    *response->add_stats() = stats_.ReadContainer(*container);
  }
  return {};
}

Result<> RuntimeService::PodSandboxStats(const api::PodSandboxStatsRequest& request,
                                         api::PodSandboxStatsResponse* response) {
  const SandboxPtr sandbox = TRY(table_.FindSandbox(request.pod_sandbox_id()));
  *response->mutable_stats() = stats_.ReadSandbox(*sandbox, table_.ContainersOf(sandbox->id));
  return {};
}

Result<> RuntimeService::ListPodSandboxStats(const api::ListPodSandboxStatsRequest& request,
                                             api::ListPodSandboxStatsResponse* response) {
  for (const SandboxPtr& sandbox : table_.Sandboxes()) {
    if (!sandbox->id.starts_with(request.filter().id()) ||
        !HasLabels(sandbox->request.config().labels(), request.filter().label_selector())) {
      continue;
    }
    *response->add_stats() = stats_.ReadSandbox(*sandbox, table_.ContainersOf(sandbox->id));
  }
  return {};
}

Result<> RuntimeService::ListMetricDescriptors(const api::ListMetricDescriptorsRequest&,
                                               api::ListMetricDescriptorsResponse* response) {
  *response->mutable_descriptors() = MetricDescriptors();
  return {};
}

Result<> RuntimeService::ListPodSandboxMetrics(const api::ListPodSandboxMetricsRequest&,
                                               api::ListPodSandboxMetricsResponse* response) {
  for (const SandboxPtr& sandbox : table_.Sandboxes()) {
    *response->add_pod_metrics() = stats_.ReadMetrics(*sandbox, table_.ContainersOf(sandbox->id));
  }
  return {};
}

}  // namespace skiff::cri
