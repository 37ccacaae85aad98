// The rules of network policies, planned from what is known, as nftables tables. Pure.
//
// A pod that a policy selects is isolated in the policy's directions: its address leads, by a
// verdict map, to a chain that jumps to the chains of its policies one after the other and drops
// what none of them accepted. Pods with the same policies share the chain, so that one that comes
// or goes is one element. Egress and ingress are base chains of their own: what the first accepts
// the second still looks at. docs/design/0003-network-policies.md draws the table.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "agent/policy/model.h"
#include "base/net/nft.h"

namespace skiff::agent::policy {

// One table in each family.
net::nft::Table TableOf(net::IpFamily family);

inline constexpr char kIngressPods[] = "ingress-pods";
inline constexpr char kEgressPods[] = "egress-pods";
// The chain that tells whether the rules are whole: it always has this many rules.
inline constexpr char kWitnessChain[] = "ingress-forward";
inline constexpr size_t kWitnessRules = 3;

using Policies = std::map<std::string, Policy>;  // by "namespace/name"

// A set whose elements the planner knows, by key.
struct PlannedSet {
  net::nft::Set set;
  std::map<net::nft::Bytes, net::nft::Element> elements;
  bool operator==(const PlannedSet&) const = default;
};

// What one family's table is to hold. Empty: no table.
struct TablePlan {
  std::map<std::string, std::vector<net::nft::Rule>> chains;  // but for the base chains
  std::map<std::string, PlannedSet> sets;
  std::map<std::string, net::nft::Set> address_sets;  // by the address set's name
  bool empty() const { return sets.empty(); }
};

struct PlanInput {
  const Policies* policies = nullptr;
  // In the order in which they got their addresses: of two with the same one, the later has it.
  std::vector<const LocalPod*> pods;
  // Addresses that are isolated though nobody knows yet whose they are.
  std::set<net::IpAddress> unknown_ingress, unknown_egress;
};
TablePlan PlanTable(net::IpFamily family, const PlanInput& input);

// The element of a member in its set.
net::nft::Element ElementOf(const Member& member);

// The base chains and their rules, the same for every plan.
std::vector<net::nft::Chain> BaseChains();
std::vector<net::nft::Rule> BaseRules(net::IpFamily family);

}  // namespace skiff::agent::policy
