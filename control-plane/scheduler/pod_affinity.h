// PodAffinity: what a pod's affinity to other pods, and theirs to it, means on the nodes as they
// are. Pure: made for one pod to be placed, used and thrown away.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "control-plane/scheduler/node_info.h"
#include "control-plane/scheduler/pod_terms.h"

namespace skiff::cp {

class PodAffinity {
 public:
  // pod and nodes (all of the cluster) must outlive it.
  PodAffinity(const k8s::core::v1::Pod& pod, const std::vector<const NodeInfo*>& nodes,
              NamespaceLabels labels_of);

  // Why the node cannot take the pod, in upstream's words; empty when it can.
  std::vector<std::string> WhyNot(const NodeInfo& node) const;
  // 0 to 100 for each of these nodes.
  std::vector<int64_t> Score(const std::vector<const NodeInfo*>& candidates) const;

 private:
  // Amounts in parts of the cluster: by a label's key, then by its value. A part is the nodes that
  // have the label with the value.
  using Domains = std::map<std::string, std::map<std::string, int64_t>>;

  bool MatchesAll(const std::vector<PodTerm>& terms, const k8s::core::v1::Pod& other) const;
  static void Add(const NodeInfo& node, const std::string& key, int64_t amount, Domains* domains);
  static const int64_t* Find(const NodeInfo& node, const std::string& key, const Domains& domains);
  void Count(const NodeInfo& node);
  bool HasCompany(const NodeInfo& node) const;
  bool MeetsAversion(const NodeInfo& node) const;
  bool IsUnwelcome(const NodeInfo& node) const;
  void AddPreferences(const NodeInfo& node, Domains* domains) const;

  const k8s::core::v1::Pod& pod_;
  const std::vector<const NodeInfo*>& nodes_;
  const NamespaceLabels labels_of_;
  const std::shared_ptr<const PodTerms> terms_;  // never null
  Domains company_;    // pods that all required terms mean, by each term's domain
  Domains aversions_;  // pods that a required anti-affinity term means
  Domains unwelcome_;  // pods there whose required anti-affinity means this pod
};

}  // namespace skiff::cp
