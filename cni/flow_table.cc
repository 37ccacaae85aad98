#include "cni/flow_table.h"

#include <netinet/in.h>

#include <algorithm>
#include <set>

#include "base/net/families.h"

namespace skiff::cni {
namespace {

using net::nft::Body;
using net::nft::Key;
using net::nft::Source;

Body OffloadRule(const net::IpPrefix& from, const net::IpPrefix& to) {
  const bool v4 = from.family() == net::IpFamily::kV4;
  return Body()
      .Is(Source::ProtocolFamily(), Key().Protocol(v4 ? net::nft::kNfIp4 : net::nft::kNfIp6))
      .Is(Source::L4Protocol(), Key().Protocol(IPPROTO_TCP))
      .In(net::nft::End::kSource, from)
      .In(net::nft::End::kDestination, to)
      .HasAny({Source::CtState()}, net::nft::kStateEstablished)
      .Then(net::nft::Offload{kFlowtable});
}

// Every pair of ranges of one family.
std::vector<net::nft::Rule> FlowRulesOf(const FlowTableSpec& spec) {
  std::vector<net::nft::Rule> rules;
  for (const net::IpPrefix& from : spec.ranges) {
    for (const net::IpPrefix& to : spec.ranges) {
      if (from.family() != to.family()) continue;
      rules.push_back({kFlowsChain, OffloadRule(from, to), "between pods"});
    }
  }
  return rules;
}

void AddFlowTable(const FlowTableSpec& spec, net::nft::Transaction* change) {
  change->AddTable();
  change->AddFlowtable({.name = kFlowtable, .devices = spec.links});
  change->AddChain(
      {.name = kFlowsChain,
       .base = net::nft::BaseChain{.hook = net::nft::Hook::kForward, .priority = kFlowsPriority}});
  for (net::nft::Rule& rule : FlowRulesOf(spec)) change->AddRule(std::move(rule));
}

}  // namespace

Result<std::vector<std::string>> ObserveFlowLinks(net::Rtnl& rtnl, const std::string& bridge) {
  std::set<int> used;
  for (net::IpFamily family : net::kIpFamilies) {
    for (const net::Route& route : TRY(rtnl.ListRoutes(family, net::RouteOwner::kSkiff))) {
      used.insert(route.link);
    }
  }
  std::vector<std::string> names;
  for (const net::Link& link : TRY(rtnl.ListLinks())) {
    if (link.up && (link.name == bridge || used.contains(link.index))) names.push_back(link.name);
  }
  std::ranges::sort(names);
  return names;
}

net::nft::Transaction PlanFlowTable(const FlowTableSpec& spec) {
  net::nft::Transaction change(FlowsTable());
  // Added first, so that there is one to delete.
  change.AddTable().DeleteTable();
  if (!spec.empty()) AddFlowTable(spec, &change);
  return change;
}

size_t FlowRules(const FlowTableSpec& spec) { return FlowRulesOf(spec).size(); }

Result<> CheckFlowTables(net::Nft& nft) {
  net::nft::Transaction change({FlowsTable().family, FlowsTable().name + "-check"});
  AddFlowTable({.links = {}, .ranges = {net::IpPrefix::Of(net::IpAddress::V4(0, 0, 0, 0), 0)}},
               &change);
  change.DeleteTable();
  auto tried = nft.Commit(std::move(change));
  if (tried.ok()) return tried;
  return Error(
      Code::kUnimplemented,
      "the kernel has no flow tables (CONFIG_NF_FLOW_TABLE_INET, CONFIG_NFT_FLOW_OFFLOAD): " +
          tried.error().message());
}

Result<> RemoveFlowTable(net::Nft& nft) {
  return net::RemoveTable(nft, FlowsTable()).With("remove the flow table of pods");
}

}  // namespace skiff::cni
