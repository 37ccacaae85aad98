#include "agent/dns/node_address.h"

#include <algorithm>
#include <set>

#include "base/log.h"
#include "base/net/address_link.h"
#include "base/net/families.h"
#include "base/net/iptables.h"

namespace skiff::agent::dns {
namespace {

constexpr char kChain[] = "SKIFF-DNS";
constexpr std::string_view kAdd = "-A ";  // what listed rules begin with

struct Table {
  const char *name, *target;
  std::vector<const char*> asked, answered;  // chains that questions pass, and answers
};
const std::vector<Table>& Tables() {
  // Answers that come in have been to OUTPUT of this node: they are known to be untracked.
  static const auto& tables =
      *new std::vector<Table>{{"raw", "NOTRACK", {"PREROUTING", "OUTPUT"}, {"OUTPUT"}},
                              {"filter", "ACCEPT", {"INPUT", "OUTPUT"}, {"INPUT", "OUTPUT"}}};
  return tables;
}

// Jumps ask for the address first: every packet of the node is asked, those of pods' connections
// too.
std::vector<std::string> WantedJumps(const Table& table,
                                     const std::vector<net::IpAddress>& addresses,
                                     net::IpFamily family) {
  std::vector<std::string> jumps;
  auto add = [&](const char* chain, const char* end, const net::IpAddress& address) {
    jumps.push_back(std::string(chain) + " " + end + " " + net::IpPrefix::Host(address).ToString() +
                    " -m comment --comment \"skiff cluster DNS\" -j " + kChain);
  };
  for (const net::IpAddress& address : addresses) {
    if (address.family() != family) continue;
    for (const char* chain : table.asked) add(chain, "-d", address);
    for (const char* chain : table.answered) add(chain, "-s", address);
  }
  return jumps;
}

// The jumps to our chain that are there, "CHAIN rule".
Result<std::vector<std::string>> PresentJumps(net::Iptables& iptables, net::IpFamily family,
                                              const Table& table) {
  std::set<std::string> chains(table.asked.begin(), table.asked.end());
  chains.insert(table.answered.begin(), table.answered.end());
  std::vector<std::string> jumps;
  for (const std::string& chain : chains) {
    for (const std::string& rule : TRY(iptables.ListChain(family, table.name, chain))) {
      if (rule.ends_with(std::string(" -j ") + kChain)) jumps.push_back(rule.substr(kAdd.size()));
    }
  }
  return jumps;
}

bool IsOurs(std::string_view chain) { return chain == kChain; }

Result<> EnsureRules(net::Iptables& iptables, net::IpFamily family,
                     const std::vector<net::IpAddress>& addresses) {
  std::vector<std::string> jumps[2];
  for (size_t i = 0; i < Tables().size(); ++i) {
    jumps[i] = TRY(PresentJumps(iptables, family, Tables()[i]));
  }
  return iptables.Restore(family, PlanRules(addresses, family, jumps[0], jumps[1]));
}

}  // namespace

std::string PlanRules(const std::vector<net::IpAddress>& addresses, net::IpFamily family,
                      const std::vector<std::string>& present_raw_jumps,
                      const std::vector<std::string>& present_filter_jumps) {
  std::string out;
  const std::vector<std::string>* present = &present_raw_jumps;
  for (const Table& table : Tables()) {
    out += std::string("*") + table.name + "\n:" + kChain + " - [0:0]\n";
    for (const net::IpAddress& address : addresses) {
      if (address.family() != family) continue;
      for (const std::string transport : {"udp", "tcp"}) {
        for (const auto& [direction, port] :
             {std::pair("-d ", "--dport"), std::pair("-s ", "--sport")}) {
          out += std::string("-A ") + kChain + " " + direction + address.ToString() + " -p " +
                 transport + " -m " + transport + " " + port + " 53 -j " + table.target + "\n";
        }
      }
    }
    std::vector<std::string> missing = WantedJumps(table, addresses, family);
    for (const std::string& jump : *present) {
      // Once each; others are of other addresses.
      if (std::erase(missing, jump) == 0) out += "-D " + jump + "\n";
    }
    for (const std::string& jump : missing) {
      size_t space = jump.find(' ');
      out += "-I " + jump.substr(0, space) + " 1" + jump.substr(space) + "\n";
    }
    out += "COMMIT\n";
    present = &present_filter_jumps;
  }
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
