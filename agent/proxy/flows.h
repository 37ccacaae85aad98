// Which UDP connections in conntrack were made under rules that are not in force any more. Pure.
//
// An entry is stale when it goes to a service's address but not to one of the service's endpoints
// that answer: the endpoint is gone, or the entry is older than the service's rules.
#pragma once

#include <map>
#include <set>
#include <utility>

#include "agent/proxy/model.h"
#include "agent/proxy/rule_set.h"
#include "base/net/conntrack.h"

namespace skiff::agent::proxy {

// The UDP destinations of some services, in both families, with the endpoints each may go to now.
class UdpTargets {
 public:
  // The destinations of a state that was in force; they have no endpoints unless AddCurrent names
  // some.
  void AddFormer(const ServiceState& state);
  void AddFormer(const ExistingRules& existing);
  void AddCurrent(const ServiceState& state);

  // local: the node's addresses, for node ports.
  bool IsStale(const net::Flow& flow, const std::set<net::IpAddress>& local) const;
  bool Empty(net::IpFamily family) const;
  bool HasNodePorts() const { return !node_ports_.empty(); }

 private:
  using Target = std::pair<net::IpAddress, uint16_t>;
  using Endpoints = std::set<Target>;
  void Add(const ServiceState& state, bool current);
  std::map<Target, Endpoints> addresses_;
  std::map<uint16_t, Endpoints> node_ports_;
};

// Whether replacing before by after (either may be null) can leave stale entries behind. Endpoints
// that only join cannot.
bool CanLeaveStaleFlows(const ServiceState* before, const ServiceState* after);

}  // namespace skiff::agent::proxy
