#include "cni/plugin/request.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "base/net/short_hash.h"
#include "cni/leases.h"
#include "cni/spec/config.h"

namespace skiff::cni {
namespace {

constexpr const char* kDefaultDataDir = "/run/skiff-cni";
constexpr size_t kMaxAttachments = 65536;
constexpr size_t kMaxPortMappings = 65536;

PluginError ErrorOf(CniCode code, std::string message, std::string details = {}) {
  return {static_cast<uint32_t>(code), std::move(message), std::move(details)};
}

std::optional<PluginCommand> CommandOf(const std::string& text) {
  constexpr std::pair<const char*, PluginCommand> kCommands[] = {
      {"ADD", PluginCommand::kAdd},     {"DEL", PluginCommand::kDel},
      {"CHECK", PluginCommand::kCheck}, {"STATUS", PluginCommand::kStatus},
      {"GC", PluginCommand::kGc},       {"VERSION", PluginCommand::kVersion}};
  for (const auto& [name, command] : kCommands) {
    if (text == name) return command;
  }
  return std::nullopt;
}

bool IsOfAttachment(PluginCommand command) {
  return command == PluginCommand::kAdd || command == PluginCommand::kDel ||
         command == PluginCommand::kCheck;
}

// The version since which a command exists.
CniVersion Since(PluginCommand command) {
  switch (command) {
    case PluginCommand::kCheck: return kCni040;
    case PluginCommand::kGc:
    case PluginCommand::kStatus: return kCni110;
    default: return PluginVersions().front();
  }
}

std::string AttachmentId(const std::string& container_id, const std::string& interface) {
  return container_id + "@" + interface;
}

// Interface names become part of file names.
bool IsUsableInterface(const std::string& name) {
  return IsValidInterfaceName(name) && IsValidSandboxId("x@" + name);
}

// "KEY=value;KEY=value": the value of a key, or empty.
std::string Argument(std::string_view arguments, std::string_view key) {
  while (!arguments.empty()) {
    size_t end = std::min(arguments.find(';'), arguments.size());
    std::string_view pair = arguments.substr(0, end);
    if (pair.starts_with(key) && pair.substr(key.size()).starts_with('=')) {
      return std::string(pair.substr(key.size() + 1));
    }
    arguments.remove_prefix(std::min(end + 1, arguments.size()));
  }
  return "";
}

std::optional<PluginError> ReadEnvironment(const Environment& environment, PluginRequest& request) {
  std::string container = environment("CNI_CONTAINERID");
  std::string netns = environment("CNI_NETNS");
  request.interface = environment("CNI_IFNAME");
  std::string bad;
  auto refuse = [&bad](const char* name) { bad += (bad.empty() ? "" : ", ") + std::string(name); };
  request.attach.sandbox_id = AttachmentId(container, request.interface);
  if (!IsValidContainerId(container)) refuse("CNI_CONTAINERID");
  if (netns.empty() && request.command != PluginCommand::kDel) refuse("CNI_NETNS");
  if (!IsUsableInterface(request.interface)) refuse("CNI_IFNAME");
  if (bad.empty() && !IsValidSandboxId(request.attach.sandbox_id)) refuse("CNI_CONTAINERID");
  if (!bad.empty()) {
    return ErrorOf(CniCode::kInvalidEnvironment, "missing or invalid environment variables", bad);
  }
  request.attach.netns_path = netns;
  const std::string arguments = environment("CNI_ARGS");
  request.attach.pod_namespace = Argument(arguments, "K8S_POD_NAMESPACE");
  request.attach.pod_name = Argument(arguments, "K8S_POD_NAME");
  request.attach.pod_uid = Argument(arguments, "K8S_POD_UID");
  if (request.attach.pod_name.empty()) request.attach.pod_name = container;
  return std::nullopt;
}

Result<std::vector<net::IpPrefix>> PrefixesField(const Json& config, const char* name) {
  std::vector<net::IpPrefix> prefixes;
  for (const std::string& text : TRY(TextsField(config, name, 16))) {
    prefixes.push_back(TRY(net::IpPrefix::Parse(text).With(name)));
  }
  return prefixes;
}

// The object with its fields' names as we write them: runtimes in Go send their structures' names
// ("HostPort"), as Go's decoder takes any case.
Json WithNames(const Json& object, std::initializer_list<const char*> names) {
  auto lower = [](std::string text) {
    std::transform(text.begin(), text.end(), text.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text;
  };
  Json named = Json::object();
  for (const auto& [key, value] : object.items()) {
    for (const char* name : names) {
      if (lower(key) == lower(name)) named[name] = value;
    }
  }
  return named;
}

// "ipRanges", for each address a list of which the first is taken: [[{"subnet": "10.1.0.0/16"}]].
Result<std::vector<net::IpPrefix>> RangesOf(const Json& runtime) {
  std::vector<net::IpPrefix> prefixes;
  const Json* ranges = TRY(ArrayField(runtime, "ipRanges", 16));
  for (size_t i = 0; ranges != nullptr && i < ranges->size(); ++i) {
    const Json& choices = (*ranges)[i];
    if (!choices.is_array() || choices.empty() || !choices[0].is_object()) {
      return Error(Code::kInvalidArgument, "\"ipRanges\" is no list of lists of subnets");
    }
    const std::string subnet = TRY(TextField(WithNames(choices[0], {"subnet"}), "subnet"));
    prefixes.push_back(TRY(net::IpPrefix::Parse(subnet).With("ipRanges")));
  }
  return prefixes;
}

Result<PluginSettings> ReadSettings(const Json& config, const Json& runtime) {
  PluginSettings settings;
  settings.name = TRY(TextField(config, "name"));
  if (!IsValidNetworkName(settings.name)) {
    return Error(Code::kInvalidArgument, "\"name\" is no name of a network");
  }
  settings.bridge = TRY(TextField(config, "bridge"));
  if (settings.bridge.empty()) {
    settings.bridge = "skiff-" + net::ShortHashHex(settings.name, 8);
  }
  if (!IsValidInterfaceName(settings.bridge)) {
    return Error(Code::kInvalidArgument, "\"bridge\" is no name of an interface");
  }
  settings.pod_cidrs = TRY(RangesOf(runtime));
  if (settings.pod_cidrs.empty()) settings.pod_cidrs = TRY(PrefixesField(config, "podCidrs"));
  if (settings.pod_cidrs.empty()) {
    return Error(Code::kInvalidArgument,
                 "\"podCidrs\", the ranges of the pods' addresses, is missing");
  }
  settings.cluster_cidrs = TRY(PrefixesField(config, "clusterCidrs"));
  settings.mtu = TRY(NumberField(config, "mtu")).value_or(0);
  settings.masquerade = TRY(BoolField(config, "ipMasq", true));
  settings.data_dir = TRY(TextField(config, "dataDir"));
  if (settings.data_dir.empty()) settings.data_dir = kDefaultDataDir;
  if (!settings.data_dir.starts_with('/')) {
    return Error(Code::kInvalidArgument, "\"dataDir\" is no absolute path");
  }
  const Json* dns = TRY(ObjectField(config, "dns"));
  if (dns != nullptr) settings.dns = TRY(ParseDns(*dns).With("dns"));
  return settings;
}

Result<Protocol> ProtocolOf(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (Protocol protocol : {Protocol::kTcp, Protocol::kUdp, Protocol::kSctp}) {
    if (name.empty() || ProtocolName(protocol) == name) return protocol;
  }
  return Error(Code::kInvalidArgument, "portMappings: unknown protocol \"" + name + "\"");
}

Result<uint16_t> PortField(const Json& mapping, const char* name) {
  uint32_t port = TRY(NumberField(mapping, name)).value_or(0);
  if (port > 65535) return Error(Code::kInvalidArgument, std::string(name) + " is 0 to 65535");
  return static_cast<uint16_t>(port);
}

Result<std::vector<PortMapping>> PortsOf(const Json& runtime) {
  std::vector<PortMapping> ports;
  const Json* mappings = TRY(ArrayField(runtime, "portMappings", kMaxPortMappings));
  for (size_t i = 0; mappings != nullptr && i < mappings->size(); ++i) {
    if (!(*mappings)[i].is_object())
      return Error(Code::kInvalidArgument, "portMappings: no object");
    const Json mapping =
        WithNames((*mappings)[i], {"protocol", "hostPort", "containerPort", "hostIP"});
    PortMapping port;
    const std::string protocol = TRY(TextField(mapping, "protocol"));
    port.protocol = TRY(ProtocolOf(protocol));
    port.host_port = TRY(PortField(mapping, "hostPort"));
    port.container_port = TRY(PortField(mapping, "containerPort"));
    const std::string host_ip = TRY(TextField(mapping, "hostIP"));
    if (!host_ip.empty()) port.host_ip = TRY(net::IpAddress::Parse(host_ip).With("hostIP"));
    ports.push_back(port);
  }
  return ports;
}

// The address in "10.1.0.5" or "10.1.0.5/16".
Result<net::IpAddress> WantedAddress(const std::string& text) {
  return net::IpAddress::Parse(std::string_view(text).substr(0, text.find('/')));
}

// The capability "ips" counts, else "args", else CNI_ARGS (CONVENTIONS.md).
Result<std::vector<net::IpAddress>> WantedAddresses(const Json& config, const Json& runtime,
                                                    const std::string& argument) {
  std::vector<std::string> texts = TRY(TextsField(runtime, "ips", 16));
  if (texts.empty()) {
    const Json* args = TRY(ObjectField(config, "args"));
    const Json none = Json::object();
    const Json* cni = TRY(ObjectField(args != nullptr ? *args : none, "cni"));
    if (cni != nullptr) texts = TRY(TextsField(*cni, "ips", 16));
  }
  if (texts.empty() && !argument.empty()) texts.push_back(argument);
  std::vector<net::IpAddress> addresses;
  for (const std::string& text : texts) {
    addresses.push_back(TRY(WantedAddress(text).With("ips")));
  }
  return addresses;
}

Result<std::string> WantedMac(const Json& runtime, const std::string& argument) {
  std::string mac = TRY(TextField(runtime, "mac"));
  if (mac.empty()) mac = argument;
  if (mac.empty()) return mac;
  unsigned bytes[6];
  int length = 0;
  const bool read = std::sscanf(mac.c_str(), "%2x:%2x:%2x:%2x:%2x:%2x%n", &bytes[0], &bytes[1],
                                &bytes[2], &bytes[3], &bytes[4], &bytes[5], &length) == 6;
  if (!read || mac.size() != 17 || length != 17 || (bytes[0] & 1) != 0) {
    return Error(Code::kInvalidArgument, "\"" + mac.substr(0, 40) + "\" is no MAC of one machine");
  }
  return mac;
}

Result<> ReadAttachment(const Json& config, const Json& runtime, const std::string& arguments,
                        PluginRequest& request) {
  AttachRequest& attach = request.attach;
  attach.ports = TRY(PortsOf(runtime));
  attach.requested_addresses = TRY(WantedAddresses(config, runtime, Argument(arguments, "IP")));
  attach.mac = TRY(WantedMac(runtime, Argument(arguments, "MAC")));
  const Json* previous = TRY(ObjectField(config, "prevResult"));
  if (previous != nullptr) {
    request.previous = TRY(ParseAddResult(*previous, request.version).With("prevResult"));
  }
  return {};
}

Result<> ReadValidAttachments(const Json& config, PluginRequest& request) {
  constexpr const char* kKey = "cni.dev/valid-attachments";
  const Json* valid = TRY(ArrayField(config, kKey, kMaxAttachments));
  // Nothing named is everything to go; nothing said is a mistake.
  if (valid == nullptr) return Error(Code::kInvalidArgument, std::string(kKey) + " is missing");
  for (const Json& attachment : *valid) {
    if (!attachment.is_object()) return Error(Code::kInvalidArgument, std::string(kKey));
    const std::string container = TRY(TextField(attachment, "containerID"));
    const std::string interface = TRY(TextField(attachment, "ifname"));
    request.valid.push_back(AttachmentId(container, interface));
  }
  return {};
}

// What the configuration says, in request.version.
Result<> ReadConfig(const Json& config, const std::string& arguments, PluginRequest& request) {
  const Json none = Json::object();
  const Json* runtime = TRY(ObjectField(config, "runtimeConfig"));
  if (runtime == nullptr) runtime = &none;
  request.settings = TRY(ReadSettings(config, *runtime));
  // DEL needs none of it, and is to succeed whatever became of it.
  if (request.command == PluginCommand::kAdd || request.command == PluginCommand::kCheck) {
    TRY(ReadAttachment(config, *runtime, arguments, request));
  }
  if (request.command == PluginCommand::kGc) TRY(ReadValidAttachments(config, request));
  return {};
}

}  // namespace

const std::vector<CniVersion>& PluginVersions() {
  static const std::vector<CniVersion> versions = {kCni030, kCni031, kCni040, kCni100, kCni110};
  return versions;
}

RequestOrError ReadPluginRequest(const Environment& environment, std::string_view input) {
  RequestOrError read{.version = PluginVersions().back()};
  auto refuse = [&read](PluginError error) {
    read.error = std::move(error);
    return read;
  };
  PluginRequest request;
  auto command = CommandOf(environment("CNI_COMMAND"));
  if (!command) {
    return refuse(ErrorOf(CniCode::kInvalidEnvironment,
                          "unknown or missing CNI_COMMAND: this is a CNI plugin, run by a "
                          "container runtime; see skiff's docs/cni.md"));
  }
  request.command = *command;
  auto config = ParseDocument(input);
  if (!config.ok()) {
    return refuse(ErrorOf(CniCode::kDecoding, "the configuration on standard input",
                          config.error().message()));
  }
  auto text = TextField(*config, "cniVersion");
  auto version = ParseCniVersion(text.ok() && !text->empty() ? *text : "0.1.0");
  if (!version.ok()) {
    return refuse(ErrorOf(CniCode::kDecoding, "cniVersion", version.error().message()));
  }
  request.version = read.version = *version;
  if (request.command == PluginCommand::kVersion) {
    read.request = std::move(request);
    return read;
  }
  const auto& versions = PluginVersions();
  const bool known = std::find(versions.begin(), versions.end(), *version) != versions.end();
  if (!known || *version < Since(request.command)) {
    if (!known) read.version = versions.back();
    return refuse(ErrorOf(CniCode::kIncompatibleVersion,
                          "incompatible CNI versions: " + ToString(*version) + " asked for",
                          environment("CNI_COMMAND") + " exists here from " +
                              ToString(Since(request.command)) + " to " +
                              ToString(versions.back())));
  }
  if (IsOfAttachment(request.command)) {
    if (auto error = ReadEnvironment(environment, request)) return refuse(*std::move(error));
  }
  auto said = ReadConfig(*config, environment("CNI_ARGS"), request);
  if (!said.ok()) {
    return refuse(
        ErrorOf(CniCode::kInvalidConfig, "invalid network configuration", said.error().message()));
  }
  read.request = std::move(request);
  return read;
}

}  // namespace skiff::cni
