#include "agent/dns/node_address.h"

#include <algorithm>

#include "base/log.h"
#include "base/net/address_link.h"
#include "base/net/families.h"
#include "base/net/iptables.h"

namespace skiff::agent::dns {
namespace {

constexpr char kChain[] = "SKIFF-DNS";

std::vector<std::string> Jumps(const std::vector<const char*>& chains) {
  std::vector<std::string> jumps;
  for (const char* chain : chains) {
    jumps.push_back(std::string(chain) + " -m comment --comment \"skiff cluster DNS\" -j " +
                    kChain);
  }
  return jumps;
}
std::vector<std::string> RawJumps() { return Jumps({"PREROUTING", "OUTPUT"}); }
std::vector<std::string> FilterJumps() { return Jumps({"INPUT", "OUTPUT"}); }

bool IsOurs(std::string_view chain) { return chain == kChain; }

Result<> EnsureRules(net::Iptables& iptables, net::IpFamily family,
                     const std::vector<net::IpAddress>& addresses) {
  auto raw = TRY(net::MissingJumps(iptables, family, "raw", RawJumps()));
  auto filter = TRY(net::MissingJumps(iptables, family, "filter", FilterJumps()));
  return iptables.Restore(family, PlanRules(addresses, family, raw, filter));
}

}  // namespace

std::string PlanRules(const std::vector<net::IpAddress>& addresses, net::IpFamily family,
                      const std::vector<std::string>& missing_raw_jumps,
                      const std::vector<std::string>& missing_filter_jumps) {
  std::string out;
  auto table = [&](const std::string& name, const std::string& target,
                   const std::vector<std::string>& jumps) {
    out += "*" + name + "\n:" + kChain + " - [0:0]\n";
    for (const net::IpAddress& address : addresses) {
      if (address.family() != family) continue;
      for (const std::string transport : {"udp", "tcp"}) {
        for (const auto& [direction, port] :
             {std::pair("-d ", "--dport"), std::pair("-s ", "--sport")}) {
          out += std::string("-A ") + kChain + " " + direction + address.ToString() + " -p " +
                 transport + " -m " + transport + " " + port + " 53 -j " + target + "\n";
        }
      }
    }
    for (const std::string& jump : jumps) {
      size_t space = jump.find(' ');
      out += "-I " + jump.substr(0, space) + " 1" + jump.substr(space) + "\n";
    }
    out += "COMMIT\n";
  };
  table("raw", "NOTRACK", missing_raw_jumps);
  table("filter", "ACCEPT", missing_filter_jumps);
  return out;
}

Result<> EnsureNodeAddresses(net::Rtnl& rtnl, net::Iptables& iptables,
                             const std::vector<net::IpAddress>& addresses) {
  TRY(net::EnsureAddressLink(rtnl, kDnsLink, addresses)
          .With("give the node the cluster DNS addresses"));
  for (net::IpFamily family : net::kIpFamilies) {
    bool wanted = std::any_of(addresses.begin(), addresses.end(),
                              [&](const auto& address) { return address.family() == family; });
    if (!wanted || !iptables.Supports(family)) continue;
    auto rules = EnsureRules(iptables, family, addresses);
    if (!rules.ok()) {
      log::Warning("DNS packets stay in connection tracking; answers come all the same",
                   {{"error", rules.error()}});
    }
  }
  return {};
}

Result<> RemoveNodeAddresses(net::Rtnl& rtnl, net::Iptables& iptables) {
  for (net::IpFamily family : net::kIpFamilies) {
    if (!iptables.Supports(family)) continue;
    TRY(net::RemoveChains(iptables, family, "filter", IsOurs));
    // A kernel without the raw table has none of our rules in it.
    (void)net::RemoveChains(iptables, family, "raw", IsOurs);
  }
  return rtnl.DeleteLinkIfPresent(kDnsLink);
}

}  // namespace skiff::agent::dns
