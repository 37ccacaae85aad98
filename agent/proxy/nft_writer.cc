#include "agent/proxy/nft_writer.h"

#include <algorithm>
#include <optional>

#include "agent/proxy/proxy.h"
#include "base/log.h"
#include "base/net/conntrack.h"
#include "base/net/families.h"

namespace skiff::agent::proxy {
namespace {

// Chains that always have rules: where these have fewer, somebody removed them.
constexpr const char* kWitnesses[] = {"services", "prerouting", "output", "postrouting"};

size_t RulesOf(const PlanContext& context, std::string_view chain) {
  for (const ChainPlan& plan : BaseChains(context)) {
    if (plan.chain.name == chain) return plan.rules.size();
  }
  return 0;
}

// A path of each kind, so that everything a service may ask for is tried.
net::nft::Transaction PlanProbe(const PlanContext& context) {
  NftRules rules(context);
  net::nft::Table scratch = rules.table();
  scratch.name += "-probe";
  net::nft::Transaction probe(scratch);
  probe.AddTable();
  for (ProxySet set : kAllProxySets) probe.AddSet(DeclareSet(set, context.family));
  std::vector<ChainPlan> chains = BaseChains(context);
  chains.push_back(SourceRangeChain(context, {8}));
  for (const Path& path :
       {Path{.kind = Path::Kind::kReject}, Path{.kind = Path::Kind::kExternalLocal,
                                           .guarded = true,
                                           .cluster_endpoints = 3,
                                           .local_endpoints = 2,
                                           .affinity_seconds = 60}}) {
    for (ChainPlan& plan : ChainsOfPath(context, path)) chains.push_back(std::move(plan));
  }
  for (const ChainPlan& plan : chains) probe.AddChain(plan.chain);
  for (const ChainPlan& plan : chains) {
    for (const net::nft::Rule& rule : plan.rules) probe.AddRule(rule);
  }
  // In the same transaction: nothing of it is ever in force.
  return std::move(probe.DeleteTable());
}

}  // namespace

Result<> ProbeNftables(net::Nft& nft, const PlanContext& context) {
  return nft.Commit(PlanProbe(context));
}

Result<std::unique_ptr<NftWriter>> NftWriter::Make(std::vector<PlanContext> contexts,
                                                   net::Nft& nft) {
  std::unique_ptr<NftWriter> writer(new NftWriter(nft));
  std::optional<Error> why_not;
  for (PlanContext& context : contexts) {
    Result<> can = ProbeNftables(nft, context);
    if (can.ok()) {
      writer->families_.push_back({NftRules(std::move(context))});
    } else {
      why_not = can.error();
    }
  }
  if (writer->families_.empty()) {
    return Error(Code::kUnimplemented,
                 "the kernel cannot do the nftables mode of the service proxy, set proxy.mode to "
                 "iptables: " +
                     (why_not ? why_not->message() : "no address family"));
  }
  return writer;
}

// The UDP destinations of a run before.
Result<> NftWriter::ReadExisting(const NftRules& rules, ExistingRules& existing) const {
  const net::IpFamily family = rules.context().family;
  const size_t address_size = family == net::IpFamily::kV4 ? 4 : 16;
  auto port_at = [](const net::nft::Bytes& key, size_t at) {
    return static_cast<uint16_t>(static_cast<uint8_t>(key[at]) << 8 |
                                 static_cast<uint8_t>(key[at + 1]));
  };
  auto is_udp = [](const net::nft::Bytes& key, size_t at) {
    return static_cast<uint8_t>(key[at]) == net::kProtocolUdp;
  };
  const net::nft::Set frontends = DeclareSet(ProxySet::kFrontends, family);
  for (const auto& element : TRY(nft_.ListElements(rules.table(), frontends.name))) {
    if (element.key.size() != frontends.key_size() || !is_udp(element.key, address_size)) continue;
    existing.udp_frontends.emplace_back(net::IpAddress::FromBytes(family, element.key.data()),
                                        port_at(element.key, address_size + 4));
  }
  const net::nft::Set node_ports = DeclareSet(ProxySet::kNodePorts, family);
  for (const auto& element : TRY(nft_.ListElements(rules.table(), node_ports.name))) {
    if (element.key.size() != node_ports.key_size() || !is_udp(element.key, 0)) continue;
    existing.udp_node_ports.push_back(port_at(element.key, 4));
  }
  return {};
}

Result<ExistingRules> NftWriter::WriteAll(const States& all) {
  ExistingRules existing;
  std::vector<net::nft::Transaction> transactions;
  for (Family& family : families_) {
    auto table = nft_.List(family.rules.table());
    if (table.ok()) {
      bool ours = std::all_of(kAllProxySets.begin(), kAllProxySets.end(), [&](ProxySet set) {
        auto declared = DeclareSet(set, family.rules.context().family);
        return std::find(table->sets.begin(), table->sets.end(), declared) != table->sets.end();
      });
      if (ours) TRY(ReadExisting(family.rules, existing));
    } else if (table.error().code() != Code::kNotFound) {
      return std::move(table).error();
    }
    transactions.push_back(family.rules.PlanAll(all, table.ok() ? &*table : nullptr));
  }
  TRY(nft_.Commit(transactions));
  for (Family& family : families_) {
    family.handle = TRY(nft_.TableHandle(family.rules.table()));
  }
  return existing;
}

Result<> NftWriter::WriteChanges(std::span<const Change> changes, States& applied) {
  for (const Change& change : changes) Adopt(change, applied);
  std::vector<net::nft::Transaction> transactions;
  for (Family& family : families_) {
    net::nft::Transaction change = family.rules.PlanChanges(changes, applied);
    if (!change.empty()) transactions.push_back(std::move(change));
  }
  return nft_.Commit(transactions);
}

size_t NftWriter::CountRules(const ObjectKey& key, const ServiceState* state) const {
  size_t count = 0;
  for (const Family& family : families_) count += family.rules.CountElements(key, state);
  return count;
}

bool NftWriter::IsDamaged() {
  for (const Family& family : families_) {
    const net::nft::Table table = family.rules.table();
    auto handle = nft_.TableHandle(table);
    bool damaged =
        handle.ok() ? *handle != family.handle : handle.error().code() == Code::kNotFound;
    for (const char* chain : kWitnesses) {
      if (damaged) break;
      auto rules = nft_.CountRules(table, chain);
      damaged = rules.ok() ? *rules != RulesOf(family.rules.context(), chain)
                           : rules.error().code() == Code::kNotFound;
    }
    if (!damaged) continue;
    log::Warning("service rules were removed, writing them again", {{"table", table.ToString()}});
    return true;
  }
  return false;
}

Result<> RemoveAllRules(net::Nft& nft) {
  for (net::IpFamily family : net::kIpFamilies) TRY(net::RemoveTable(nft, NftTableOf(family)));
  return {};
}

}  // namespace skiff::agent::proxy
