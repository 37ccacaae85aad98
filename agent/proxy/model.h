// What the proxy keeps of Services and EndpointSlices, and what one service port looks like on one
// node. Values; pure functions.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/net/ip.h"
#include "base/result.h"
#include "proto/k8s/fwd.h"

namespace skiff::agent::proxy {

// "namespace/name" of a Service or an EndpointSlice.
struct ObjectKey {
  std::string name_space, name;
  auto operator<=>(const ObjectKey&) const = default;
  std::string ToString() const { return name_space + "/" + name; }
};

enum class Transport : uint8_t { kTcp, kUdp, kSctp };
// "tcp", "udp", "sctp".
std::string_view TransportName(Transport transport);

struct ServicePort {
  std::string name;
  Transport transport = Transport::kTcp;
  uint16_t port = 0;
  uint16_t node_port = 0;  // 0: none
  bool operator==(const ServicePort&) const = default;
};

// A Service that needs proxying.
struct Service {
  std::vector<net::IpAddress> cluster_ips;
  std::vector<net::IpAddress> external_ips;
  // Of status.loadBalancer, those whose ipMode is VIP.
  std::vector<net::IpAddress> load_balancer_ips;
  std::vector<net::IpPrefix> source_ranges;  // for load_balancer_ips; empty: from everywhere
  std::vector<ServicePort> ports;
  // Session affinity by client address, for so long; 0: none.
  uint32_t affinity_seconds = 0;
  bool external_local = false;  // externalTrafficPolicy: Local
  bool internal_local = false;  // internalTrafficPolicy: Local
  uint16_t health_check_node_port = 0;
  bool operator==(const Service&) const = default;
};

// Whom the EndpointSlice's topology hints give an endpoint to.
enum class Hint : uint8_t {
  kNone,    // there is no hint of the kind
  kOthers,  // only others
  kHere,    // this node, or this node's zone
};

// Where this node is, as slices name it. Empty: not known.
struct Place {
  std::string node;
  std::string zone;  // its label topology.kubernetes.io/zone
};

struct Endpoint {
  net::IpAddress address;
  uint16_t port = 0;
  bool local = false;        // on this node
  bool elsewhere = false;    // on another one; neither where the slice does not say
  bool ready = false;        // gets traffic
  bool serving = false;      // would answer
  bool terminating = false;  // about to go
  Hint zone_hint = Hint::kNone;
  Hint node_hint = Hint::kNone;
  auto operator<=>(const Endpoint&) const = default;
};

// One port of one slice: its endpoints by port name and transport.
struct Slice {
  ObjectKey service;
  std::map<std::pair<std::string, Transport>, std::vector<Endpoint>> endpoints;
  bool operator==(const Slice&) const = default;
};

// Nothing for Services without a virtual IP (headless, ExternalName) and for those that
// service.kubernetes.io/service-proxy-name leaves to another proxy. What does not parse in a field
// is left out: the API server has validated it, and one bad address must not take a Service down.
std::optional<Service> TranslateService(const k8s::core::v1::Service& service);
// Nothing for slices of no Service, of headless ones, and of names instead of addresses.
std::optional<Slice> TranslateSlice(const k8s::discovery::v1::EndpointSlice& slice,
                                    const Place& here);

// Which endpoints of a service port get traffic, as KEP-2086, KEP-1669, KEP-2433 and kube-proxy
// decide. Hints count for policy Cluster only, and only if all ready endpoints have them and one is
// hinted for here.
struct Selection {
  std::vector<Endpoint> cluster;    // for policy Cluster
  std::vector<Endpoint> local;      // for policy Local
  std::vector<Endpoint> reachable;  // the union, sorted
  bool any = false;                 // the service has a usable endpoint on some node
};
Selection SelectEndpoints(const Service& service, const ServicePort& port,
                          std::vector<Endpoint> endpoints);

// Whether the endpoint may reach itself by way of this node: asked by the pod that it is, it would
// answer that pod directly, from an address the pod did not ask, so that is masqueraded. Those of
// other nodes are told apart there; what they send to this node's own addresses is masqueraded
// anyway, but for policy Local.
bool MayReachItself(const Service& service, const Endpoint& endpoint);

// Whether traffic comes in by other ways than the cluster IP.
bool IsExternallyAccessible(const Service& service, const ServicePort& port);

}  // namespace skiff::agent::proxy
