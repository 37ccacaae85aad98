#include "control-plane/scheduler/topology_spread.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "control-plane/controllers/framework/objects.h"
#include "control-plane/controllers/framework/taints.h"
#include "control-plane/scheduler/filters.h"
#include "control-plane/scheduler/pod_terms.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/placement.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::Pod;
using Candidates = std::vector<const NodeInfo*>;

constexpr char kHostname[] = "kubernetes.io/hostname";

const std::string* ValueOf(const NodeInfo& node, const std::string& key) {
  const auto& labels = node.node()->metadata().labels();
  auto found = labels.find(key);
  return found == labels.end() ? nullptr : &found->second;
}

template <class Constraints>
bool HasAllKeys(const NodeInfo& node, const Constraints& constraints) {
  return std::ranges::all_of(constraints, [&node](const auto& constraint) {
    return ValueOf(node, constraint.key) != nullptr;
  });
}

bool ToleratesAll(const Pod& pod, const k8s::core::v1::Node& node) {
  return std::ranges::all_of(node.spec().taints(), [&pod](const auto& taint) {
    return taint.effect() == "PreferNoSchedule" || PodTolerates(pod, taint);
  });
}

}  // namespace

TopologySpread::TopologySpread(const Pod& pod, const Candidates& nodes) : pod_(pod), nodes_(nodes) {
  for (const auto& spec : pod.spec().topology_spread_constraints()) {
    Constraint constraint;
    constraint.max_skew = spec.max_skew();
    constraint.key = spec.topology_key();
    constraint.selector =
        NarrowedSelector(spec.has_label_selector() ? &spec.label_selector() : nullptr,
                         {spec.match_label_keys().begin(), spec.match_label_keys().end()}, {},
                         pod.metadata().labels());
    constraint.min_domains = spec.has_min_domains() ? spec.min_domains() : 1;
    constraint.honor_affinity = spec.node_affinity_policy() != "Ignore";
    constraint.honor_taints = spec.node_taints_policy() == "Honor";
    (spec.when_unsatisfiable() == "DoNotSchedule" ? hard_ : soft_).push_back(std::move(constraint));
  }
  if (!hard_.empty()) CountDomains();
}

bool TopologySpread::Counts(const Constraint& constraint, const NodeInfo& node) const {
  return (!constraint.honor_affinity || MatchesNodeAffinity(pod_, *node.node())) &&
         (!constraint.honor_taints || ToleratesAll(pod_, *node.node()));
}

int64_t TopologySpread::PodsMeant(const Constraint& constraint, const NodeInfo& node) const {
  return std::ranges::count_if(node.pods(), [&](const auto& entry) {
    const auto& meta = entry.second->metadata();
    return meta.namespace_() == pod_.metadata().namespace_() && !IsBeingDeleted(meta) &&
           constraint.selector.Matches(meta.labels());
  });
}

void TopologySpread::CountDomains() {
  for (const NodeInfo* node : nodes_) {
    if (!HasAllKeys(*node, hard_)) continue;
    for (Constraint& constraint : hard_) {
      if (!Counts(constraint, *node)) continue;
      constraint.domains[*ValueOf(*node, constraint.key)] += PodsMeant(constraint, *node);
    }
  }
  for (Constraint& constraint : hard_) {
    // Domains that are still missing are empty ones.
    if (std::ssize(constraint.domains) < constraint.min_domains || constraint.domains.empty()) {
      continue;
    }
    constraint.least = std::numeric_limits<int64_t>::max();
    for (const auto& [value, count] : constraint.domains) {
      constraint.least = std::min(constraint.least, count);
    }
  }
}

std::vector<std::string> TopologySpread::WhyNot(const NodeInfo& node) const {
  for (const Constraint& constraint : hard_) {
    const std::string* value = ValueOf(node, constraint.key);
    if (value == nullptr) {
      return {"node(s) didn't match pod topology spread constraints (missing required label)"};
    }
    auto found = constraint.domains.find(*value);
    const int64_t there = found == constraint.domains.end() ? 0 : found->second;
    const int64_t self = constraint.selector.Matches(pod_.metadata().labels());
    if (there + self - constraint.least > constraint.max_skew) {
      return {"node(s) didn't match pod topology spread constraints"};
    }
  }
  return {};
}

// The domains of the candidates that have all keys, with what the whole cluster has in them.
std::map<std::string, int64_t> TopologySpread::SoftDomains(const Constraint& constraint,
                                                           const Candidates& candidates) const {
  std::map<std::string, int64_t> domains;
  for (const NodeInfo* node : candidates) {
    if (HasAllKeys(*node, soft_)) domains[*ValueOf(*node, constraint.key)];
  }
  for (const NodeInfo* node : nodes_) {
    if (!HasAllKeys(*node, soft_) || !Counts(constraint, *node)) continue;
    auto found = domains.find(*ValueOf(*node, constraint.key));
    if (found != domains.end()) found->second += PodsMeant(constraint, *node);
  }
  return domains;
}

std::vector<int64_t> TopologySpread::Score(const Candidates& candidates) const {
  std::vector<double> sums(candidates.size(), 0);
  for (const Constraint& constraint : soft_) {
    const auto domains = SoftDomains(constraint, candidates);
    // A pod more in one of many domains weighs more than in one of few.
    const double weight = std::log(static_cast<double>(domains.size() + 2));
    for (size_t i = 0; i < candidates.size(); ++i) {
      if (!HasAllKeys(*candidates[i], soft_)) continue;
      const int64_t count = constraint.key == kHostname
                                ? PodsMeant(constraint, *candidates[i])
                                : domains.at(*ValueOf(*candidates[i], constraint.key));
      sums[i] += static_cast<double>(count) * weight + static_cast<double>(constraint.max_skew - 1);
    }
  }
  // The fewer the better; a node without the labels is worst.
  std::vector<std::optional<int64_t>> costs;
  int64_t least = std::numeric_limits<int64_t>::max(), most = 0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    costs.emplace_back();
    if (!HasAllKeys(*candidates[i], soft_)) continue;
    costs.back() = std::llround(sums[i]);
    least = std::min(least, *costs.back());
    most = std::max(most, *costs.back());
  }
  std::vector<int64_t> scores;
  for (const auto& cost : costs) {
    scores.push_back(!cost ? 0 : most == 0 ? 100 : 100 * (most + least - *cost) / most);
  }
  return scores;
}

}  // namespace skiff::cp
