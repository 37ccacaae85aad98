#include "agent/policy/rule_writer.h"

#include "base/net/families.h"

namespace skiff::agent::policy {
namespace {

namespace nft = net::nft;

size_t FamilyIndex(net::IpFamily family) { return family == net::IpFamily::kV4 ? 0 : 1; }

// The member's element, if it is of the family.
std::optional<nft::Element> MemberElement(net::IpFamily family, const Member& member) {
  if (member.address.family() != family) return std::nullopt;
  return ElementOf(member);
}

// Adds the set with all its members; what was added.
std::set<nft::Bytes> AddAddressSet(net::IpFamily family, const nft::Set& set,
                                   const MemberSets& members, nft::Transaction* change) {
  std::set<nft::Bytes> keys;
  change->AddSet(set);
  const MemberSets::Counts* counts = members.Find(set.name);
  if (counts == nullptr) return keys;
  for (const auto& [member, count] : *counts) {
    auto element = MemberElement(family, member);
    if (!element) continue;
    keys.insert(element->key);
    change->AddElement(set, *std::move(element));
  }
  return keys;
}

// Elements of a planned set: of the new plan, without those that are there already.
void AddElements(const PlannedSet& wanted, const PlannedSet* present, nft::Transaction* change) {
  for (const auto& [key, element] : wanted.elements) {
    if (present != nullptr) {
      auto same = present->elements.find(key);
      if (same != present->elements.end() && same->second == element) continue;
      if (same != present->elements.end()) change->DeleteElement(wanted.set, same->second);
    }
    change->AddElement(wanted.set, element);
  }
}

void DeleteElements(const PlannedSet& present, const PlannedSet& wanted, nft::Transaction* change) {
  for (const auto& [key, element] : present.elements) {
    if (!wanted.elements.contains(key)) change->DeleteElement(wanted.set, element);
  }
}

void AddRules(const std::vector<nft::Rule>& rules, nft::Transaction* change) {
  for (const nft::Rule& rule : rules) change->AddRule(rule);
}

}  // namespace

RuleWriter::Isolated RuleWriter::ReadIsolated() {
  Isolated isolated;
  for (net::IpFamily family : net::kIpFamilies) {
    for (const char* map : {kIngressPods, kEgressPods}) {
      // No table, no set, no nftables: nothing is isolated.
      auto elements = nft_.ListElements(TableOf(family), map);
      if (!elements.ok()) continue;
      auto& addresses = map == kIngressPods ? isolated.ingress : isolated.egress;
      for (const nft::Element& element : *elements) {
        if (element.key.size() != (family == net::IpFamily::kV4 ? 4u : 16u)) continue;
        addresses.insert(net::IpAddress::FromBytes(family, element.key.data()));
      }
    }
  }
  return isolated;
}

nft::Transaction RuleWriter::Replace(net::IpFamily family, const TablePlan& plan,
                                     const MemberSets& members, InForce* after) const {
  nft::Transaction change(TableOf(family));
  // Added first, so that there is one to delete.
  change.AddTable().DeleteTable();
  if (plan.empty()) return change;
  change.AddTable();
  for (const auto& [name, planned] : plan.sets) change.AddSet(planned.set);
  for (const auto& [name, set] : plan.address_sets) {
    after->members[name] = AddAddressSet(family, set, members, &change);
  }
  for (const nft::Chain& chain : BaseChains()) change.AddChain(chain);
  for (const auto& [name, rules] : plan.chains) change.AddChain({name, std::nullopt});
  for (const auto& [name, rules] : plan.chains) AddRules(rules, &change);
  for (const auto& [name, planned] : plan.sets) AddElements(planned, nullptr, &change);
  AddRules(BaseRules(family), &change);
  return change;
}

// New sets and chains, then rules and elements that lead to them, then what nothing leads to.
nft::Transaction RuleWriter::Change(net::IpFamily family, const TablePlan& plan,
                                    const MemberSets& members,
                                    const std::map<std::string, std::set<Member>>& touched,
                                    InForce* state) const {
  nft::Transaction change(TableOf(family));
  const TablePlan& present = state->plan;
  for (const auto& [name, planned] : plan.sets) {
    if (!present.sets.contains(name)) change.AddSet(planned.set);
  }
  for (const auto& [name, set] : plan.address_sets) {
    if (!present.address_sets.contains(name)) {
      state->members[name] = AddAddressSet(family, set, members, &change);
      continue;
    }
    auto members_touched = touched.find(name);
    if (members_touched == touched.end()) continue;
    const MemberSets::Counts* counts = members.Find(name);
    std::set<nft::Bytes>& keys = state->members[name];
    for (const Member& member : members_touched->second) {
      auto element = MemberElement(family, member);
      if (!element) continue;
      bool wanted = counts != nullptr && counts->contains(member);
      if (wanted && keys.insert(element->key).second) change.AddElement(set, *element);
      if (!wanted && keys.erase(element->key) > 0) change.DeleteElement(set, *element);
    }
  }
  for (const auto& [name, rules] : plan.chains) {
    if (!present.chains.contains(name)) change.AddChain({name, std::nullopt});
  }
  for (const auto& [name, rules] : plan.chains) {
    auto before = present.chains.find(name);
    if (before != present.chains.end()) {
      if (before->second == rules) continue;
      change.FlushChain(name);
    }
    AddRules(rules, &change);
  }
  for (const auto& [name, planned] : plan.sets) {
    auto before = present.sets.find(name);
    AddElements(planned, before == present.sets.end() ? nullptr : &before->second, &change);
    if (before != present.sets.end()) DeleteElements(before->second, planned, &change);
  }
  // Chains that others lead to are empty before any of them goes.
  std::vector<std::string> gone;
  for (const auto& [name, rules] : present.chains) {
    if (!plan.chains.contains(name)) gone.push_back(name);
  }
  for (const std::string& name : gone) change.FlushChain(name);
  for (const std::string& name : gone) change.DeleteChain(name);
  for (const auto& [name, planned] : present.sets) {
    if (!plan.sets.contains(name)) change.DeleteSet(name);
  }
  for (const auto& [name, set] : present.address_sets) {
    if (plan.address_sets.contains(name)) continue;
    change.DeleteSet(name);
    state->members.erase(name);
  }
  return change;
}

Result<> RuleWriter::Write(std::array<TablePlan, 2> plans, const MemberSets& members,
                           const std::map<std::string, std::set<Member>>& touched) {
  std::vector<nft::Transaction> changes;
  last_operations_ = 0;
  for (net::IpFamily family : net::kIpFamilies) {
    InForce& state = in_force_[FamilyIndex(family)];
    TablePlan& plan = plans[FamilyIndex(family)];
    bool replace = whole_ || state.plan.empty() != plan.empty();
    if (replace) state = {};
    if (whole_ && plan.empty() && !nft_.TableHandle(TableOf(family)).ok()) {
      continue;  // nothing is wanted and nothing is there, perhaps not even nftables
    }
    nft::Transaction change = replace ? Replace(family, plan, members, &state)
                                      : Change(family, plan, members, touched, &state);
    state.plan = std::move(plan);
    last_operations_ += change.operations().size();
    if (!change.empty()) changes.push_back(std::move(change));
  }
  if (!changes.empty()) {
    auto committed = nft_.Commit(changes);
    if (!committed.ok()) {
      // What is in force is not what was noted above.
      whole_ = true;
      return std::move(committed).error().With("write the rules of network policies");
    }
  }
  for (net::IpFamily family : net::kIpFamilies) {
    InForce& state = in_force_[FamilyIndex(family)];
    if (state.plan.empty() || state.handle != 0) continue;
    auto handle = nft_.TableHandle(TableOf(family));
    if (handle.ok()) state.handle = *handle;
  }
  whole_ = false;
  return {};
}

bool RuleWriter::CheckForFlush() {
  if (whole_) return false;
  for (net::IpFamily family : net::kIpFamilies) {
    const InForce& state = in_force_[FamilyIndex(family)];
    if (state.plan.empty()) continue;
    auto handle = nft_.TableHandle(TableOf(family));
    auto rules = nft_.CountRules(TableOf(family), kWitnessChain);
    bool there = handle.ok() && *handle == state.handle && rules.ok() && *rules == kWitnessRules;
    auto gone = [](const auto& result) {
      return !result.ok() && result.error().code() != Code::kNotFound;
    };
    if (there || gone(handle) || gone(rules)) continue;  // not told, or not known
    whole_ = true;
  }
  return whole_;
}

Result<> RemovePolicyTables(net::Nft& nft) {
  for (net::IpFamily family : net::kIpFamilies) {
    TRY(net::RemoveTable(nft, TableOf(family)).With("remove the rules of network policies"));
  }
  return {};
}

}  // namespace skiff::agent::policy
