// The pod network's packet filter rules, planned from leases and CIDRs. Pure.
//
// Chains (one family each; the mark is bit 13, as 14 and 15 are kube-proxy's and the kubelet's):
//   nat     SKIFF-HOSTPORTS      from PREROUTING and OUTPUT, for local addresses: a jump a port
//           SKIFF-HP-<hash>      one a pod with host ports: marks, then DNAT to the pod
//           SKIFF-MARK-MASQ      marks what must come back through this node
//           SKIFF-POSTROUTING    masquerades what is marked and what pods send outside the cluster
//   filter  SKIFF-INPUT          keeps pods from the node's 127.0.0.0/8, which route_localnet opens
//           SKIFF-FORWARD        accepts what goes to and from pods, and services' traffic to pods
//                                of other nodes; last in FORWARD, so that others' refusals stand
//
// Where CNI plugins make the pods' network, a chain of filter alone (cni/pod_forwarding.h):
//           SKIFF-PODS           in FORWARD, as SKIFF-FORWARD, for all pods of the cluster
#pragma once

#include <string>
#include <vector>

#include "base/net/ip.h"
#include "cni/leases.h"

namespace skiff::cni {

// What the chains' names begin with: "SKIFF" above. A chain has at most 28 characters, so this has
// at most 8.
inline constexpr std::string_view kNodeChains = "SKIFF";

struct NodeRulesSpec {
  net::IpFamily family = net::IpFamily::kV4;
  std::string chains{kNodeChains};
  std::string bridge;
  std::vector<net::IpPrefix> pod_cidrs;      // of this family
  std::vector<net::IpPrefix> cluster_cidrs;  // of this family
  bool masquerade = true;
};

// The built-in chains' jumps to ours, "CHAIN rule", for net::MissingJumps.
std::vector<std::string> NatJumps(std::string_view chains = kNodeChains);
std::vector<std::string> FilterJumps(std::string_view chains = kNodeChains);

// A whole payload for iptables-restore --noflush: every chain above, the host ports of the leases,
// and the jumps that are missing. Applied again, it changes nothing.
std::string PlanNodeRules(const NodeRulesSpec& spec, const std::vector<Lease>& leases,
                          const std::vector<std::string>& missing_nat_jumps,
                          const std::vector<std::string>& missing_filter_jumps);

// The payload that makes the host ports those of the leases. gone: a lease, not among them, whose
// chain is to be deleted; or null.
std::string PlanHostPorts(const NodeRulesSpec& spec, const std::vector<Lease>& leases,
                          const Lease* gone);

// Whether the pod has host ports in the family.
bool HasHostPorts(const Lease& lease, net::IpFamily family);

// Whether a chain of this name is one of the network's, of nat or filter, but SKIFF-PODS.
bool IsNodeChain(std::string_view chains, std::string_view chain);

inline constexpr std::string_view kPodsChain = "SKIFF-PODS";
std::vector<std::string> PodsJumps();
// A whole payload, as PlanNodeRules. Of the CIDRs, those of the family count.
std::string PlanPodForwarding(net::IpFamily family, const std::vector<net::IpPrefix>& pod_cidrs,
                              const std::vector<std::string>& missing_jumps);

}  // namespace skiff::cni
