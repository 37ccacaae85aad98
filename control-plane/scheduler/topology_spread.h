// TopologySpread: what a pod's topologySpreadConstraints mean on the nodes as they are. Pure: made
// for one pod to be placed, used and thrown away.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "control-plane/scheduler/node_info.h"
#include "proto/codec/selector.h"

namespace skiff::cp {

class TopologySpread {
 public:
  // pod and nodes (all of the cluster) must outlive it.
  TopologySpread(const k8s::core::v1::Pod& pod, const std::vector<const NodeInfo*>& nodes);

  // Whether the pod has such constraints at all.
  bool has_constraints() const { return !hard_.empty() || !soft_.empty(); }
  // Why the node cannot take the pod, in upstream's words; empty when it can.
  std::vector<std::string> WhyNot(const NodeInfo& node) const;
  // 0 to 100 for each of these nodes.
  std::vector<int64_t> Score(const std::vector<const NodeInfo*>& candidates) const;

 private:
  struct Constraint {
    int64_t max_skew = 1;
    std::string key;
    codec::LabelSelector selector;
    int64_t min_domains = 1;
    bool honor_affinity = true;  // count only nodes that the pod's node affinity allows
    bool honor_taints = false;   // count only nodes whose taints the pod tolerates
    // Pods that the selector means, by the label's value. Of hard constraints only.
    std::map<std::string, int64_t> domains = {};
    int64_t least = 0;  // the smallest of these counts
  };

  bool Counts(const Constraint& constraint, const NodeInfo& node) const;
  int64_t PodsMeant(const Constraint& constraint, const NodeInfo& node) const;
  void CountDomains();
  std::map<std::string, int64_t> SoftDomains(const Constraint& constraint,
                                             const std::vector<const NodeInfo*>& candidates) const;

  const k8s::core::v1::Pod& pod_;
  const std::vector<const NodeInfo*>& nodes_;
  std::vector<Constraint> hard_;  // DoNotSchedule
  std::vector<Constraint> soft_;  // ScheduleAnyway
};

}  // namespace skiff::cp
