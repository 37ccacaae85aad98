#include "cni/rules.h"

#include <algorithm>

#include "base/net/iptables.h"
#include "base/net/short_hash.h"

namespace skiff::cni {
namespace {

constexpr std::string_view kMark = "0x2000/0x2000";
constexpr std::string_view kServiceMark = "0x4000/0x4000";  // the service proxy's

std::string ChainOf(const NodeRulesSpec& spec, const Lease& lease) {
  return spec.chains + "-HP-" + net::ShortHashBase32(lease.sandbox_id, 16);
}

const net::IpAddress* PodAddressOf(const Lease& lease, net::IpFamily family) {
  for (const PodAddress& address : lease.attachment.addresses) {
    if (address.address.family() == family) return &address.address;
  }
  return nullptr;
}

bool AppliesTo(const PortMapping& port, net::IpFamily family) {
  return !port.host_ip || port.host_ip->family() == family;
}

// "-d 10.0.0.1/32 -p tcp -m tcp --dport 8080"
std::string MatchOf(const PortMapping& port) {
  std::string protocol(ProtocolName(port.protocol));
  std::string match;
  if (port.host_ip) match = "-d " + net::IpPrefix::Host(*port.host_ip).ToString() + " ";
  return match + "-p " + protocol + " -m " + protocol + " --dport " +
         std::to_string(port.host_port);
}

void AddPodChain(std::string& out, const NodeRulesSpec& spec, const Lease& lease) {
  const net::IpAddress& pod = *PodAddressOf(lease, spec.family);
  std::string add = "-A " + ChainOf(spec, lease) + " ";
  for (const PortMapping& port : lease.ports) {
    if (!AppliesTo(port, spec.family)) continue;
    std::string match = MatchOf(port);
    // The pod's own way to itself, and local programs on 127.0.0.1: answers must come back here.
    const std::string mark = " -j " + spec.chains + "-MARK-MASQ\n";
    out += add + "-s " + net::IpPrefix::Host(pod).ToString() + " " + match + mark;
    if (spec.family == net::IpFamily::kV4) out += add + "-s 127.0.0.0/8 " + match + mark;
    out += add + match + " -j DNAT --to-destination " + pod.WithPort(port.container_port) + "\n";
  }
}

// The chains of host ports, filled; without table header and COMMIT.
std::string HostPortChains(const NodeRulesSpec& spec, const std::vector<Lease>& leases) {
  std::string out =
      ":" + spec.chains + "-HOSTPORTS - [0:0]\n:" + spec.chains + "-MARK-MASQ - [0:0]\n";
  std::string rules =
      "-A " + spec.chains + "-MARK-MASQ -j MARK --set-xmark " + std::string(kMark) + "\n";
  for (const Lease& lease : leases) {
    if (!HasHostPorts(lease, spec.family)) continue;
    out += ":" + ChainOf(spec, lease) + " - [0:0]\n";
    AddPodChain(rules, spec, lease);
    for (const PortMapping& port : lease.ports) {
      if (!AppliesTo(port, spec.family)) continue;
      rules += "-A " + spec.chains + "-HOSTPORTS " + MatchOf(port) + " -m comment --comment \"" +
               net::CommentText(lease.pod_namespace + "/" + lease.pod_name) + "\" -j " +
               ChainOf(spec, lease) + "\n";
    }
  }
  return out + rules;
}

std::string PostroutingRules(const NodeRulesSpec& spec) {
  const std::string add = "-A " + spec.chains + "-POSTROUTING ";
  std::string out = ":" + spec.chains + "-POSTROUTING - [0:0]\n";
  out += add + "-m mark --mark " + std::string(kMark) + " -j MASQUERADE --random-fully\n";
  if (spec.family == net::IpFamily::kV4) {
    // Host ports and node ports asked for on 127.0.0.1 leave towards a pod with that source.
    out += add + "-s 127.0.0.0/8 -o " + spec.bridge + " -j MASQUERADE --random-fully\n";
  }
  if (!spec.masquerade) return out;
  for (const net::IpPrefix& pods : spec.pod_cidrs) {
    std::string from = add + "-s " + pods.ToString() + " ";
    for (const net::IpPrefix& cluster : spec.cluster_cidrs) {
      out += from + "-d " + cluster.ToString() + " -j RETURN\n";
    }
    bool v4 = spec.family == net::IpFamily::kV4;
    out += from + "-d " + (v4 ? "224.0.0.0/4" : "ff00::/8") + " -j RETURN\n";
    out += from + "-m comment --comment \"pods to the outside\" -j MASQUERADE --random-fully\n";
  }
  return out;
}

// What passes the node to and from pods of these ranges, and what Services send on.
std::string ForwardRules(std::string_view chain, net::IpFamily family,
                         const std::vector<net::IpPrefix>& pod_cidrs) {
  const std::string add = "-A " + std::string(chain) + " ";
  std::string out;
  for (const net::IpPrefix& pods : pod_cidrs) {
    if (pods.family() != family) continue;
    out += add + "-s " + pods.ToString() + " -j ACCEPT\n";
    out += add + "-d " + pods.ToString() + " -j ACCEPT\n";
  }
  // What the service proxy's nftables mode lets in for pods of other nodes; it cannot accept in the
  // place of these tables.
  out += add + "-m mark --mark " + std::string(kServiceMark) + " -j ACCEPT\n";
  return out + add + "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n";
}

std::string AppendJumps(const std::vector<std::string>& jumps) {
  std::string out;
  for (const std::string& jump : jumps) out += "-A " + jump + "\n";
  return out;
}

}  // namespace

std::vector<std::string> NatJumps(std::string_view chains) {
  const std::string to = " -j " + std::string(chains);
  const std::string host_ports =
      " -m comment --comment \"skiff host ports\" -m addrtype --dst-type LOCAL" + to + "-HOSTPORTS";
  return {"PREROUTING" + host_ports, "OUTPUT" + host_ports,
          "POSTROUTING -m comment --comment \"skiff pod network\"" + to + "-POSTROUTING"};
}

std::vector<std::string> FilterJumps(std::string_view chains) {
  // Without a comment: every packet of the node passes here, and a comment is a match.
  const std::string to = " -j " + std::string(chains);
  return {"INPUT" + to + "-INPUT", "FORWARD" + to + "-FORWARD"};
}

bool HasHostPorts(const Lease& lease, net::IpFamily family) {
  return PodAddressOf(lease, family) != nullptr &&
         std::any_of(lease.ports.begin(), lease.ports.end(),
                     [family](const PortMapping& port) { return AppliesTo(port, family); });
}

std::string PlanNodeRules(const NodeRulesSpec& spec, const std::vector<Lease>& leases,
                          const std::vector<std::string>& missing_nat_jumps,
                          const std::vector<std::string>& missing_filter_jumps) {
  const std::string input = spec.chains + "-INPUT", forward = spec.chains + "-FORWARD";
  std::string out = "*nat\n" + HostPortChains(spec, leases) + PostroutingRules(spec) +
                    AppendJumps(missing_nat_jumps) + "COMMIT\n*filter\n:" + input +
                    " - [0:0]\n:" + forward + " - [0:0]\n";
  if (spec.family == net::IpFamily::kV4) {
    out += "-A " + input + " -d 127.0.0.0/8 -i " + spec.bridge +
           " -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP\n";
  }
  out += ForwardRules(forward, spec.family, spec.pod_cidrs);
  return out + AppendJumps(missing_filter_jumps) + "COMMIT\n";
}

std::string PlanHostPorts(const NodeRulesSpec& spec, const std::vector<Lease>& leases,
                          const Lease* gone) {
  std::string out = "*nat\n" + HostPortChains(spec, leases);
  if (gone != nullptr && HasHostPorts(*gone, spec.family)) {
    out += ":" + ChainOf(spec, *gone) + " - [0:0]\n-X " + ChainOf(spec, *gone) + "\n";
  }
  return out + "COMMIT\n";
}

bool IsNodeChain(std::string_view chains, std::string_view chain) {
  if (!chain.starts_with(chains)) return false;
  chain.remove_prefix(chains.size());
  if (chain.starts_with("-HP-")) return true;
  constexpr std::string_view kNames[] = {"-HOSTPORTS", "-MARK-MASQ", "-POSTROUTING", "-INPUT",
                                         "-FORWARD"};
  return std::find(std::begin(kNames), std::end(kNames), chain) != std::end(kNames);
}

std::vector<std::string> PodsJumps() { return {"FORWARD -j " + std::string(kPodsChain)}; }

std::string PlanPodForwarding(net::IpFamily family, const std::vector<net::IpPrefix>& pod_cidrs,
                              const std::vector<std::string>& missing_jumps) {
  return "*filter\n:" + std::string(kPodsChain) + " - [0:0]\n" +
         ForwardRules(kPodsChain, family, pod_cidrs) + AppendJumps(missing_jumps) + "COMMIT\n";
}

}  // namespace skiff::cni
