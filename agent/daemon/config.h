// skiff-agent's configuration: /etc/skiff/agent.yaml, overridden by flags. Each setting is
// explained in packaging/config/agent.yaml.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/result.h"

namespace skiff::agent {

struct RegistryConfig {
  std::string host;
  bool plain_http = false;
  bool insecure_skip_verify = false;
  std::string ca_file;
  std::vector<std::string> mirrors;
  std::string username;
  std::string password;
};

// The cluster DNS of this node.
struct DnsSettings {
  bool enabled = true;
  std::vector<std::string> upstreams;  // empty: those of /etc/resolv.conf
  std::map<std::string, std::vector<std::string>> stub_domains;
};

// Pod networks that CNI plugins make.
struct CniSettings {
  // Its first configuration counts; empty: the built-in network, whatever is there.
  std::string conf_dir = "/etc/cni/net.d";
  std::vector<std::string> bin_dirs = {"/opt/cni/bin", "/usr/lib/cni"};
};

// An OCI runtime's program that RuntimeClasses may name.
struct RuntimeHandlerConfig {
  std::string name;
  std::string path;
  std::string root;  // empty: below run_dir
  std::vector<std::string> args;
};

struct AgentConfig {
  std::string node_name;  // filled in with the hostname
  std::vector<std::string> node_ips;
  std::string server;
  std::string token;
  std::string ca_hash;
  std::string ca_file;
  std::map<std::string, std::string> labels;
  std::string state_dir = "/var/lib/skiff";
  std::string run_dir = "/run/skiff";
  std::string pod_logs_dir = "/var/log/pods";
  std::string container_logs_dir = "/var/log/containers";
  std::string runtime_endpoint;
  std::string cgroup_root = "/";
  std::string default_cgroup_parent;  // of pods that name none
  std::string libexec_dir;
  // Where CDI devices are described; the later override the earlier.
  std::vector<std::string> cdi_dirs = {"/etc/cdi", "/var/run/cdi"};
  std::vector<std::string> pod_cidrs = {"10.88.0.0/16"};  // at most one a family
  std::vector<RegistryConfig> registries;
  std::vector<RuntimeHandlerConfig> runtime_handlers;
  std::string proxy_mode = "auto";  // "iptables", "nftables", "none"
  // Where /healthz and /livez of the service proxy are; empty: nowhere.
  std::string proxy_health_address = ":10256";
  std::string overlay_mode = "vxlan";
  std::string fast_path_mode = "auto";  // where the kernel can; or "none"
  std::string network_policy_mode = "nftables";
  DnsSettings dns;
  CniSettings cni;
  int max_pods = 110;
  // Unset: 10Mi for the node's own pods; none for those of another kubelet, which rotates itself.
  std::optional<uint64_t> container_log_max_bytes;
  uint32_t container_log_max_files = 5;
  // Only the runtime and the pod network, for another kubelet; by flag.
  bool runtime_only = false;
  std::string health_address = "127.0.0.1:10248";
  log::Level log_level = log::Level::kInfo;
};

// A file that is not there gives the defaults. InvalidArgument names the file, the line and what is
// wrong: an unknown key, a value of the wrong kind.
Result<AgentConfig> LoadConfig(const std::string& path);
// The same from text; name stands for the file in errors.
Result<AgentConfig> ParseConfig(const std::string& text, const std::string& name);
// Fills in what depends on the machine and checks what parsing cannot: names, addresses, modes.
Result<> CompleteConfig(AgentConfig* config);

}  // namespace skiff::agent
