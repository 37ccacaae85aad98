#include "agent/daemon/builtin_runtime.h"

#include "agent/cri_client/stubs.h"
#include "base/log.h"
#include "base/net/conntrack.h"
#include "base/net/ip.h"
#include "base/net/iptables.h"
#include "base/os/files.h"
#include "cni/overlay.h"
#include "cni/runner/node_pod_network.h"
#include "cri/in_process.h"
#include "cri/server.h"

namespace skiff::agent {
namespace {

Result<std::vector<net::IpPrefix>> ParsePrefixes(const std::vector<std::string>& texts) {
  std::vector<net::IpPrefix> prefixes;
  for (const std::string& text : texts) prefixes.push_back(TRY(net::IpPrefix::Parse(text)));
  return prefixes;
}

runtime::RegistrySettings Registries(const AgentConfig& config) {
  runtime::RegistrySettings settings;
  for (const RegistryConfig& registry : config.registries) {
    runtime::RegistryHost host;
    host.mirrors = registry.mirrors;
    host.plain_http = registry.plain_http;
    host.credentials.username = registry.username;
    host.credentials.password = registry.password;
    host.tls.ca_file = registry.ca_file;
    host.tls.insecure_skip_verify = registry.insecure_skip_verify;
    settings.hosts[registry.host] = std::move(host);
  }
  return settings;
}

// What pods' packets must leave room for.
uint32_t OverlayBytes(const AgentConfig& config, net::IpFamily underlay) {
  if (config.overlay_mode == "none" || config.server.empty()) return 0;
  auto mode = cni::ParseOverlayMode(config.overlay_mode);
  return mode.ok() ? cni::EncapsulationBytes(*mode, underlay) : 0;
}

std::optional<cni::PluginNetworkConfig> PluginSettings(const AgentConfig& config) {
  if (config.cni.conf_dir.empty()) return std::nullopt;
  cni::PluginNetworkConfig plugins;
  plugins.config_directory = config.cni.conf_dir;
  plugins.programs.directories = config.cni.bin_dirs;
  // Plugins keep state that outlives a boot.
  plugins.state_dir = config.state_dir + "/cni";
  return plugins;
}

}  // namespace

struct BuiltinRuntime::Parts {
  std::unique_ptr<cni::NodePodNetwork> network;
  std::unique_ptr<cri::CriServer> server;
};

BuiltinRuntime::BuiltinRuntime(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
BuiltinRuntime::~BuiltinRuntime() = default;

Result<std::unique_ptr<BuiltinRuntime>> BuiltinRuntime::Start(
    const AgentConfig& config, net::Iptables& iptables, net::Conntrack& conntrack,
    std::shared_ptr<cni::PodLinks> links) {
  auto parts = std::make_unique<Parts>();
  TRY(MakeDirectories(config.run_dir, 0755));
  TRY(MakeDirectories(config.state_dir, 0755));
  cni::BridgeConfig bridge;
  bridge.state_dir = config.run_dir + "/network";
  bridge.links = std::move(links);
  // Nodes are reached over the pods' primary family where that can be (cni/overlay.h).
  bridge.encapsulation_bytes = OverlayBytes(config, net::IpFamily::kV4);
  bridge.encapsulation_bytes_ipv6 = OverlayBytes(config, net::IpFamily::kV6);
  parts->network =
      TRY(cni::NodePodNetwork::Open(bridge, PluginSettings(config), iptables, conntrack));
  cri::CriOptions options;
  options.socket = config.run_dir + "/skiff.sock";
  options.state_dir = config.run_dir + "/cri";
  options.runtime.state_dir = config.run_dir + "/runtime";
  options.runtime.netns_dir = config.run_dir + "/netns";
  options.runtime.binary_dir = config.libexec_dir;
  options.runtime.default_cgroup_parent = config.default_cgroup_parent;
  for (const RuntimeHandlerConfig& handler : config.runtime_handlers) {
    options.runtime.oci_handlers.push_back(
        {.name = handler.name, .path = handler.path, .root = handler.root, .args = handler.args});
  }
  options.cdi_dirs = config.cdi_dirs;
  options.images.root = config.state_dir + "/images";
  options.images.registries = Registries(config);
  TRY(options.images.registries.Check());
  options.network = parts->network.get();
  options.logs.rotate_bytes = config.container_log_max_bytes.value_or(0);
  options.logs.keep_files = config.container_log_max_files;
  parts->server = TRY(cri::CriServer::Start(std::move(options)));
  return std::unique_ptr<BuiltinRuntime>(new BuiltinRuntime(std::move(parts)));
}

std::shared_ptr<CriStubs> BuiltinRuntime::MakeStubs() {
  auto stubs = std::make_shared<CriStubs>();
  stubs->runtime = cri::InProcessRuntimeStub(*parts_->server);
  stubs->images = cri::InProcessImageStub(*parts_->server);
  return stubs;
}

Result<> BuiltinRuntime::SetPodCidrs(const std::vector<std::string>& pod_cidrs,
                                     const std::vector<std::string>& cluster_cidrs) {
  return parts_->network->SetPodCidrs(TRY(ParsePrefixes(pod_cidrs)),
                                      TRY(ParsePrefixes(cluster_cidrs)));
}

void BuiltinRuntime::OnNetworkChange(std::function<void(bool built_in)> changed) {
  parts_->network->OnChange(std::move(changed));
}

Result<> BuiltinRuntime::RemoveAll() {
  TRY(parts_->server->RemoveAll());
  return parts_->network->RemoveAll();
}

struct StandaloneRuntime::Parts {
  std::unique_ptr<net::SystemIptables> iptables;
  net::SystemConntrack conntrack;
  std::unique_ptr<BuiltinRuntime> runtime;
};

StandaloneRuntime::StandaloneRuntime(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
StandaloneRuntime::~StandaloneRuntime() = default;

Result<std::unique_ptr<StandaloneRuntime>> StandaloneRuntime::Start(const AgentConfig& config) {
  auto parts = std::make_unique<Parts>();
  parts->iptables = TRY(net::SystemIptables::Open());
  parts->runtime =
      TRY(BuiltinRuntime::Start(config, *parts->iptables, parts->conntrack).With("the runtime"));
  TRY(parts->runtime->SetPodCidrs(config.pod_cidrs, config.pod_cidrs));
  return std::unique_ptr<StandaloneRuntime>(new StandaloneRuntime(std::move(parts)));
}

}  // namespace skiff::agent
