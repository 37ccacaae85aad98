#include "agent/proxy/nft_plan.h"

#include <algorithm>
#include <set>

#include "base/net/conntrack.h"
#include "base/net/short_hash.h"

namespace skiff::agent::proxy {
namespace {

using net::nft::Bytes;
using net::nft::Element;
using net::nft::Key;

uint8_t ProtocolNumber(Transport transport) {
  switch (transport) {
    case Transport::kTcp: return net::kProtocolTcp;
    case Transport::kUdp: return net::kProtocolUdp;
    case Transport::kSctp: return net::kProtocolSctp;
  }
  return net::kProtocolTcp;
}

// One port of a service. The decisions are those of plan.cc, written as data.
class NftPortPlanner {
 public:
  NftPortPlanner(const PlanContext& context, const ObjectKey& key, const ServiceState& state,
                 const ServicePort& port, NftServicePlan& plan)
      : context_(context),
        service_(state.service),
        port_(port),
        plan_(plan),
        name_(ServicePortName(key, port)) {
    uint64_t hash = net::ShortHash64(name_ + "/" + std::string(TransportName(port.transport)));
    identity_ =
        Key().Mark(static_cast<uint32_t>(hash >> 32)).Mark(static_cast<uint32_t>(hash)).bytes();
    selection_ = SelectEndpoints(state, port, context.family);
    for (auto* some : {&selection_.cluster, &selection_.local}) {
      if (some->size() > kMostEndpoints) some->resize(kMostEndpoints);
    }
  }

  void Plan() {
    const Path external = ExternalPath();
    for (const net::IpAddress& address : service_.cluster_ips) {
      AddFrontend(address, InternalPath(), " cluster IP");
    }
    for (const net::IpAddress& address : service_.external_ips) {
      AddFrontend(address, external, " external IP");
    }
    Path balanced = external;
    // Source ranges of the other family only still close this family.
    balanced.guarded = !service_.source_ranges.empty();
    for (const net::IpAddress& address : service_.load_balancer_ips) {
      AddFrontend(address, balanced, " load balancer IP");
    }
    if (port_.node_port != 0 && UsesFamily(service_.cluster_ips)) {
      Bytes key = Key().Protocol(Protocol()).Port(port_.node_port);
      Put(plan_.node_ports, key, external, " node port");
    }
    if (balanced.guarded && UsesFamily(service_.load_balancer_ips)) AddSourceRanges();
    AddEndpoints(selection_.cluster, 0);
    AddEndpoints(selection_.local, kLocalEndpoints);
    AddHairpins();
  }

 private:
  uint8_t Protocol() const { return ProtocolNumber(port_.transport); }
  Bytes WithIdentity(const Bytes& rest) const { return identity_ + rest; }
  bool UsesFamily(const std::vector<net::IpAddress>& addresses) const {
    return std::any_of(addresses.begin(), addresses.end(), [&](const net::IpAddress& address) {
      return address.family() == context_.family;
    });
  }

  Path Refusal() const {
    return {.kind = selection_.any ? Path::Kind::kDrop : Path::Kind::kReject};
  }
  Path InternalPath() const {
    const auto& endpoints = service_.internal_local ? selection_.local : selection_.cluster;
    if (endpoints.empty()) return Refusal();
    Path path{.kind = Path::Kind::kClusterIp,
              .local = service_.internal_local,
              .affinity_seconds = service_.affinity_seconds};
    auto count = static_cast<uint16_t>(endpoints.size());
    (path.local ? path.local_endpoints : path.cluster_endpoints) = count;
    return path;
  }
  Path ExternalPath() const {
    if (selection_.cluster.empty()) return Refusal();
    Path path{.kind = Path::Kind::kExternal,
              .cluster_endpoints = static_cast<uint16_t>(selection_.cluster.size()),
              .affinity_seconds = service_.affinity_seconds};
    if (!service_.external_local) return path;
    path.kind = Path::Kind::kExternalLocal;
    path.local_endpoints = static_cast<uint16_t>(selection_.local.size());
    return path;
  }

  void Put(std::map<Bytes, Element>& elements, const Bytes& key, const Path& path,
           const char* what) {
    elements.try_emplace(
        key, Element{.key = key, .data = FrontendData(identity_, path), .comment = name_ + what});
  }
  void AddFrontend(const net::IpAddress& address, const Path& path, const char* what) {
    if (address.family() != context_.family) return;
    Put(plan_.frontends, Key().Add(address).Protocol(Protocol()).Port(port_.port), path, what);
  }
  void AddSourceRanges() {
    for (const net::IpPrefix& range : service_.source_ranges) {
      if (range.family() != context_.family) continue;
      auto length = static_cast<uint32_t>(range.length());
      plan_.allowed[WithIdentity(Key().Mark(length).Add(range.first()))];
    }
  }
  void AddEndpoints(const std::vector<Endpoint>& endpoints, uint32_t first) {
    uint32_t number = first;
    for (const Endpoint& endpoint : endpoints) {
      Bytes key = WithIdentity(Key().Mark(number++));
      Bytes where = Key().Add(endpoint.address).Port(endpoint.port);
      if (service_.affinity_seconds == 0) {
        plan_.endpoints[key] = where;
        continue;
      }
      plan_.sticky_endpoints[key] = Key().Mark(0).bytes() + where;
      plan_.members[WithIdentity(Key().Mark(first).bytes() + where)];
    }
  }
  void AddHairpins() {
    std::set<net::IpAddress> addresses;
    for (const Endpoint& endpoint : selection_.reachable) {
      if (MayReachItself(service_, endpoint)) addresses.insert(endpoint.address);
    }
    for (const net::IpAddress& address : addresses) {
      ++plan_.hairpin[Key().Add(address).Add(address)];
    }
  }

  const PlanContext& context_;
  const Service& service_;
  const ServicePort& port_;
  NftServicePlan& plan_;
  const std::string name_;
  Bytes identity_;
  Selection selection_;
};

// The length is the number behind the identity.
int RangeLength(const Bytes& allowed_key) {
  uint32_t length = 0;
  constexpr size_t kIdentitySize = 8;
  allowed_key.copy(reinterpret_cast<char*>(&length), sizeof length, kIdentitySize);
  return static_cast<int>(length);
}

// The elements that differ, of a set that has other keys for other services.
void EditOwn(net::nft::Transaction& removed, net::nft::Transaction& added, const net::nft::Set& set,
             const std::map<Bytes, Bytes>& before, const std::map<Bytes, Bytes>& after) {
  for (const auto& [key, data] : before) {
    auto found = after.find(key);
    if (found == after.end() || found->second != data) removed.DeleteElement(set, {.key = key});
  }
  for (const auto& [key, data] : after) {
    auto found = before.find(key);
    if (found == before.end() || found->second != data) {
      added.AddElement(set, {.key = key, .data = data});
    }
  }
}

}  // namespace

NftServicePlan PlanNftService(const PlanContext& context, const ObjectKey& key,
                              const ServiceState* state) {
  NftServicePlan plan;
  if (state == nullptr) return plan;
  for (const ServicePort& port : state->service.ports) {
    NftPortPlanner(context, key, *state, port, plan).Plan();
  }
  return plan;
}

// A transaction under construction: what was counted before it, and what it changes.
struct NftRules::Edit {
  explicit Edit(const NftRules& rules)
      : family(rules.context_.family), removed(rules.table()), added(rules.table()) {}

  net::nft::Set Set(ProxySet set) const { return DeclareSet(set, family); }

  const net::IpFamily family;
  net::nft::Transaction removed, added;  // elements
  std::set<std::pair<ProxySet, Bytes>> touched;
  // What changed services ask for now, of the sets that they share.
  std::map<ObjectKey, std::map<ProxySet, Elements>> asked;
  // Of what was counted otherwise: the count before.
  std::map<Path, uint32_t> paths;
  std::map<int, uint32_t> range_lengths;
  std::unordered_map<Bytes, uint32_t> hairpin;
};

namespace {

// Changes a count, and notes what it was before the first change.
template <class Counts, class Before, class Key>
void Count(Counts& counts, Before& before, const Key& key, uint32_t up, uint32_t down) {
  if (up == down) return;
  auto found = counts.try_emplace(key, 0).first;
  before.try_emplace(key, found->second);
  found->second += up - down;
  if (found->second == 0) counts.erase(found);
}

}  // namespace

void NftRules::Claimed(Edit& edit, ProxySet set, const ObjectKey& service, const Elements& before,
                       const Elements& after) {
  Claims& claims = ClaimsOf(set);
  for (const auto& [key, element] : before) {
    if (auto found = after.find(key); found != after.end()) {
      if (found->second != element) edit.touched.emplace(set, key);
      continue;
    }
    edit.touched.emplace(set, key);
    std::erase(claims[key].services, service);
  }
  for (const auto& [key, element] : after) {
    if (before.contains(key)) continue;
    edit.touched.emplace(set, key);
    auto& services = claims[key].services;
    services.insert(std::lower_bound(services.begin(), services.end(), service), service);
  }
}

void NftRules::Apply(Edit& edit, const ObjectKey& service, const NftServicePlan& before,
                     NftServicePlan after) {
  Claimed(edit, ProxySet::kFrontends, service, before.frontends, after.frontends);
  Claimed(edit, ProxySet::kNodePorts, service, before.node_ports, after.node_ports);
  EditOwn(edit.removed, edit.added, edit.Set(ProxySet::kEndpoints), before.endpoints,
          after.endpoints);
  EditOwn(edit.removed, edit.added, edit.Set(ProxySet::kStickyEndpoints), before.sticky_endpoints,
          after.sticky_endpoints);
  EditOwn(edit.removed, edit.added, edit.Set(ProxySet::kMembers), before.members, after.members);
  EditOwn(edit.removed, edit.added, edit.Set(ProxySet::kAllowed), before.allowed, after.allowed);
  for (const auto& [key, data] : after.allowed) {
    Count(range_lengths_, edit.range_lengths, RangeLength(key), 1, 0);
  }
  for (const auto& [key, data] : before.allowed) {
    Count(range_lengths_, edit.range_lengths, RangeLength(key), 0, 1);
  }
  for (const auto& [key, uses] : after.hairpin) Count(hairpin_, edit.hairpin, key, uses, 0);
  for (const auto& [key, uses] : before.hairpin) Count(hairpin_, edit.hairpin, key, 0, uses);
  edit.asked[service] = {{ProxySet::kFrontends, std::move(after.frontends)},
                         {ProxySet::kNodePorts, std::move(after.node_ports)}};
}

// Gives a key to the first of those who ask for it.
void NftRules::Settle(Edit& edit, ProxySet set, const Bytes& key, const States& all) {
  Claims& claims = ClaimsOf(set);
  auto found = claims.find(key);
  Claim& claim = found->second;
  std::optional<Element> now;
  if (!claim.services.empty()) {
    const ObjectKey& first = claim.services.front();
    if (auto asked = edit.asked.find(first); asked != edit.asked.end()) {
      now = asked->second.at(set).at(key);
    } else {
      NftServicePlan plan = PlanNftService(context_, first, all.at(first).get());
      now = (set == ProxySet::kFrontends ? plan.frontends : plan.node_ports).at(key);
    }
  }
  if (now && now->data == claim.data) return;
  if (!claim.data.empty()) {
    edit.removed.DeleteElement(edit.Set(set), {.key = key});
    Count(paths_, edit.paths, PathOfFrontend(claim.data), 0, 1);
  }
  if (!now) {
    claims.erase(found);
    return;
  }
  Count(paths_, edit.paths, PathOfFrontend(now->data), 1, 0);
  claim.data = now->data;
  edit.added.AddElement(edit.Set(set), *std::move(now));
}

// Chains that are first needed go in front of everything, those needed no more behind it.
void NftRules::FinishChains(Edit& edit, net::nft::Transaction& first, net::nft::Transaction& last) {
  std::vector<std::string> gone;
  const net::nft::Set paths = edit.Set(ProxySet::kPaths);
  std::vector<ChainPlan> fresh;
  for (const auto& [path, before] : edit.paths) {
    if (before != 0 || !paths_.contains(path)) continue;
    for (ChainPlan& plan : ChainsOfPath(context_, path)) {
      if (chain_uses_[plan.chain.name]++ == 0) fresh.push_back(std::move(plan));
    }
  }
  for (const auto& [path, before] : edit.paths) {
    if (before == 0 || paths_.contains(path)) continue;
    last.DeleteElement(paths, {.key = path.ToBytes()});
    for (const ChainPlan& plan : ChainsOfPath(context_, path)) {
      auto uses = chain_uses_.find(plan.chain.name);
      if (--uses->second != 0) continue;
      gone.push_back(plan.chain.name);
      chain_uses_.erase(uses);
    }
  }
  for (const ChainPlan& plan : fresh) first.AddChain(plan.chain);
  for (ChainPlan& plan : fresh) {
    for (net::nft::Rule& rule : plan.rules) first.AddRule(std::move(rule));
  }
  for (const auto& [path, before] : edit.paths) {
    if (before == 0 && paths_.contains(path)) first.AddElement(paths, PathElement(path));
  }
  // They lead to each other, so all are emptied first.
  for (const std::string& chain : gone) last.FlushChain(chain);
  for (const std::string& chain : gone) last.DeleteChain(chain);
}

net::nft::Transaction NftRules::Finish(Edit& edit, const States& all) {
  for (const auto& [set, key] : edit.touched) Settle(edit, set, key, all);
  const net::nft::Set hairpin = edit.Set(ProxySet::kHairpin);
  for (const auto& [key, before] : edit.hairpin) {
    bool wanted = hairpin_.contains(key);
    if (before != 0 && !wanted) edit.removed.DeleteElement(hairpin, {.key = key});
    if (before == 0 && wanted) edit.added.AddElement(hairpin, {.key = key});
  }
  net::nft::Transaction first(table()), last(table());
  bool lengths_differ = false;
  for (const auto& [length, before] : edit.range_lengths) {
    lengths_differ |= (before != 0) != range_lengths_.contains(length);
  }
  if (lengths_differ) {
    std::vector<int> lengths;
    for (const auto& [length, uses] : range_lengths_) lengths.push_back(length);
    ChainPlan plan = SourceRangeChain(context_, lengths);
    first.FlushChain(plan.chain.name);
    for (net::nft::Rule& rule : plan.rules) first.AddRule(std::move(rule));
  }
  FinishChains(edit, first, last);
  return std::move(
      first.Append(std::move(edit.removed)).Append(std::move(edit.added)).Append(std::move(last)));
}

net::nft::Transaction NftRules::PlanChanges(std::span<const Change> changes, const States& all) {
  Edit edit(*this);
  for (const Change& change : changes) {
    Apply(edit, change.key, PlanNftService(context_, change.key, change.before.get()),
          PlanNftService(context_, change.key, change.after.get()));
  }
  return Finish(edit, all);
}

// What is in the table already goes, but for what is as it has to be: base chains, which are where
// packets come in, and what clients are remembered by.
net::nft::Transaction NftRules::Clear(const net::nft::TableInfo& existing,
                                      const std::vector<ChainPlan>& base) const {
  net::nft::Transaction change(table());
  change.FlushAllRules();
  for (const net::nft::Set& found : existing.sets) {
    auto same = std::find_if(kAllProxySets.begin(), kAllProxySets.end(), [&](ProxySet set) {
      return DeclareSet(set, context_.family) == found;
    });
    if (same == kAllProxySets.end()) {
      change.DeleteSet(found.name);
    } else if (*same != ProxySet::kAffinity) {
      change.FlushSet(found.name);
    }
  }
  for (const net::nft::Chain& found : existing.chains) {
    bool keep = found.base && std::any_of(base.begin(), base.end(), [&](const ChainPlan& plan) {
                  return plan.chain == found;
                });
    if (!keep) change.DeleteChain(found.name);
  }
  return change;
}

net::nft::Transaction NftRules::PlanAll(const States& all, const net::nft::TableInfo* existing) {
  for (Claims* claims : {&frontend_claims_, &node_port_claims_}) claims->clear();
  hairpin_.clear();
  paths_.clear();
  range_lengths_.clear();
  chain_uses_.clear();
  std::vector<ChainPlan> base = BaseChains(context_);
  base.push_back(SourceRangeChain(context_, {}));
  net::nft::Transaction whole(table());
  whole.AddTable();
  if (existing != nullptr) whole.Append(Clear(*existing, base));
  for (ProxySet set : kAllProxySets) whole.AddSet(DeclareSet(set, context_.family));
  for (const ChainPlan& plan : base) whole.AddChain(plan.chain);
  for (ChainPlan& plan : base) {
    for (net::nft::Rule& rule : plan.rules) whole.AddRule(std::move(rule));
  }
  Edit edit(*this);
  for (const auto& [key, state] : all) {
    Apply(edit, key, {}, PlanNftService(context_, key, state.get()));
  }
  return std::move(whole.Append(Finish(edit, all)));
}

}  // namespace skiff::agent::proxy
