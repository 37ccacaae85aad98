#include "control-plane/controllers/topology_hints.h"

#include <algorithm>
#include <cmath>

#include "control-plane/controllers/node_health.h"
#include "proto/codec/quantity.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/service.pb.h"

namespace skiff::cp {
namespace {

constexpr const char* kTopologyAnnotations[] = {"service.kubernetes.io/topology-mode",
                                                "service.kubernetes.io/topology-aware-hints"};
constexpr const char* kControlPlaneRoles[] = {"node-role.kubernetes.io/control-plane",
                                              "node-role.kubernetes.io/master"};
// How much more than its share of endpoints a zone's traffic may be for each of its endpoints.
constexpr double kOverload = 0.2;

struct Share {
  double desired = 0;
  int minimum = 0, maximum = 0;
  int count = 0;  // given so far
};
using Shares = std::map<std::string, Share>;

// Nothing where the minima are more than there are endpoints.
std::optional<Shares> SharesOf(const std::map<std::string, int64_t>& cpu, int endpoints) {
  int64_t total = 0;
  for (const auto& [zone, milli] : cpu) total += milli;
  Shares shares;
  int minima = 0;
  for (const auto& [zone, milli] : cpu) {
    double desired = static_cast<double>(milli) / static_cast<double>(total) * endpoints;
    int minimum = static_cast<int>(std::ceil(desired / (1 + kOverload)));
    shares[zone] = {.desired = std::max<double>(desired, minimum), .minimum = minimum};
    minima += minimum;
  }
  if (minima > endpoints) return std::nullopt;
  for (auto& [zone, share] : shares) share.maximum = share.minimum + endpoints - minima;
  return shares;
}

// The zone that lacks most.
Shares::iterator Neediest(Shares& shares) {
  return std::max_element(shares.begin(), shares.end(), [](const auto& a, const auto& b) {
    return a.second.desired - a.second.count < b.second.desired - b.second.count;
  });
}

// Endpoints stay in their zone where that has room; the others go where most are lacking.
std::vector<std::string> Distribute(Shares& shares, const std::vector<std::string>& zones) {
  std::vector<std::string> given(zones.size());
  for (size_t i = 0; i < zones.size(); ++i) {
    auto own = shares.find(zones[i]);
    if (own == shares.end() || own->second.count >= own->second.maximum) continue;
    ++own->second.count;
    given[i] = zones[i];
  }
  for (std::string& zone : given) {
    if (!zone.empty()) continue;
    auto neediest = Neediest(shares);
    ++neediest->second.count;
    zone = neediest->first;
  }
  // Minima come from those that have more than theirs. There are enough: minima are not more than
  // there are endpoints.
  for (auto& [zone, share] : shares) {
    while (share.count < share.minimum) {
      auto giver = std::max_element(shares.begin(), shares.end(), [](const auto& a, const auto& b) {
        return a.second.count - a.second.minimum < b.second.count - b.second.minimum;
      });
      auto last = std::find(given.rbegin(), given.rend(), giver->first);
      *last = zone;
      --giver->second.count;
      ++share.count;
    }
  }
  return given;
}

}  // namespace

bool WantsTopologyHints(const k8s::core::v1::Service& service) {
  for (const char* name : kTopologyAnnotations) {
    auto found = service.metadata().annotations().find(name);
    if (found == service.metadata().annotations().end()) continue;
    return found->second == "Auto" || found->second == "auto";
  }
  return false;
}

NodeTopology TopologyOf(const k8s::core::v1::Node& node) {
  const auto& labels = node.metadata().labels();
  NodeTopology topology;
  topology.counts = ReadyStatus(node) == "True" &&
                    std::none_of(std::begin(kControlPlaneRoles), std::end(kControlPlaneRoles),
                                 [&](const char* role) { return labels.contains(role); });
  if (auto zone = labels.find("topology.kubernetes.io/zone"); zone != labels.end()) {
    topology.zone = zone->second;
  }
  auto cpu = node.status().allocatable().find("cpu");
  if (cpu != node.status().allocatable().end()) {
    topology.milli_cpu = codec::Quantity::From(cpu->second).MilliValue();
  }
  return topology;
}

ZoneCpu CpuByZone(const std::vector<NodeTopology>& nodes) {
  std::map<std::string, int64_t> cpu;
  for (const NodeTopology& node : nodes) {
    if (!node.counts) continue;
    if (node.zone.empty() || node.milli_cpu <= 0) return std::nullopt;
    cpu[node.zone] += node.milli_cpu;
  }
  return cpu;
}

ZoneHints AssignZones(const ZoneCpu& cpu, const std::vector<std::string>& endpoint_zones) {
  auto none = [](const char* why) { return ZoneHints{.zones = {}, .why_not = why}; };
  if (!cpu || cpu->empty()) {
    return none(
        "Insufficient Node information: allocatable CPU or zone not specified on one or more "
        "nodes");
  }
  if (cpu->size() < 2) return none("Nodes only ready in one zone");
  const int endpoints = static_cast<int>(endpoint_zones.size());
  if (static_cast<int>(cpu->size()) > endpoints) return none("Insufficient number of endpoints");
  auto shares = SharesOf(*cpu, endpoints);
  if (!shares) {
    return none(
        "Unable to allocate minimum required endpoints to each zone without exceeding overload "
        "threshold");
  }
  if (std::find(endpoint_zones.begin(), endpoint_zones.end(), "") != endpoint_zones.end()) {
    return none("One or more endpoints do not have a zone specified");
  }
  return {.zones = Distribute(*shares, endpoint_zones), .why_not = ""};
}

}  // namespace skiff::cp
