// The rules of a service on this node, and of all services: pure functions from state to rules, in
// kube-proxy's shape (chain names, comments and order as `iptables-save` shows them there), but
// that endpoints have chains of their own only where they need them (PortPlanner::HasChain).
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "agent/proxy/model.h"
#include "base/net/ip.h"

namespace skiff::agent::proxy {

// What the rules of one family depend on besides services.
struct PlanContext {
  net::IpFamily family = net::IpFamily::kV4;
  std::optional<net::IpPrefix> cluster_cidr;  // the pods; none: local traffic cannot be told
  bool masquerade_all = false;
  std::string mark;                               // "0x4000"
  std::vector<net::IpPrefix> nodeport_addresses;  // empty: all
  bool localhost_nodeports = true;
};

// A service with the endpoints of its slices, by port name and transport: immutable once made.
struct ServiceState {
  Service service;
  std::map<std::pair<std::string, Transport>, std::vector<Endpoint>> endpoints;
  bool operator==(const ServiceState&) const = default;
};

// "ns/name:port", or "ns/name" where the port has no name.
std::string ServicePortName(const ObjectKey& key, const ServicePort& port);
// Which endpoints of one family get a port's traffic.
Selection SelectEndpoints(const ServiceState& state, const ServicePort& port, net::IpFamily family);

// Chains that every service puts rules into.
enum class SharedChain : uint8_t {
  kNatServices,      // nat KUBE-SERVICES; its last rule is the jump to KUBE-NODEPORTS
  kNatNodePorts,     // nat KUBE-NODEPORTS
  kFilterServices,   // filter KUBE-SERVICES
  kFilterExternal,   // filter KUBE-EXTERNAL-SERVICES
  kFilterNodePorts,  // filter KUBE-NODEPORTS
  kFilterFirewall,   // filter KUBE-PROXY-FIREWALL
};
inline constexpr size_t kSharedChains = 6;
inline constexpr std::array<SharedChain, kSharedChains> kAllSharedChains = {
    SharedChain::kNatServices,    SharedChain::kNatNodePorts,    SharedChain::kFilterServices,
    SharedChain::kFilterExternal, SharedChain::kFilterNodePorts, SharedChain::kFilterFirewall};
std::string_view SharedChainName(SharedChain chain);
bool IsNat(SharedChain chain);

// Rules are without "-A CHAIN ".
struct ServicePlan {
  std::map<std::string, std::vector<std::string>> chains;  // its own, all in nat
  std::array<std::vector<std::string>, kSharedChains> shared;

  std::vector<std::string>& in(SharedChain chain) { return shared[static_cast<size_t>(chain)]; }
  const std::vector<std::string>& in(SharedChain chain) const {
    return shared[static_cast<size_t>(chain)];
  }
  size_t rules() const;
};

// The rules of one service in the context's family; empty for null.
ServicePlan PlanService(const PlanContext& context, const ObjectKey& key,
                        const ServiceState* state);

// The chains that exist whether or not there are services, by table, with the rules that do not
// come from services. For shared chains these are the rules behind those of the services.
using Chains = std::map<std::string, std::vector<std::string>>;
Chains BaseNatChains(const PlanContext& context);
Chains BaseFilterChains(const PlanContext& context);
// The built-in chains' jumps, "CHAIN rule"; they go before what is there.
std::vector<std::string> NatJumps();
std::vector<std::string> FilterJumps();

// Whether a chain of this name is made for a service: "KUBE-SVC-...", "KUBE-SEP-...", ...
bool IsServiceChain(std::string_view chain);
// Whether the proxy makes a chain of this name at all.
bool IsProxyChain(std::string_view chain);
inline constexpr std::string_view kCanaryChain = "KUBE-PROXY-CANARY";

// "KUBE-SVC-" and so on with kube-proxy's hash. port: "ns/name:port" or "ns/name".
std::string ServiceChain(std::string_view prefix, std::string_view port, Transport transport);
std::string EndpointChain(std::string_view port, Transport transport, const Endpoint& endpoint);

}  // namespace skiff::agent::proxy
