// A service as elements of the nftables mode's maps: a pure function from state to elements, and
// NftRules, which turns changes of states into transactions of one family.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "agent/proxy/nft_chains.h"
#include "agent/proxy/plan.h"
#include "agent/proxy/rule_set.h"
#include "base/net/nft.h"

namespace skiff::agent::proxy {

// One service's elements, in the context's family.
struct NftServicePlan {
  // Of sets that services share: two may ask for the same key.
  std::map<net::nft::Bytes, net::nft::Element> frontends, node_ports;
  std::map<net::nft::Bytes, uint32_t> hairpin;  // by key, how many of its ports need it
  // Keyed by the identity of a port, and so nobody else's.
  std::map<net::nft::Bytes, net::nft::Bytes> endpoints, sticky_endpoints, members,
      allowed;  // key to data

  size_t elements() const {
    return frontends.size() + node_ports.size() + hairpin.size() + endpoints.size() +
           sticky_endpoints.size() + members.size() + allowed.size();
  }
  bool operator==(const NftServicePlan&) const = default;
};
// Empty for null.
NftServicePlan PlanNftService(const PlanContext& context, const ObjectKey& key,
                              const ServiceState* state);

// The rules of one family: what is in force, and the transactions that change it. One call at a
// time. After a transaction was refused only PlanAll is right.
class NftRules {
 public:
  explicit NftRules(PlanContext context) : context_(std::move(context)) {}

  // Makes the table that of these states, whatever is in it; existing: null, if there is none.
  // Sessions of clients stay.
  net::nft::Transaction PlanAll(const States& all, const net::nft::TableInfo* existing);
  // Only what the changes touch; empty where that is nothing. all: every state after the changes.
  net::nft::Transaction PlanChanges(std::span<const Change> changes, const States& all);

  size_t CountElements(const ObjectKey& key, const ServiceState* state) const {
    return PlanNftService(context_, key, state).elements();
  }
  const PlanContext& context() const { return context_; }
  net::nft::Table table() const { return NftTableOf(context_.family); }

 private:
  // A key of frontends or node ports: who asks for it, the first of them has it.
  struct Claim {
    std::vector<ObjectKey> services;  // sorted
    net::nft::Bytes data;             // in force
  };
  using Claims = std::unordered_map<net::nft::Bytes, Claim>;
  using Elements = std::map<net::nft::Bytes, net::nft::Element>;
  struct Edit;

  Claims& ClaimsOf(ProxySet set) {
    return set == ProxySet::kFrontends ? frontend_claims_ : node_port_claims_;
  }
  void Apply(Edit& edit, const ObjectKey& service, const NftServicePlan& before,
             NftServicePlan after);
  void Claimed(Edit& edit, ProxySet set, const ObjectKey& service, const Elements& before,
               const Elements& after);
  void Settle(Edit& edit, ProxySet set, const net::nft::Bytes& key, const States& all);
  void FinishChains(Edit& edit, net::nft::Transaction& first, net::nft::Transaction& last);
  net::nft::Transaction Finish(Edit& edit, const States& all);
  net::nft::Transaction Clear(const net::nft::TableInfo& existing,
                              const std::vector<ChainPlan>& base) const;

  const PlanContext context_;
  Claims frontend_claims_, node_port_claims_;
  std::unordered_map<net::nft::Bytes, uint32_t> hairpin_;  // how many ask for it
  std::map<Path, uint32_t> paths_;                         // how many frontends take it
  std::map<int, uint32_t> range_lengths_;                  // how many source ranges have it
  std::map<std::string, uint32_t> chain_uses_;             // how many paths need it
};

}  // namespace skiff::agent::proxy
