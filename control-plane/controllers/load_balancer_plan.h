// What a Service of type LoadBalancer gets: addresses, and the node that answers for them. Pure.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/net/ip.h"
#include "proto/k8s/fwd.h"

namespace skiff::cp {

// The class that asks for this controller, as no class does.
inline constexpr char kLoadBalancerClass[] = "skiff.dev/load-balancer";
// Of a Service: the node whose agent answers for its addresses of the pool.
inline constexpr char kAnnouncingNodeAnnotation[] = "skiff.dev/load-balancer-node";

// Whether this controller gives the Service its addresses.
bool WantsLoadBalancer(const k8s::core::v1::Service& service);
// Whether only nodes with endpoints of the Service take its traffic.
bool OnlyNodesWithEndpoints(const k8s::core::v1::Service& service);
std::vector<net::IpFamily> FamiliesOf(const k8s::core::v1::Service& service);
// Those of its status.
std::vector<net::IpAddress> BalancerAddressesOf(const k8s::core::v1::Service& service);

using NodeList = std::vector<std::shared_ptr<const k8s::core::v1::Node>>;
// Ready, not leaving, and not labelled to be left out.
bool TakesExternalTraffic(const k8s::core::v1::Node& node);
// What of a node matters here: changes of anything else may be ignored.
std::string NodeFacts(const k8s::core::v1::Node& node);

// The nodes' own addresses of the families, in the order of the families and then of the addresses:
// external ones, if any node has one, else internal ones.
std::vector<net::IpAddress> NodeAddresses(const NodeList& nodes,
                                          const std::vector<net::IpFamily>& families);
// The one of the nodes that answers for a Service: the present one as long as it can, else one by
// chance of the names, so that Services spread and one that comes back changes little. "" for none.
std::string ElectNode(const std::string& service, const std::string& present,
                      const std::set<std::string>& nodes);

// "80/TCP" of every port.
std::set<std::string> PortClaims(const k8s::core::v1::Service& service);

}  // namespace skiff::cp
