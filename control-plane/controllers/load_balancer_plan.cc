#include "control-plane/controllers/load_balancer_plan.h"

#include <algorithm>

#include "base/net/short_hash.h"
#include "control-plane/controllers/framework/objects.h"
#include "control-plane/controllers/node_health.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/service.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::Node;
using k8s::core::v1::Service;

constexpr char kExcludedLabel[] = "node.kubernetes.io/exclude-from-external-load-balancers";
constexpr size_t kRankCharacters = 12;

}  // namespace

bool WantsLoadBalancer(const Service& service) {
  const auto& spec = service.spec();
  return spec.type() == "LoadBalancer" && !IsBeingDeleted(service.metadata()) &&
         (!spec.has_load_balancer_class() || spec.load_balancer_class() == kLoadBalancerClass);
}

bool OnlyNodesWithEndpoints(const Service& service) {
  return service.spec().external_traffic_policy() == "Local";
}

std::vector<net::IpFamily> FamiliesOf(const Service& service) {
  std::vector<net::IpFamily> families;
  for (const std::string& family : service.spec().ip_families()) {
    families.push_back(family == "IPv6" ? net::IpFamily::kV6 : net::IpFamily::kV4);
  }
  if (families.empty()) {
    auto address = net::IpAddress::Parse(service.spec().cluster_ip());
    families.push_back(address.ok() ? address->family() : net::IpFamily::kV4);
  }
  return families;
}

std::vector<net::IpAddress> BalancerAddressesOf(const Service& service) {
  std::vector<net::IpAddress> addresses;
  for (const auto& ingress : service.status().load_balancer().ingress()) {
    if (auto address = net::IpAddress::Parse(ingress.ip()); address.ok()) {
      addresses.push_back(*address);
    }
  }
  return addresses;
}

bool TakesExternalTraffic(const Node& node) {
  return ReadyStatus(node) == "True" && !IsBeingDeleted(node.metadata()) &&
         !node.metadata().labels().contains(kExcludedLabel);
}

std::string NodeFacts(const Node& node) {
  std::string facts = TakesExternalTraffic(node) ? "takes" : "";
  for (const auto& address : node.status().addresses()) {
    facts += " " + address.type() + "=" + address.address();
  }
  return facts;
}

std::vector<net::IpAddress> NodeAddresses(const NodeList& nodes,
                                          const std::vector<net::IpFamily>& families) {
  for (const char* type : {"ExternalIP", "InternalIP"}) {
    std::set<net::IpAddress> found;
    for (const auto& node : nodes) {
      for (const auto& entry : node->status().addresses()) {
        auto address = net::IpAddress::Parse(entry.address());
        if (entry.type() == type && address.ok()) found.insert(*address);
      }
    }
    std::vector<net::IpAddress> addresses;
    for (net::IpFamily family : families) {
      std::ranges::copy_if(found, std::back_inserter(addresses),
                           [family](const auto& address) { return address.family() == family; });
    }
    if (!addresses.empty()) return addresses;
  }
  return {};
}

std::string ElectNode(const std::string& service, const std::string& present,
                      const std::set<std::string>& nodes) {
  if (nodes.contains(present)) return present;
  std::string elected, highest;
  for (const std::string& node : nodes) {
    std::string rank = net::ShortHashBase32(service + " " + node, kRankCharacters);
    if (elected.empty() || rank > highest) {
      elected = node;
      highest = rank;
    }
  }
  return elected;
}

std::set<std::string> PortClaims(const Service& service) {
  std::set<std::string> claims;
  for (const auto& port : service.spec().ports()) {
    claims.insert(std::to_string(port.port()) + "/" + port.protocol());
  }
  return claims;
}

}  // namespace skiff::cp
