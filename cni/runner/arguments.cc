#include "cni/runner/arguments.h"

#include <algorithm>

#include "cni/spec/result.h"

namespace skiff::cni {
namespace {

// The node's end of the pod's pair: the last interface that is in no sandbox (before it come
// bridges).
const ResultInterface* NodeInterface(const AddResult& result) {
  const ResultInterface* last = nullptr;
  for (const ResultInterface& interface : result.interfaces) {
    if (interface.sandbox.empty()) last = &interface;
  }
  return last;
}

// In bits. What may go at once is bounded as the reference plugin bounds it, to 32 bits.
void AddRate(const char* direction, uint64_t bits_per_second, Json* bandwidth) {
  if (bits_per_second == 0) return;
  constexpr uint64_t kSmallestBurst = 256'000, kLargestBurst = 0xffffffff;
  (*bandwidth)[std::string(direction) + "Rate"] = bits_per_second;
  (*bandwidth)[std::string(direction) + "Burst"] =
      std::clamp(bits_per_second / 10, kSmallestBurst, kLargestBurst);
}

}  // namespace

Result<std::string> PluginArguments(const AttachRequest& request) {
  std::string text = "IgnoreUnknown=1";
  for (const auto& [key, value] : {std::pair("K8S_POD_NAMESPACE", &request.pod_namespace),
                                   std::pair("K8S_POD_NAME", &request.pod_name),
                                   std::pair("K8S_POD_INFRA_CONTAINER_ID", &request.sandbox_id),
                                   std::pair("K8S_POD_UID", &request.pod_uid)}) {
    const bool plain = std::none_of(value->begin(), value->end(), [](unsigned char c) {
      return c == ';' || c == '=' || c < ' ' || c == 0x7f;
    });
    if (!plain) {
      return Error(Code::kInvalidArgument,
                   std::string(key) + " cannot be told to CNI plugins: it has a \";\" or \"=\"");
    }
    text += std::string(";") + key + "=" + *value;
  }
  return text;
}

Json CapabilityArguments(const AttachRequest& request,
                         const std::vector<net::IpPrefix>& pod_cidrs) {
  Json arguments = Json::object();
  Json ports = Json::array(), ips = Json::array(), ranges = Json::array();
  for (const PortMapping& port : request.ports) {
    if (port.host_port == 0) continue;
    Json mapping{{"hostPort", port.host_port},
                 {"containerPort", port.container_port},
                 {"protocol", std::string(ProtocolName(port.protocol))}};
    if (port.host_ip && !port.host_ip->is_unspecified()) {
      mapping["hostIP"] = port.host_ip->ToString();
    }
    ports.push_back(std::move(mapping));
  }
  for (const net::IpAddress& address : request.requested_addresses) {
    ips.push_back(address.ToString());
  }
  for (const net::IpPrefix& cidr : pod_cidrs) {
    ranges.push_back(Json::array({Json{{"subnet", cidr.ToString()}}}));
  }
  Json bandwidth = Json::object();
  AddRate("ingress", request.bandwidth.ingress_bits, &bandwidth);
  AddRate("egress", request.bandwidth.egress_bits, &bandwidth);
  if (!bandwidth.empty()) arguments["bandwidth"] = std::move(bandwidth);
  const PodDns& dns = request.dns;
  if (!ports.empty()) arguments["portMappings"] = std::move(ports);
  if (!ips.empty()) arguments["ips"] = std::move(ips);
  if (!ranges.empty()) arguments["ipRanges"] = std::move(ranges);
  if (!request.mac.empty()) arguments["mac"] = request.mac;
  if (!request.cgroup_path.empty()) arguments["cgroupPath"] = request.cgroup_path;
  if (!dns.servers.empty() || !dns.searches.empty() || !dns.options.empty()) {
    arguments["dns"] = {
        {"servers", dns.servers}, {"searches", dns.searches}, {"options", dns.options}};
  }
  return arguments;
}

Result<Attachment> AttachmentOf(const Json& document, const CniVersion& version,
                                const std::string& pod_interface) {
  AddResult result = TRY(ParseAddResult(document, version));
  Attachment attachment{.interface = pod_interface};
  for (const ResultIp& ip : result.ips) {
    const ResultInterface* of = ip.interface ? &result.interfaces[*ip.interface] : nullptr;
    // Some are of the node, or of further interfaces of the pod.
    if (of != nullptr && (of->sandbox.empty() || of->name != pod_interface)) continue;
    const auto same_family = [&](const PodAddress& had) {
      return had.address.family() == ip.address.family();
    };
    if (std::none_of(attachment.addresses.begin(), attachment.addresses.end(), same_family)) {
      const net::IpAddress none = net::IpPrefix::Of(ip.address, 0).first();
      attachment.addresses.push_back({ip.address, ip.gateway.value_or(none)});
    }
  }
  if (attachment.addresses.empty()) {
    return Error(Code::kFailedPrecondition, "the plugins gave the pod no address");
  }
  for (const ResultInterface& interface : result.interfaces) {
    if (interface.sandbox.empty() || interface.name != pod_interface) continue;
    attachment.mac = interface.mac;
    attachment.mtu = interface.mtu.value_or(0);
  }
  if (const ResultInterface* outside = NodeInterface(result)) {
    attachment.host_interface = outside->name;
  }
  return attachment;
}

}  // namespace skiff::cni
