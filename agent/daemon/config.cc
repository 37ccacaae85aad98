#include "agent/daemon/config.h"

#include <arpa/inet.h>
#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cctype>
#include <functional>

#include "base/net/families.h"
#include "base/net/ip.h"
#include "base/os/files.h"
#include "cni/overlay.h"
#include "proto/codec/quantity.h"

namespace skiff::agent {
namespace {

constexpr uint64_t kDefaultLogBytes = 10 << 20;
constexpr uint32_t kMaxLogFiles = 1000;

using Setters = std::map<std::string, std::function<void(const YAML::Node&)>>;

// yaml-cpp reports by exceptions; they end in ParseConfig.
struct BadSetting {
  YAML::Mark mark;
  std::string text;
};

void ReadMap(const YAML::Node& node, const std::string& where, const Setters& setters) {
  if (!node || node.IsNull()) return;
  if (!node.IsMap()) throw BadSetting{node.Mark(), where + " must be a mapping"};
  for (const auto& entry : node) {
    std::string key = entry.first.as<std::string>();
    auto setter = setters.find(key);
    if (setter == setters.end()) {
      throw BadSetting{entry.first.Mark(), "unknown setting \"" + key + "\""};
    }
    try {
      setter->second(entry.second);
    } catch (const YAML::BadConversion&) {
      throw BadSetting{entry.second.Mark(), "\"" + key + "\" has a value of the wrong kind"};
    }
  }
}

template <class T>
std::function<void(const YAML::Node&)> Into(T* target) {
  return [target](const YAML::Node& node) {
    if (!node.IsNull()) *target = node.as<T>();
  };
}

// A text stands for a list of one.
std::function<void(const YAML::Node&)> IntoOneOrMore(std::vector<std::string>* target) {
  return [target](const YAML::Node& node) {
    if (node.IsScalar()) {
      *target = {node.as<std::string>()};
    } else if (!node.IsNull()) {
      *target = node.as<std::vector<std::string>>();
    }
  };
}

RegistryConfig ReadRegistry(const YAML::Node& node) {
  RegistryConfig registry;
  ReadMap(node, "an entry of registries",
          {{"host", Into(&registry.host)},
           {"plainHttp", Into(&registry.plain_http)},
           {"insecureSkipVerify", Into(&registry.insecure_skip_verify)},
           {"caFile", Into(&registry.ca_file)},
           {"mirrors", Into(&registry.mirrors)},
           {"username", Into(&registry.username)},
           {"password", Into(&registry.password)}});
  if (registry.host.empty()) throw BadSetting{node.Mark(), "a registry needs a host"};
  return registry;
}

RuntimeHandlerConfig ReadHandler(const YAML::Node& node) {
  RuntimeHandlerConfig handler;
  ReadMap(node, "an entry of runtimeHandlers",
          {{"name", Into(&handler.name)},
           {"path", Into(&handler.path)},
           {"root", Into(&handler.root)},
           {"args", Into(&handler.args)}});
  if (handler.name.empty()) throw BadSetting{node.Mark(), "a runtime handler needs a name"};
  if (!handler.path.starts_with('/')) {
    throw BadSetting{node.Mark(), "a runtime handler needs an absolute path"};
  }
  return handler;
}

void Read(const YAML::Node& root, AgentConfig* config) {
  auto read_level = [config](const YAML::Node& node) {
    auto level = log::ParseLevel(node.as<std::string>());
    if (!level.ok()) throw BadSetting{node.Mark(), level.error().message()};
    config->log_level = *level;
  };
  auto read_registries = [config](const YAML::Node& node) {
    for (const auto& entry : node) config->registries.push_back(ReadRegistry(entry));
  };
  auto read_handlers = [config](const YAML::Node& node) {
    for (const auto& entry : node) config->runtime_handlers.push_back(ReadHandler(entry));
  };
  auto read_proxy = [config](const YAML::Node& node) {
    ReadMap(node, "proxy",
            {{"mode", Into(&config->proxy_mode)},
             {"healthzBindAddress", Into(&config->proxy_health_address)}});
  };
  auto read_mode = [](const char* part, std::string* mode) {
    return [=](const YAML::Node& node) { ReadMap(node, part, {{"mode", Into(mode)}}); };
  };
  auto read_dns = [config](const YAML::Node& node) {
    ReadMap(node, "dns",
            {{"enabled", Into(&config->dns.enabled)},
             {"upstreams", Into(&config->dns.upstreams)},
             {"stubDomains", Into(&config->dns.stub_domains)}});
  };
  auto read_cni = [config](const YAML::Node& node) {
    ReadMap(node, "cni",
            {{"confDir", Into(&config->cni.conf_dir)}, {"binDirs", Into(&config->cni.bin_dirs)}});
  };
  auto read_log_size = [config](const YAML::Node& node) {
    if (node.IsNull()) return;
    auto size = codec::Quantity::Parse(node.as<std::string>());
    if (!size.ok() || size->Value() < 0) {
      throw BadSetting{node.Mark(), "containerLogMaxSize must be an amount like \"10Mi\", or 0"};
    }
    config->container_log_max_bytes = static_cast<uint64_t>(size->Value());
  };
  ReadMap(root, "the configuration",
          {{"nodeName", Into(&config->node_name)},
           {"nodeIPs", Into(&config->node_ips)},
           {"server", Into(&config->server)},
           {"token", Into(&config->token)},
           {"caHash", Into(&config->ca_hash)},
           {"caFile", Into(&config->ca_file)},
           {"labels", Into(&config->labels)},
           {"stateDir", Into(&config->state_dir)},
           {"runDir", Into(&config->run_dir)},
           {"podLogsDir", Into(&config->pod_logs_dir)},
           {"containerLogsDir", Into(&config->container_logs_dir)},
           {"runtimeEndpoint", Into(&config->runtime_endpoint)},
           {"cgroupRoot", Into(&config->cgroup_root)},
           {"defaultCgroupParent", Into(&config->default_cgroup_parent)},
           {"libexecDir", Into(&config->libexec_dir)},
           {"cdiDirs", Into(&config->cdi_dirs)},
           {"podCidr", IntoOneOrMore(&config->pod_cidrs)},
           {"registries", read_registries},
           {"runtimeHandlers", read_handlers},
           {"proxy", read_proxy},
           {"dns", read_dns},
           {"overlay", read_mode("overlay", &config->overlay_mode)},
           {"fastPath", read_mode("fastPath", &config->fast_path_mode)},
           {"networkPolicy", read_mode("networkPolicy", &config->network_policy_mode)},
           {"cni", read_cni},
           {"maxPods", Into(&config->max_pods)},
           {"containerLogMaxSize", read_log_size},
           {"containerLogMaxFiles", Into(&config->container_log_max_files)},
           {"healthAddress", Into(&config->health_address)},
           {"logLevel", read_level}});
}

// RFC 1123 subdomain.
bool ValidNodeName(const std::string& name) {
  if (name.empty() || name.size() > 253) return false;
  auto alnum = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return alnum(name.front()) && alnum(name.back()) &&
         std::all_of(name.begin(), name.end(),
                     [&](char c) { return alnum(c) || c == '-' || c == '.'; });
}

Result<> CheckDns(const DnsSettings& dns) {
  for (const std::string& server : dns.upstreams) {
    TRY(net::ParseEndpoint(server, 53).With("dns.upstreams"));
  }
  for (const auto& [domain, servers] : dns.stub_domains) {
    if (servers.empty()) {
      return Error(Code::kInvalidArgument, "dns.stubDomains: " + domain + " has no servers");
    }
    for (const std::string& server : servers) {
      TRY(net::ParseEndpoint(server, 53).With("dns.stubDomains: " + domain));
    }
  }
  return {};
}

Result<> CheckCni(const CniSettings& cni) {
  std::vector<std::string> paths = cni.bin_dirs;
  if (!cni.conf_dir.empty()) paths.push_back(cni.conf_dir);
  for (const std::string& path : paths) {
    // Several are told to plugins as one text, with colons between them.
    if (path.starts_with('/') && path.find(':') == std::string::npos) continue;
    return Error(Code::kInvalidArgument, "cni: \"" + path + "\" is no absolute path without \":\"");
  }
  return {};
}

std::string DirectoryOfThisProgram() {
  char path[4096];
  ssize_t length = ::readlink("/proc/self/exe", path, sizeof path);
  if (length <= 0) return "/usr/libexec/skiff";
  std::string program(path, static_cast<size_t>(length));
  return program.substr(0, program.rfind('/'));
}

// Modes and addresses of the service proxy.
Result<> CompleteProxy(AgentConfig* config) {
  const std::string& proxy_mode = config->proxy_mode;
  if (proxy_mode != "iptables" && proxy_mode != "nftables" && proxy_mode != "auto" &&
      proxy_mode != "none") {
    return Error(Code::kInvalidArgument,
                 "proxy.mode must be \"iptables\", \"nftables\", \"auto\" or \"none\", not \"" +
                     proxy_mode + "\"");
  }
  if (!config->proxy_health_address.empty()) {
    // As kube-proxy's, which means all addresses by this one, also the IPv6 ones.
    if (config->proxy_health_address.starts_with("0.0.0.0:")) {
      config->proxy_health_address.erase(0, config->proxy_health_address.find(':'));
    }
    std::string address = config->proxy_health_address;
    if (address.starts_with(':')) address.insert(0, "[::]");
    auto parsed = net::ParseEndpoint(address, 0);
    if (!parsed.ok() || parsed->port == 0) {
      return Error(Code::kInvalidArgument,
                   "proxy.healthzBindAddress must be \"ADDRESS:PORT\", \":PORT\" or empty, not \"" +
                       config->proxy_health_address + "\"");
    }
  }
  return {};
}

}  // namespace

Result<AgentConfig> ParseConfig(const std::string& text, const std::string& name) {
  AgentConfig config;
  auto bad = [&name](const YAML::Mark& mark, const std::string& what) {
    return Error(Code::kInvalidArgument, name + ":" + std::to_string(mark.line + 1) + ": " + what);
  };
  try {
    Read(YAML::Load(text), &config);
  } catch (const BadSetting& setting) {
    return bad(setting.mark, setting.text);
  } catch (const YAML::Exception& exception) {
    return bad(exception.mark, exception.msg);
  }
  return config;
}

Result<AgentConfig> LoadConfig(const std::string& path) {
  auto text = ReadFile(path, 1 << 20);
  if (!text.ok() && text.error().code() == Code::kNotFound) return AgentConfig();
  if (!text.ok()) return std::move(text).error();
  return ParseConfig(*text, path);
}

Result<> CompleteConfig(AgentConfig* config) {
  auto bad = [](const std::string& what) { return Error(Code::kInvalidArgument, what); };
  if (config->node_name.empty()) {
    char name[256] = {};
    if (::gethostname(name, sizeof name - 1) != 0) return Error::Sys(errno, "gethostname");
    config->node_name = name;
    std::transform(config->node_name.begin(), config->node_name.end(), config->node_name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  }
  if (!ValidNodeName(config->node_name)) {
    return bad("\"" + config->node_name +
               "\" is no node name: lower-case letters, digits, '-' and '.'; set nodeName");
  }
  if (!config->server.empty() && config->server.rfind(':') == std::string::npos) {
    config->server += ":6444";
  }
  for (const std::string& ip : config->node_ips) {
    unsigned char bytes[16];
    if (::inet_pton(AF_INET, ip.c_str(), bytes) != 1 &&
        ::inet_pton(AF_INET6, ip.c_str(), bytes) != 1) {
      return bad("nodeIPs: \"" + ip + "\" is no address");
    }
  }
  TRY(CompleteProxy(config));
  if (config->network_policy_mode != "nftables" && config->network_policy_mode != "none") {
    return bad("networkPolicy.mode must be \"nftables\" or \"none\", not \"" +
               config->network_policy_mode + "\"");
  }
  if (config->fast_path_mode != "auto" && config->fast_path_mode != "none") {
    return bad("fastPath.mode must be \"auto\" or \"none\", not \"" + config->fast_path_mode +
               "\"");
  }
  if (config->overlay_mode != "none") {
    TRY(cni::ParseOverlayMode(config->overlay_mode).With("overlay.mode"));
  }
  TRY(net::ParseNetworks(config->pod_cidrs).With("podCidr"));
  TRY(CheckDns(config->dns));
  TRY(CheckCni(config->cni));
  if (config->max_pods < 1) return bad("maxPods must be at least 1");
  if (config->container_log_max_files < 2 || config->container_log_max_files > kMaxLogFiles) {
    return bad("containerLogMaxFiles must be 2 to " + std::to_string(kMaxLogFiles));
  }
  if (config->runtime_only && !config->runtime_endpoint.empty()) {
    return bad("--runtime-only serves the built-in runtime: runtimeEndpoint must be empty");
  }
  if (!config->container_log_max_bytes) {
    config->container_log_max_bytes = config->runtime_only ? 0 : kDefaultLogBytes;
  }
  for (const std::string* directory :
       {&config->state_dir, &config->run_dir, &config->pod_logs_dir, &config->cgroup_root}) {
    if (!directory->starts_with('/')) return bad("\"" + *directory + "\" is no absolute path");
  }
  if (!config->runtime_endpoint.empty() && config->runtime_endpoint.starts_with('/')) {
    config->runtime_endpoint.insert(0, "unix://");
  }
  if (config->libexec_dir.empty()) {
    // Installed, the helpers are in libexec; in a build tree, beside the agent.
    std::string beside = DirectoryOfThisProgram();
    config->libexec_dir = PathExists(beside + "/skiff-shim") ? beside : "/usr/libexec/skiff";
  }
  while (config->cgroup_root.ends_with('/')) config->cgroup_root.pop_back();
  if (config->default_cgroup_parent.empty()) {
    config->default_cgroup_parent = config->cgroup_root + "/skiff";
  }
  return {};
}

}  // namespace skiff::agent
