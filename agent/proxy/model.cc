#include "agent/proxy/model.h"

#include <algorithm>
#include <iterator>
#include <tuple>

#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/discovery/v1/discovery.pb.h"

namespace skiff::agent::proxy {
namespace {

constexpr const char* kServiceNameLabel = "kubernetes.io/service-name";
constexpr const char* kProxyNameLabel = "service.kubernetes.io/service-proxy-name";
constexpr const char* kHeadlessLabel = "service.kubernetes.io/headless";
// core/v1: the default of timeoutSeconds, and the most it may be.
constexpr uint32_t kDefaultAffinitySeconds = 10800, kMostAffinitySeconds = 86400;

std::optional<Transport> ParseTransport(const std::string& protocol) {
  if (protocol == "TCP" || protocol.empty()) return Transport::kTcp;
  if (protocol == "UDP") return Transport::kUdp;
  if (protocol == "SCTP") return Transport::kSctp;
  return std::nullopt;
}

std::optional<uint16_t> ParsePort(int32_t port) {
  if (port < 1 || port > 65535) return std::nullopt;
  return static_cast<uint16_t>(port);
}

void AddAddress(const std::string& text, std::vector<net::IpAddress>& addresses) {
  auto address = net::IpAddress::Parse(text);
  if (address.ok() && std::find(addresses.begin(), addresses.end(), *address) == addresses.end()) {
    addresses.push_back(*address);
  }
}

bool HasLabel(const k8s::meta::v1::ObjectMeta& metadata, const char* name) {
  return metadata.labels().contains(name);
}

void TranslatePorts(const k8s::core::v1::ServiceSpec& spec, Service& service) {
  for (const auto& from : spec.ports()) {
    auto transport = ParseTransport(from.protocol());
    auto port = ParsePort(from.port());
    if (!transport || !port) continue;
    service.ports.push_back({.name = from.name(),
                             .transport = *transport,
                             .port = *port,
                             .node_port = ParsePort(from.node_port()).value_or(0)});
  }
}

void TranslateLoadBalancer(const k8s::core::v1::Service& from, Service& service) {
  for (const auto& ingress : from.status().load_balancer().ingress()) {
    // Traffic to a Proxy mode address has to pass the load balancer itself (KEP-1860).
    if (ingress.has_ip_mode() && ingress.ip_mode() == "Proxy") continue;
    if (ingress.ip().empty()) continue;
    AddAddress(ingress.ip(), service.load_balancer_ips);
  }
  for (const std::string& text : from.spec().load_balancer_source_ranges()) {
    // Validation allows spaces around and host bits in the ranges.
    size_t start = text.find_first_not_of(' '), end = text.find_last_not_of(' ');
    if (start == std::string::npos) continue;
    std::string range = text.substr(start, end - start + 1);
    size_t slash = range.find('/');
    auto address = net::IpAddress::Parse(std::string_view(range).substr(0, slash));
    if (!address.ok() || slash == std::string::npos) continue;
    auto network =
        net::IpPrefix::Parse((address->is_v4() ? "0.0.0.0" : "::") + range.substr(slash));
    if (!network.ok()) continue;
    service.source_ranges.push_back(net::IpPrefix::Of(*address, network->length()));
  }
}

template <class Names>
Hint TranslateHint(const Names& names, const std::string& here) {
  if (names.empty()) return Hint::kNone;
  bool named = !here.empty() && std::any_of(names.begin(), names.end(),
                                            [&](const auto& name) { return name.name() == here; });
  return named ? Hint::kHere : Hint::kOthers;
}

std::vector<Endpoint> TranslateEndpoints(const k8s::discovery::v1::EndpointSlice& slice,
                                         uint16_t port, const Place& here) {
  std::vector<Endpoint> endpoints;
  for (const auto& from : slice.endpoints()) {
    if (from.addresses().empty()) continue;
    // Only the first address is used (EndpointSlice API: the others are undefined).
    auto address = net::IpAddress::Parse(from.addresses(0));
    bool v4 = slice.address_type() == "IPv4";
    if (!address.ok() || address->is_v4() != v4) continue;
    const auto& conditions = from.conditions();
    bool ready = !conditions.has_ready() || conditions.ready();
    bool placed = !from.node_name().empty() && !here.node.empty();
    endpoints.push_back({.address = *address,
                         .port = port,
                         .local = placed && from.node_name() == here.node,
                         .elsewhere = placed && from.node_name() != here.node,
                         .ready = ready,
                         .serving = conditions.has_serving() ? conditions.serving() : ready,
                         .terminating = conditions.has_terminating() && conditions.terminating(),
                         .zone_hint = TranslateHint(from.hints().for_zones(), here.zone),
                         .node_hint = TranslateHint(from.hints().for_nodes(), here.node)});
  }
  return endpoints;
}

}  // namespace

std::string_view TransportName(Transport transport) {
  switch (transport) {
    case Transport::kTcp: return "tcp";
    case Transport::kUdp: return "udp";
    case Transport::kSctp: return "sctp";
  }
  return "tcp";
}

std::optional<Service> TranslateService(const k8s::core::v1::Service& from) {
  const auto& spec = from.spec();
  if (spec.type() == "ExternalName" || spec.cluster_ip() == "None" ||
      HasLabel(from.metadata(), kProxyNameLabel)) {
    return std::nullopt;
  }
  Service service;
  for (const std::string& address : spec.cluster_ips()) AddAddress(address, service.cluster_ips);
  if (service.cluster_ips.empty()) AddAddress(spec.cluster_ip(), service.cluster_ips);
  if (service.cluster_ips.empty()) return std::nullopt;
  for (const std::string& address : spec.external_ips()) AddAddress(address, service.external_ips);
  if (spec.type() == "LoadBalancer") TranslateLoadBalancer(from, service);
  TranslatePorts(spec, service);
  if (spec.session_affinity() == "ClientIP") {
    const auto& client_ip = spec.session_affinity_config().client_ip();
    service.affinity_seconds =
        client_ip.has_timeout_seconds() && client_ip.timeout_seconds() > 0
            ? std::min(static_cast<uint32_t>(client_ip.timeout_seconds()), kMostAffinitySeconds)
            : kDefaultAffinitySeconds;
  }
  service.external_local = spec.external_traffic_policy() == "Local";
  service.internal_local = spec.internal_traffic_policy() == "Local";
  if (service.external_local && spec.type() == "LoadBalancer") {
    service.health_check_node_port = ParsePort(spec.health_check_node_port()).value_or(0);
  }
  return service;
}

std::optional<Slice> TranslateSlice(const k8s::discovery::v1::EndpointSlice& from,
                                    const Place& here) {
  const auto& labels = from.metadata().labels();
  auto service = labels.find(kServiceNameLabel);
  bool addresses = from.address_type() == "IPv4" || from.address_type() == "IPv6";
  if (service == labels.end() || service->second.empty() || !addresses ||
      HasLabel(from.metadata(), kHeadlessLabel) || HasLabel(from.metadata(), kProxyNameLabel)) {
    return std::nullopt;
  }
  Slice slice{.service = {from.metadata().namespace_(), service->second}};
  for (const auto& port : from.ports()) {
    auto transport = ParseTransport(port.protocol());
    auto number = ParsePort(port.port());
    if (!transport || !number) continue;
    std::vector<Endpoint> endpoints = TranslateEndpoints(from, *number, here);
    auto& known = slice.endpoints[{port.name(), *transport}];
    known.insert(known.end(), endpoints.begin(), endpoints.end());
  }
  return slice;
}

namespace {

// The hint that decides among the ready endpoints, if any does: the node's before the zone's.
Hint Endpoint::*DecidingHint(const std::vector<Endpoint>& endpoints) {
  for (Hint Endpoint::*hint : {&Endpoint::node_hint, &Endpoint::zone_hint}) {
    bool all = true, here = false;
    for (const Endpoint& endpoint : endpoints) {
      if (!endpoint.ready) continue;
      all &= endpoint.*hint != Hint::kNone;
      here |= endpoint.*hint == Hint::kHere;
    }
    if (all && here) return hint;
  }
  return nullptr;
}

}  // namespace

bool MayReachItself(const Service& service, const Endpoint& endpoint) {
  return !endpoint.elsewhere || service.external_local;
}

bool IsExternallyAccessible(const Service& service, const ServicePort& port) {
  return port.node_port != 0 || !service.external_ips.empty() || !service.load_balancer_ips.empty();
}

Selection SelectEndpoints(const Service& service, const ServicePort& port,
                          std::vector<Endpoint> endpoints) {
  // One address and port in two slices is one endpoint, and usable if either says so.
  std::sort(endpoints.begin(), endpoints.end(), [](const Endpoint& a, const Endpoint& b) {
    return std::tuple(a.address, a.port, !a.ready, !a.serving) <
           std::tuple(b.address, b.port, !b.ready, !b.serving);
  });
  endpoints.erase(std::unique(endpoints.begin(), endpoints.end(),
                              [](const Endpoint& a, const Endpoint& b) {
                                return a.address == b.address && a.port == b.port;
                              }),
                  endpoints.end());
  bool external = IsExternallyAccessible(service, port);
  // Pods reach the external addresses under policy Cluster whatever the policy for others is.
  bool uses_cluster = !service.internal_local || external;
  bool uses_local = service.internal_local || (external && service.external_local);

  // Ready ones; where there are none, those that go but still serve, rather than none.
  auto pick = [&](bool only_local) {
    std::vector<Endpoint> ready, leaving;
    for (const Endpoint& endpoint : endpoints) {
      if (only_local && !endpoint.local) continue;
      if (endpoint.ready) ready.push_back(endpoint);
      if (!endpoint.ready && endpoint.serving && endpoint.terminating) leaving.push_back(endpoint);
    }
    return ready.empty() ? leaving : ready;
  };
  Selection selection;
  std::vector<Endpoint> everywhere = pick(/*only_local=*/false);
  selection.any = !everywhere.empty();
  if (Hint Endpoint::*hint = DecidingHint(endpoints)) {
    std::erase_if(everywhere, [hint](const Endpoint& e) { return e.*hint != Hint::kHere; });
  }
  if (uses_cluster) selection.cluster = std::move(everywhere);
  if (uses_local) selection.local = pick(/*only_local=*/true);
  std::set_union(selection.cluster.begin(), selection.cluster.end(), selection.local.begin(),
                 selection.local.end(), std::back_inserter(selection.reachable));
  return selection;
}

}  // namespace skiff::agent::proxy
