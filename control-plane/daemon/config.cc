#include "control-plane/daemon/config.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <yaml-cpp/yaml.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <functional>
#include <map>

#include "base/net/ip.h"
#include "base/os/files.h"
#include "base/os/unique_fd.h"

namespace skiff::cp {
namespace {

// Where installers of Kubernetes put the kube-dns Service in the services' range.
constexpr uint64_t kDnsIndex = 10;

constexpr const char* kDefaultFile = "/etc/skiff/control-plane.yaml";
constexpr size_t kMaxFileBytes = 1 << 20;

Error AtLine(const YAML::Node& node, const std::string& what) {
  return {Code::kInvalidArgument, "line " + std::to_string(node.Mark().line + 1) + ": " + what};
}

Result<void> ReadText(const std::string& key, const YAML::Node& node, std::string* text) {
  if (!node.IsScalar()) return AtLine(node, key + " must be a text");
  *text = node.Scalar();
  return {};
}

Result<void> ReadNumber(const std::string& key, const YAML::Node& node, int* number) {
  std::string text;
  TRY(ReadText(key, node, &text));
  auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), *number);
  if (status != std::errc() || end != text.data() + text.size()) {
    return AtLine(node, key + " must be a number");
  }
  return {};
}

Result<void> ReadList(const std::string& key, const YAML::Node& node,
                      std::vector<std::string>* list) {
  if (!node.IsSequence()) return AtLine(node, key + " must be a list");
  list->clear();
  for (const auto& item : node) {
    list->emplace_back();
    TRY(ReadText(key, item, &list->back()));
  }
  return {};
}

Result<void> ReadBool(const std::string& key, const YAML::Node& node, bool* value) {
  std::string text;
  TRY(ReadText(key, node, &text));
  if (text != "true" && text != "false") return AtLine(node, key + " must be true or false");
  *value = text == "true";
  return {};
}

Result<void> ReadLoadBalancer(const YAML::Node& node, bool* enabled,
                              std::vector<std::string>* pool) {
  if (!node.IsMap()) return AtLine(node, "loadBalancer must have settings of its own");
  for (const auto& entry : node) {
    std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "?";
    if (key == "enabled") {
      TRY(ReadBool("loadBalancer.enabled", entry.second, enabled));
    } else if (key == "pool") {
      TRY(ReadList("loadBalancer.pool", entry.second, pool));
    } else {
      return AtLine(entry.first, "unknown setting \"loadBalancer." + key + "\"");
    }
  }
  return {};
}

// The address packets to the world would leave from; nothing is sent (connect(2) on UDP).
std::string DefaultRouteAddress() {
  UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(9);
  inet_pton(AF_INET, "192.0.2.1", &address.sin_addr);  // TEST-NET-1, RFC 5737
  socklen_t length = sizeof address;
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    return {};
  }
  char text[INET_ADDRSTRLEN];
  return inet_ntop(AF_INET, &address.sin_addr, text, sizeof text);
}

}  // namespace

Result<void> ParsePortRange(std::string_view text, int* first, int* last) {
  size_t dash = text.find('-');
  auto parse = [](std::string_view digits, int* number) {
    auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), *number);
    return status == std::errc() && end == digits.data() + digits.size();
  };
  if (dash == text.npos || !parse(text.substr(0, dash), first) ||
      !parse(text.substr(dash + 1), last)) {
    return Error(Code::kInvalidArgument,
                 "\"" + std::string(text) + "\" is no port range, want FIRST-LAST");
  }
  return {};
}

Result<void> Config::ApplyYaml(std::string_view text) {
  YAML::Node root;
  try {
    root = YAML::Load(std::string(text));
  } catch (const YAML::Exception& exception) {
    return Error(Code::kInvalidArgument, exception.what());
  }
  if (root.IsNull()) return {};
  if (!root.IsMap()) return AtLine(root, "want settings, each KEY: VALUE");
  using Reader = std::function<Result<void>(const std::string& key, const YAML::Node& node)>;
  auto into = [](std::string* target) -> Reader {
    return [target](const auto& key, const auto& node) { return ReadText(key, node, target); };
  };
  const std::map<std::string, Reader> readers = {
      {"dataDir", into(&data_dir)},
      {"kubeconfig", into(&kubeconfig)},
      {"advertiseAddress", into(&advertise_address)},
      {"listenAddress", into(&listen_address)},
      {"nodeLinkAddress", into(&node_link_address)},
      {"clusterCidr", into(&cluster_cidr)},
      {"serviceCidr", into(&service_cidr)},
      {"clusterDomain", into(&cluster_domain)},
      {"clusterDns", into(&cluster_dns)},
      {"logLevel", into(&log_level)},
      {"nodeCidrMaskSize",
       [this](const auto& key, const auto& node) {
         return ReadNumber(key, node, &node_cidr_mask_size);
       }},
      {"certificateNames",
       [this](const auto& key, const auto& node) {
         return ReadList(key, node, &certificate_names);
       }},
      {"loadBalancer",
       [this](const auto&, const auto& node) {
         return ReadLoadBalancer(node, &load_balancers, &load_balancer_pool);
       }},
      {"nodePortRange",
       [this](const auto& key, const auto& node) -> Result<void> {
         std::string range;
         TRY(ReadText(key, node, &range));
         auto parsed = ParsePortRange(range, &first_node_port, &last_node_port);
         if (!parsed.ok()) return AtLine(node, key + ": " + parsed.error().message());
         return {};
       }},
  };
  for (const auto& entry : root) {
    std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "?";
    auto reader = readers.find(key);
    if (reader == readers.end()) return AtLine(entry.first, "unknown setting \"" + key + "\"");
    TRY(reader->second(key, entry.second));
  }
  return {};
}

Result<void> Config::FillDefaults() {
  if (advertise_address.empty()) advertise_address = DefaultRouteAddress();
  // A machine without a network serves itself.
  if (advertise_address.empty()) advertise_address = "127.0.0.1";
  in_addr parsed{};
  if (inet_pton(AF_INET, advertise_address.c_str(), &parsed) != 1) {
    return Error(Code::kInvalidArgument,
                 "advertiseAddress \"" + advertise_address + "\" is no IPv4 address");
  }
  net::IpPrefix services = TRY(net::IpPrefix::Parse(service_cidr).With("serviceCidr"));
  if (cluster_dns.empty() && services.size() > kDnsIndex) {
    cluster_dns = services.At(kDnsIndex).ToString();
  }
  if (!cluster_dns.empty() &&
      !services.Contains(TRY(net::IpAddress::Parse(cluster_dns).With("clusterDns")))) {
    return Error(Code::kInvalidArgument,
                 "clusterDns " + cluster_dns + " is not in serviceCidr " + service_cidr);
  }
  TRY(log::ParseLevel(log_level).With("logLevel"));
  return {};
}

Result<CommandLine> ReadCommandLine(int argc, char** argv) {
  CommandLine line;
  CLI::App app("The Kubernetes API, scheduler and controllers of a Skiff cluster.",
               "skiff-control-plane");
  app.set_version_flag("--version", SKIFF_VERSION);
  std::string file = kDefaultFile;
  auto* named = app.add_option("--config", file, "configuration file")->capture_default_str();
  // Each flag overrides the file's setting of the same name.
  Config flags;
  std::string port_range;
  std::vector<std::function<void(Config&)>> overrides;
  auto add = [&](const char* flag, std::string Config::*member, const char* help) {
    auto* option = app.add_option(flag, flags.*member, help);
    overrides.push_back([option, member, &flags](Config& config) {
      if (option->count() != 0) config.*member = flags.*member;
    });
  };
  add("--data-dir", &Config::data_dir, "where the store, the CA and the keys live");
  add("--kubeconfig", &Config::kubeconfig, "the administrator's kubeconfig to write");
  add("--advertise-address", &Config::advertise_address, "address that nodes and clients dial");
  add("--listen-address", &Config::listen_address, "of the Kubernetes API");
  add("--node-link-address", &Config::node_link_address, "of the node link");
  add("--cluster-cidr", &Config::cluster_cidr, "the pods' range");
  add("--service-cidr", &Config::service_cidr, "the services' range");
  add("--cluster-dns", &Config::cluster_dns, "the kube-dns Service's address");
  add("--cluster-domain", &Config::cluster_domain, "the cluster's DNS domain");
  add("--log-level", &Config::log_level, "debug, info, warning or error");
  auto* ports = app.add_option("--node-port-range", port_range, "FIRST-LAST");
  auto* names =
      app.add_option("--certificate-name", flags.certificate_names,
                     "further name or address for the API server's certificate; repeatable");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    line.exit_code = app.exit(error);
    return line;
  }
  auto text = ReadFile(file, kMaxFileBytes);
  if (text.ok()) {
    TRY(line.config.ApplyYaml(*text).With(file));
  } else if (named->count() != 0 || text.error().code() != Code::kNotFound) {
    return std::move(text).error().With("read the configuration");
  }
  for (const auto& override : overrides) override(line.config);
  if (names->count() != 0) line.config.certificate_names = flags.certificate_names;
  if (ports->count() != 0) {
    TRY(ParsePortRange(port_range, &line.config.first_node_port, &line.config.last_node_port));
  }
  TRY(line.config.FillDefaults());
  line.run = true;
  return line;
}

}  // namespace skiff::cp
