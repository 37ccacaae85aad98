#include "control-plane/daemon/config.h"

#include <sys/socket.h>
#include <yaml-cpp/yaml.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <functional>
#include <map>

#include "base/net/families.h"
#include "base/net/ip.h"
#include "base/net/socket_address.h"
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

std::vector<std::string> SplitList(std::string_view text) {
  std::vector<std::string> items;
  while (!text.empty()) {
    std::string_view item = text.substr(0, text.find(','));
    text.remove_prefix(std::min(item.size() + 1, text.size()));
    while (item.starts_with(' ')) item.remove_prefix(1);
    while (item.ends_with(' ')) item.remove_suffix(1);
    if (!item.empty()) items.emplace_back(item);
  }
  return items;
}

// One text, or several: a list, or separated by commas.
Result<void> ReadOneOrMore(const std::string& key, const YAML::Node& node,
                           std::vector<std::string>* list) {
  if (node.IsSequence()) return ReadList(key, node, list);
  if (!node.IsScalar()) return AtLine(node, key + " must be a text or a list of texts");
  *list = SplitList(node.Scalar());
  return {};
}

// The address packets to the world would leave from; nothing is sent (connect(2) on UDP). A machine
// without a network serves itself.
std::string DefaultRouteAddress(net::IpFamily family) {
  const bool v6 = family == net::IpFamily::kV6;
  // For documentation only: TEST-NET-1 (RFC 5737) and 2001:db8::/32 (RFC 3849).
  net::SocketAddress far({net::IpAddress::Parse(v6 ? "2001:db8::1" : "192.0.2.1").value(), 9});
  net::SocketAddress near;
  UniqueFd fd(::socket(net::SocketFamily(family), SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd || ::connect(fd.get(), far.get(), far.size()) != 0 ||
      ::getsockname(fd.get(), near.get(), near.mutable_size()) != 0) {
    return v6 ? "::1" : "127.0.0.1";
  }
  return near.endpoint().address.ToString();
}

// Of each range of services, the address among the texts that is in it; the tenth where none is.
Result<std::vector<std::string>> DnsAddresses(const std::vector<std::string>& texts,
                                              const std::vector<net::IpPrefix>& services) {
  std::vector<net::IpAddress> given;
  for (const std::string& text : texts) {
    net::IpAddress address = TRY(net::IpAddress::Parse(text));
    if (std::none_of(services.begin(), services.end(),
                     [&](const net::IpPrefix& range) { return range.Contains(address); })) {
      return Error(Code::kInvalidArgument, text + " is not in serviceCidr");
    }
    if (net::FirstOfFamily(given, address.family()) != nullptr) {
      return Error(Code::kInvalidArgument, text + " is a second address of " +
                                               std::string(net::FamilyName(address.family())));
    }
    given.push_back(address);
  }
  std::vector<std::string> addresses;
  for (const net::IpPrefix& range : services) {
    if (const net::IpAddress* address = net::FirstOfFamily(given, range.family())) {
      addresses.push_back(address->ToString());
    } else if (range.size() > kDnsIndex) {
      addresses.push_back(range.At(kDnsIndex).ToString());
    }
  }
  return addresses;
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
  auto number = [](int* target) -> Reader {
    return [target](const auto& key, const auto& node) { return ReadNumber(key, node, target); };
  };
  auto one_or_more = [](std::vector<std::string>* target) -> Reader {
    return [target](const auto& key, const auto& node) { return ReadOneOrMore(key, node, target); };
  };
  const std::map<std::string, Reader> readers = {
      {"dataDir", into(&data_dir)},
      {"kubeconfig", into(&kubeconfig)},
      {"advertiseAddress", into(&advertise_address)},
      {"listenAddress", into(&listen_address)},
      {"nodeLinkAddress", into(&node_link_address)},
      {"clusterCidr", one_or_more(&cluster_cidrs)},
      {"serviceCidr", one_or_more(&service_cidrs)},
      {"clusterDomain", into(&cluster_domain)},
      {"clusterDns", one_or_more(&cluster_dns)},
      {"logLevel", into(&log_level)},
      {"nodeCidrMaskSize", number(&node_cidr_mask_size)},
      {"nodeCidrMaskSizeIpv6", number(&node_cidr_mask_size_ipv6)},
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
  auto pods = TRY(net::ParseNetworks(cluster_cidrs).With("clusterCidr"));
  auto services = TRY(net::ParseNetworks(service_cidrs).With("serviceCidr"));
  for (const net::IpPrefix& range : services) {
    if (net::FirstOfFamily(pods, range.family()) != nullptr) continue;
    return Error(Code::kInvalidArgument, "serviceCidr " + range.ToString() +
                                             ": no pod can serve there, as clusterCidr has no " +
                                             std::string(net::FamilyName(range.family())) +
                                             " range");
  }
  // Pods reach the API through the kubernetes Service, which has one endpoint, of its own family.
  const net::IpFamily primary = services.front().family();
  if (advertise_address.empty()) advertise_address = DefaultRouteAddress(primary);
  auto advertised = TRY(net::IpAddress::Parse(advertise_address).With("advertiseAddress"));
  if (advertised.family() != primary) {
    return Error(Code::kInvalidArgument, "advertiseAddress " + advertise_address +
                                             " must be of the family of the first serviceCidr, " +
                                             std::string(net::FamilyName(primary)));
  }
  advertise_address = advertised.ToString();
  cluster_dns = TRY(DnsAddresses(cluster_dns, services).With("clusterDns"));
  // "[::]" takes IPv4 too (ipv6(7), IPV6_V6ONLY).
  const bool v6 = net::FirstOfFamily(pods, net::IpFamily::kV6) != nullptr || advertised.is_v6();
  const std::string any = v6 ? "[::]" : "0.0.0.0";
  if (listen_address.empty()) listen_address = any + ":6443";
  if (node_link_address.empty()) node_link_address = any + ":6444";
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
  auto add = [&]<class T>(const char* flag, T Config::*member, const char* help) {
    auto* option = app.add_option(flag, flags.*member, help);
    if constexpr (std::is_same_v<T, std::vector<std::string>>) option->delimiter(',');
    overrides.push_back([option, member, &flags](Config& config) {
      if (option->count() != 0) config.*member = flags.*member;
    });
  };
  add("--data-dir", &Config::data_dir, "where the store, the CA and the keys live");
  add("--kubeconfig", &Config::kubeconfig, "the administrator's kubeconfig to write");
  add("--advertise-address", &Config::advertise_address, "address that nodes and clients dial");
  add("--listen-address", &Config::listen_address, "of the Kubernetes API");
  add("--node-link-address", &Config::node_link_address, "of the node link");
  add("--cluster-cidr", &Config::cluster_cidrs, "the pods' ranges, one a family, with a comma");
  add("--node-cidr-mask-size", &Config::node_cidr_mask_size, "of nodes' IPv4 ranges");
  add("--node-cidr-mask-size-ipv6", &Config::node_cidr_mask_size_ipv6, "of nodes' IPv6 ranges");
  add("--service-cidr", &Config::service_cidrs, "the services' ranges, one a family");
  add("--cluster-dns", &Config::cluster_dns, "the kube-dns Service's addresses, one a family");
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
