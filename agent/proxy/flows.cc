#include "agent/proxy/flows.h"

#include <algorithm>

namespace skiff::agent::proxy {
namespace {

using Target = std::pair<net::IpAddress, uint16_t>;

std::vector<Target> FrontendsOf(const Service& service, const ServicePort& port) {
  std::vector<Target> frontends;
  for (const auto* addresses :
       {&service.cluster_ips, &service.external_ips, &service.load_balancer_ips}) {
    for (const net::IpAddress& address : *addresses) frontends.emplace_back(address, port.port);
  }
  return frontends;
}

// Where connections to a port of the service may stay, of both families: as with TCP, policies,
// hints and termination decide about new ones only.
std::set<Target> AnsweringOf(const ServiceState& state, const ServicePort& port) {
  std::set<Target> answering;
  auto found = state.endpoints.find({port.name, port.transport});
  if (found == state.endpoints.end()) return answering;
  for (const Endpoint& e : found->second) {
    if (e.ready || e.serving) answering.emplace(e.address, e.port);
  }
  return answering;
}

bool HasUdp(const ServiceState* state) {
  return state != nullptr &&
         std::any_of(state->service.ports.begin(), state->service.ports.end(),
                     [](const ServicePort& port) { return port.transport == Transport::kUdp; });
}

}  // namespace

void UdpTargets::Add(const ServiceState& state, bool current) {
  for (const ServicePort& port : state.service.ports) {
    if (port.transport != Transport::kUdp) continue;
    Endpoints endpoints = current ? AnsweringOf(state, port) : Endpoints{};
    for (const Target& frontend : FrontendsOf(state.service, port)) {
      addresses_[frontend].insert(endpoints.begin(), endpoints.end());
    }
    if (port.node_port != 0) {
      node_ports_[port.node_port].insert(endpoints.begin(), endpoints.end());
    }
  }
}

void UdpTargets::AddFormer(const ServiceState& state) { Add(state, /*current=*/false); }
void UdpTargets::AddCurrent(const ServiceState& state) { Add(state, /*current=*/true); }

void UdpTargets::AddFormer(const ExistingRules& existing) {
  for (const Target& frontend : existing.udp_frontends) addresses_[frontend];
  for (uint16_t port : existing.udp_node_ports) node_ports_[port];
}

bool UdpTargets::IsStale(const net::Flow& flow, const std::set<net::IpAddress>& local) const {
  Target destination{flow.original.destination, flow.original.destination_port};
  Target answering{flow.reply.source, flow.reply.source_port};
  if (auto found = addresses_.find(destination); found != addresses_.end()) {
    return !found->second.contains(answering);
  }
  auto found = node_ports_.find(destination.second);
  // A port of another machine may have the same number.
  return found != node_ports_.end() && local.contains(destination.first) &&
         !found->second.contains(answering);
}

bool UdpTargets::Empty(net::IpFamily family) const {
  return node_ports_.empty() &&
         std::none_of(addresses_.begin(), addresses_.end(),
                      [family](const auto& entry) { return entry.first.first.family() == family; });
}

bool CanLeaveStaleFlows(const ServiceState* before, const ServiceState* after) {
  if (!HasUdp(before) && !HasUdp(after)) return false;
  if (before == nullptr || after == nullptr || !(before->service == after->service)) return true;
  for (const ServicePort& port : after->service.ports) {
    if (port.transport != Transport::kUdp) continue;
    std::set<Target> was = AnsweringOf(*before, port), is = AnsweringOf(*after, port);
    if (was.empty() != is.empty() || !std::includes(is.begin(), is.end(), was.begin(), was.end())) {
      return true;
    }
  }
  return false;
}

}  // namespace skiff::agent::proxy
