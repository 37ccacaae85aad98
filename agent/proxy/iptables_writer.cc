#include "agent/proxy/iptables_writer.h"

#include <algorithm>

#include "agent/proxy/proxy.h"
#include "base/log.h"
#include "base/net/families.h"
#include "base/net/iptables.h"

namespace skiff::agent::proxy {
namespace {

// Chains that always have rules: where these are missing or empty, somebody removed them. Unlike
// the canary chain they also tell "iptables -F" without "-X".
constexpr std::pair<const char*, const char*> kFlushWitnesses[] = {{"nat", "KUBE-POSTROUTING"},
                                                                   {"filter", "KUBE-FORWARD"}};

}  // namespace

IptablesWriter::IptablesWriter(std::vector<PlanContext> contexts, net::Iptables& iptables)
    : iptables_(iptables) {
  for (PlanContext& context : contexts) {
    if (iptables_.Supports(context.family)) families_.emplace_back(std::move(context));
  }
}

Result<> IptablesWriter::WriteFamily(const RuleSet& rules, const States& all,
                                     ExistingRules& existing) {
  net::IpFamily family = rules.context().family;
  ExistingRules found = ParseExisting(TRY(iptables_.Save(family, "nat")));
  auto nat = TRY(net::MissingJumps(iptables_, family, "nat", NatJumps()));
  auto filter = TRY(net::MissingJumps(iptables_, family, "filter", FilterJumps()));
  for (const std::string& payload : rules.PlanAll(all, found, nat, filter)) {
    TRY(iptables_.Restore(family, payload));
  }
  existing.service_chains.merge(found.service_chains);
  existing.udp_frontends.insert(existing.udp_frontends.end(), found.udp_frontends.begin(),
                                found.udp_frontends.end());
  existing.udp_node_ports.insert(existing.udp_node_ports.end(), found.udp_node_ports.begin(),
                                 found.udp_node_ports.end());
  return {};
}

Result<ExistingRules> IptablesWriter::WriteAll(const States& all) {
  ExistingRules existing;
  for (const RuleSet& rules : families_) TRY(WriteFamily(rules, all, existing));
  return existing;
}

Result<> IptablesWriter::WriteChanges(std::span<const Change> changes, States& applied) {
  while (!changes.empty()) {
    auto some = changes.first(std::min(changes.size(), kServicesPerPayload));
    changes = changes.subspan(some.size());
    for (const Change& change : some) Adopt(change, applied);
    for (const RuleSet& rules : families_) {
      std::string payload = rules.PlanChanges(some, applied);
      if (!payload.empty()) TRY(iptables_.Restore(rules.context().family, payload));
    }
  }
  return {};
}

size_t IptablesWriter::CountRules(const ObjectKey& key, const ServiceState* state) const {
  size_t count = 0;
  for (const RuleSet& rules : families_) count += rules.CountRules(key, state);
  return count;
}

bool IptablesWriter::IsDamaged() {
  bool damaged = false;
  for (const RuleSet& rules : families_) {
    for (const auto& [table, chain] : kFlushWitnesses) {
      auto found = iptables_.ListChain(rules.context().family, table, chain);
      bool gone = found.ok() ? found->empty() : found.error().code() == Code::kNotFound;
      if (gone) log::Warning("service rules were removed, writing them again", {{"table", table}});
      damaged |= gone;
    }
  }
  return damaged;
}

Result<> RemoveAllRules(net::Iptables& iptables) {
  for (net::IpFamily family : net::kIpFamilies) {
    if (!iptables.Supports(family)) continue;
    TRY(net::RemoveChains(iptables, family, "nat", IsProxyChain));
    TRY(net::RemoveChains(iptables, family, "filter", IsProxyChain));
  }
  return {};
}

}  // namespace skiff::agent::proxy
