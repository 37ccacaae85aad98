// RuleSet: turns changes of services into iptables-restore payloads, for one family. Pure; what is
// in force is kept as states, from which the rules in force are planned again when they change.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/proxy/plan.h"

namespace skiff::agent::proxy {

using States = std::map<ObjectKey, std::shared_ptr<const ServiceState>>;

struct Change {
  ObjectKey key;
  std::shared_ptr<const ServiceState> before, after;  // null: not there
};

// What a run before left in the nat table, read from iptables-save.
struct ExistingRules {
  std::set<std::string> service_chains;
  // UDP destinations: "address port" pairs of KUBE-SERVICES, ports of KUBE-NODEPORTS.
  std::vector<std::pair<net::IpAddress, uint16_t>> udp_frontends;
  std::vector<uint16_t> udp_node_ports;
};
ExistingRules ParseExisting(std::string_view saved_nat);

// How many services go into one payload at most. iptables-nft-restore takes time with the square of
// the chains in a payload: 10,000 services of ten endpoints in one take 11 s, in pieces of this
// size 4 s.
inline constexpr size_t kServicesPerPayload = 500;

class RuleSet {
 public:
  explicit RuleSet(PlanContext context) : context_(std::move(context)) {}

  // Only what the changes touch; empty where that is nothing. all: every state after the changes,
  // for shared chains of which so much changes that they are written anew.
  std::string PlanChanges(std::span<const Change> changes, const States& all) const;
  // Everything, whatever is there, as payloads to be written in this order; chains of services that
  // are not in all are deleted. Traffic is served all the while: what a service is switched over to
  // is there before. missing_*_jumps: of NatJumps and FilterJumps.
  std::vector<std::string> PlanAll(const States& all, const ExistingRules& existing,
                                   const std::vector<std::string>& missing_nat_jumps,
                                   const std::vector<std::string>& missing_filter_jumps) const;
  size_t CountRules(const ObjectKey& key, const ServiceState* state) const {
    return PlanService(context_, key, state).rules();
  }
  const PlanContext& context() const { return context_; }

 private:
  struct SharedChange {
    std::vector<std::string> added, removed;
  };
  std::vector<std::string> PlanServiceChains(const States& all, std::set<std::string>& stale) const;
  void AppendWholeShared(SharedChain chain, const States& all, std::string& out) const;

  const PlanContext context_;
};

}  // namespace skiff::agent::proxy
