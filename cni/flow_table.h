// The short way of pods' TCP connections through their node: the kernel's flow table.
//
// Once a connection between two pods is established, and no chain has refused its packet, the
// packets that follow go from one of the pod network's links to the other as soon as they come in:
// past routing, connection tracking and the chains of Services, policies and everybody else. They
// are translated as the first ones were, and connections end on the long way. What a chain says
// about packets of established connections later on does not reach them; ours accept those
// (docs/design/0003-network-policies.md).
//
// TCP alone: of UDP, connections are forgotten at once where an endpoint goes.
#pragma once

#include <string>
#include <vector>

#include "base/net/ip.h"
#include "base/net/nft.h"
#include "base/net/rtnl.h"
#include "base/result.h"

namespace skiff::cni {

inline net::nft::Table FlowsTable() { return {net::nft::Family::kInet, "skiff-flows"}; }
inline constexpr char kFlowtable[] = "pods";
inline constexpr char kFlowsChain[] = "forward";
// Behind the chains of network policies (filter + 10 and + 11).
inline constexpr int kFlowsPriority = net::nft::kPriorityFilter + 20;

struct FlowTableSpec {
  std::vector<std::string> links;     // that carry pods' packets; sorted
  std::vector<net::IpPrefix> ranges;  // of all pods of the cluster
  bool empty() const { return links.empty() || ranges.empty(); }
  bool operator==(const FlowTableSpec&) const = default;
};

// The bridge and the links that lead to other nodes' pods, as far as they are there.
Result<std::vector<std::string>> ObserveFlowLinks(net::Rtnl& rtnl, const std::string& bridge);

// Pure: puts the table in the place of what there is, or takes it away where nothing is wanted.
// Connections that were on the short way find it again by their next packets.
net::nft::Transaction PlanFlowTable(const FlowTableSpec& spec);
// How many rules the table's chain has.
size_t FlowRules(const FlowTableSpec& spec);

// Whether the kernel can do it; nothing is in force at any time. Unimplemented: it cannot.
Result<> CheckFlowTables(net::Nft& nft);

// Succeeds where there is none.
Result<> RemoveFlowTable(net::Nft& nft);

}  // namespace skiff::cni
