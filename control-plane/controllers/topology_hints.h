// Topology aware routing (KEP-2433, annotation service.kubernetes.io/topology-mode: Auto):
// endpoints are given to zones in proportion to the CPU of their nodes, so that traffic stays in
// its zone where every zone has its share. Pure.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "proto/k8s/fwd.h"

namespace skiff::cp {

// Whether the Service asks for it. It goes before spec.trafficDistribution.
bool WantsTopologyHints(const k8s::core::v1::Service& service);

// What counts of a node.
struct NodeTopology {
  bool counts = false;  // it is Ready and no control plane's
  std::string zone;     // "" where it is in none
  int64_t milli_cpu = 0;
  bool operator==(const NodeTopology&) const = default;
};
NodeTopology TopologyOf(const k8s::core::v1::Node& node);

// CPU by zone; nothing where a node that counts has no zone or no CPU.
using ZoneCpu = std::optional<std::map<std::string, int64_t>>;
ZoneCpu CpuByZone(const std::vector<NodeTopology>& nodes);

struct ZoneHints {
  std::vector<std::string> zones;  // for each endpoint
  std::string why_not;             // if there are none: kube-controller-manager's words
};
// endpoint_zones: where the ready endpoints are.
ZoneHints AssignZones(const ZoneCpu& cpu, const std::vector<std::string>& endpoint_zones);

}  // namespace skiff::cp
