#include "agent/spec/pod_config.h"

#include "agent/spec/resources.h"
#include "agent/spec/security.h"
#include "agent/spec/shape.h"
#include "proto/cri/runtime/v1/api.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::agent {
namespace {

namespace core = k8s::core::v1;
namespace cri = ::runtime::v1;

cri::Protocol ProtocolOf(const std::string& name) {
  if (name == "UDP") return cri::UDP;
  if (name == "SCTP") return cri::SCTP;
  return cri::TCP;
}

void FillPorts(const core::Pod& pod, cri::PodSandboxConfig* config) {
  auto add = [config](const core::Container& container) {
    for (const core::ContainerPort& port : container.ports()) {
      auto* mapping = config->add_port_mappings();
      mapping->set_protocol(ProtocolOf(port.protocol()));
      mapping->set_container_port(port.container_port());
      mapping->set_host_port(port.host_port());
      mapping->set_host_ip(port.host_ip());
    }
  };
  for (const core::Container& container : pod.spec().init_containers()) {
    if (IsSidecar(container)) add(container);
  }
  for (const core::Container& container : pod.spec().containers()) add(container);
}

template <class Map>
void FillPodLabels(const core::Pod& pod, Map* map) {
  (*map)[labels::kPodName] = pod.metadata().name();
  (*map)[labels::kPodNamespace] = pod.metadata().namespace_();
  (*map)[labels::kPodUid] = pod.metadata().uid();
}

// SIGTERM and SIGRTMIN+1 in CRI's spelling; unknown names are the runtime's default.
cri::Signal SignalOf(std::string name) {
  if (size_t plus = name.find('+'); plus != std::string::npos) name.replace(plus, 1, "PLUS");
  if (size_t minus = name.find('-'); minus != std::string::npos) name.replace(minus, 1, "MINUS");
  cri::Signal signal = cri::RUNTIME_DEFAULT;
  (void)cri::Signal_Parse(name, &signal);  // validation refused other names
  return signal;
}

void FillMount(const ResolvedMount& mount, cri::Mount* out) {
  out->set_host_path(mount.host_path);
  out->set_container_path(mount.container_path);
  out->set_readonly(mount.read_only);
  out->set_recursive_read_only(mount.recursive_read_only);
  if (mount.propagation == "HostToContainer") {
    out->set_propagation(cri::PROPAGATION_HOST_TO_CONTAINER);
  } else if (mount.propagation == "Bidirectional") {
    out->set_propagation(cri::PROPAGATION_BIDIRECTIONAL);
  }
}

void FillAnnotations(const core::Pod& pod, const core::Container& container, uint32_t attempt,
                     cri::ContainerConfig* config) {
  FillPodLabels(pod, config->mutable_labels());
  (*config->mutable_labels())[labels::kContainerName] = container.name();
  auto& annotations = *config->mutable_annotations();
  annotations[labels::kContainerHash] = SpecHash(container);
  annotations[labels::kRestartCount] = std::to_string(attempt);
  annotations[labels::kMessagePath] = container.termination_message_path();
  annotations[labels::kMessagePolicy] = container.termination_message_policy();
  annotations[labels::kGracePeriod] = std::to_string(GracePeriod(pod).count());
}

}  // namespace

std::string TerminationMessageFile(const std::string& pod_dir, const std::string& container,
                                   uint32_t attempt) {
  return pod_dir + "/containers/" + container + "/" + std::to_string(attempt);
}

std::string LogPath(const std::string& container, uint32_t attempt) {
  return container + "/" + std::to_string(attempt) + ".log";
}

Result<> FillSandboxConfig(const core::Pod& pod, uint32_t attempt, const NodeContext& node,
                           const DnsConfig& host_dns, cri::PodSandboxConfig* config) {
  const auto& metadata = pod.metadata();
  config->mutable_metadata()->set_name(metadata.name());
  config->mutable_metadata()->set_namespace_(metadata.namespace_());
  config->mutable_metadata()->set_uid(metadata.uid());
  config->mutable_metadata()->set_attempt(attempt);
  config->set_hostname(PodHostname(pod, node));
  config->set_log_directory(node.log_dir + "/" + LogDirectoryName(pod));
  DnsConfig dns = PodDns(pod, node, host_dns);
  auto* dns_config = config->mutable_dns_config();
  dns_config->mutable_servers()->Add(dns.servers.begin(), dns.servers.end());
  dns_config->mutable_searches()->Add(dns.searches.begin(), dns.searches.end());
  dns_config->mutable_options()->Add(dns.options.begin(), dns.options.end());
  if (!pod.spec().host_network()) FillPorts(pod, config);
  *config->mutable_labels() = metadata.labels();
  FillPodLabels(pod, config->mutable_labels());
  *config->mutable_annotations() = metadata.annotations();
  (*config->mutable_annotations())[labels::kGracePeriod] = std::to_string(GracePeriod(pod).count());
  auto* linux_config = config->mutable_linux();
  linux_config->set_cgroup_parent(PodCgroup(pod, node));
  FillPodResources(pod, WithOverhead::kNo, linux_config->mutable_resources());
  if (!pod.spec().overhead().empty()) FillOverhead(pod, linux_config->mutable_overhead());
  for (const core::Sysctl& sysctl : pod.spec().security_context().sysctls()) {
    (*linux_config->mutable_sysctls())[sysctl.name()] = sysctl.value();
  }
  return FillSandboxSecurity(pod, node, linux_config->mutable_security_context());
}

Result<> FillContainerConfig(const core::Pod& pod, const core::Container& container,
                             const ContainerInputs& inputs, const NodeContext& node,
                             cri::ContainerConfig* config) {
  config->mutable_metadata()->set_name(container.name());
  config->mutable_metadata()->set_attempt(inputs.attempt);
  config->mutable_image()->set_image(inputs.image->id);
  config->mutable_image()->set_user_specified_image(container.image());
  std::map<std::string, std::string> variables(inputs.env.begin(), inputs.env.end());
  for (const std::string& word : container.command()) {
    config->add_command(Expand(word, variables));
  }
  for (const std::string& word : container.args()) config->add_args(Expand(word, variables));
  config->set_working_dir(container.working_dir());
  for (const auto& [name, value] : inputs.env) {
    auto* variable = config->add_envs();
    variable->set_key(name);
    variable->set_value(value);
  }
  for (const ResolvedMount& mount : inputs.mounts) FillMount(mount, config->add_mounts());
  FillAnnotations(pod, container, inputs.attempt, config);
  config->set_log_path(LogPath(container.name(), inputs.attempt));
  config->set_stdin(container.stdin());
  config->set_stdin_once(container.stdin_once());
  config->set_tty(container.tty());
  if (container.lifecycle().has_stop_signal()) {
    config->set_stop_signal(SignalOf(container.lifecycle().stop_signal()));
  }
  FillContainerResources(pod, container, node, config->mutable_linux()->mutable_resources());
  return FillContainerSecurity(pod, container, *inputs.image, node,
                               config->mutable_linux()->mutable_security_context());
}

}  // namespace skiff::agent
