// The DNS service's addresses on this node: a link that carries them, and rules that keep its
// packets out of connection tracking.
//
// A pod's question to the service's virtual address ends on the node that the pod runs on, without
// address translation and without a conntrack entry: parallel questions from one socket cannot race
// for one (https://github.com/kubernetes/kubernetes/issues/56903).
#pragma once

#include <string>
#include <vector>

#include "base/net/ip.h"
#include "base/net/rtnl.h"
#include "base/result.h"

namespace skiff::net {
class Iptables;
}

namespace skiff::agent::dns {

inline constexpr char kDnsLink[] = "skiff-dns";

// Makes the link and the rules what they should be, whatever they are. Blocks for some ms.
// Rules that cannot be made (no raw table) are a warning: DNS answers without them too.
Result<> EnsureNodeAddresses(net::Rtnl& rtnl, net::Iptables& iptables,
                             const std::vector<net::IpAddress>& addresses);
// Succeeds when there are none.
Result<> RemoveNodeAddresses(net::Rtnl& rtnl, net::Iptables& iptables);

// Pure: what EnsureNodeAddresses gives to iptables-restore for one family, where built-in chains
// have these jumps to ours, "PREROUTING -d ... -j SKIFF-DNS".
std::string PlanRules(const std::vector<net::IpAddress>& addresses, net::IpFamily family,
                      const std::vector<std::string>& present_raw_jumps,
                      const std::vector<std::string>& present_filter_jumps);

}  // namespace skiff::agent::dns
