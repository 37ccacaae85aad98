#include "control-plane/scheduler/scores.h"

#include <algorithm>
#include <cmath>

#include "control-plane/controllers/framework/objects.h"
#include "control-plane/controllers/framework/taints.h"
#include "control-plane/scheduler/filters.h"
#include "proto/k8s/core/v1/container.pb.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/placement.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::Pod;
using Nodes = std::vector<const NodeInfo*>;
using Scores = std::vector<int64_t>;

constexpr int64_t kMax = 100;

template <class Score>
Scores ForEach(const Nodes& nodes, Score score) {
  Scores scores;
  scores.reserve(nodes.size());
  for (const NodeInfo* node : nodes) scores.push_back(score(*node));
  return scores;
}

// To 0..100 by the largest; reversed: the largest becomes 0.
void Normalize(Scores* scores, bool reversed) {
  int64_t largest = scores->empty() ? 0 : *std::ranges::max_element(*scores);
  for (int64_t& score : *scores) {
    score = largest == 0 ? 0 : score * kMax / largest;
    if (reversed) score = kMax - score;
  }
}

struct Use {
  double cpu = 0;  // fraction of the allocatable amount with the pod on the node
  double memory = 0;
};
Use UseWith(const Resources& request, const NodeInfo& node) {
  const Resources& all = node.allocatable().resources;
  auto fraction = [](int64_t used, int64_t total) {
    return total <= 0 ? 1.0 : std::min(1.0, static_cast<double>(used) / static_cast<double>(total));
  };
  return {
      fraction(node.requested_for_score().milli_cpu + request.milli_cpu, all.milli_cpu),
      fraction(node.requested_for_score().memory_bytes + request.memory_bytes, all.memory_bytes)};
}

std::string NormalImageName(const std::string& image) {
  size_t slash = image.rfind('/');
  bool tagged = image.find(':', slash == std::string::npos ? 0 : slash) != std::string::npos;
  return tagged ? image : image + ":latest";
}

}  // namespace

Scores ScoreFreeResources(const Pod& pod, const Nodes& nodes) {
  const Resources request = PodRequestsForScore(pod);
  return ForEach(nodes, [&](const NodeInfo& node) {
    Use use = UseWith(request, node);
    return static_cast<int64_t>((1 - use.cpu + 1 - use.memory) / 2 * kMax);
  });
}

Scores ScoreBalance(const Pod& pod, const Nodes& nodes) {
  const Resources request = PodRequestsForScore(pod);
  return ForEach(nodes, [&](const NodeInfo& node) {
    Use use = UseWith(request, node);
    return static_cast<int64_t>((1 - std::abs(use.cpu - use.memory) / 2) * kMax);
  });
}

Scores ScoreSpread(const Pod& pod, const Nodes& nodes, const IsReplica& is_replica) {
  Scores scores = ForEach(nodes, [&](const NodeInfo& node) {
    int64_t replicas = 0;
    for (const auto& [uid, other] : node.pods()) {
      replicas += other->metadata().namespace_() == pod.metadata().namespace_() &&
                  !IsBeingDeleted(other->metadata()) && is_replica(*other);
    }
    return replicas;
  });
  Normalize(&scores, true);
  return scores;
}

Scores ScoreAffinity(const Pod& pod, const Nodes& nodes) {
  const auto& preferred =
      pod.spec().affinity().node_affinity().preferred_during_scheduling_ignored_during_execution();
  Scores scores = ForEach(nodes, [&](const NodeInfo& node) {
    int64_t weight = 0;
    for (const auto& term : preferred) {
      if (MatchesTerm(term.preference(), *node.node())) weight += term.weight();
    }
    return weight;
  });
  Normalize(&scores, false);
  return scores;
}

Scores ScoreTaints(const Pod& pod, const Nodes& nodes) {
  Scores scores = ForEach(nodes, [&](const NodeInfo& node) {
    int64_t untolerated = 0;
    for (const auto& taint : node.node()->spec().taints()) {
      untolerated += taint.effect() == "PreferNoSchedule" && !PodTolerates(pod, taint);
    }
    return untolerated;
  });
  Normalize(&scores, true);
  return scores;
}

// Between 23 MB and 1 GB for each container, as upstream: a small image is pulled at once anyway.
Scores ScoreImages(const Pod& pod, const Nodes& nodes) {
  constexpr int64_t kLeastBytes = 23ll << 20;
  const int64_t most_bytes = (1000ll << 20) * std::max(1, pod.spec().containers_size());
  return ForEach(nodes, [&](const NodeInfo& node) {
    int64_t bytes = 0;
    for (const auto& container : pod.spec().containers()) {
      const std::string wanted = NormalImageName(container.image());
      for (const auto& image : node.node()->status().images()) {
        if (std::ranges::find(image.names(), wanted) == image.names().end()) continue;
        bytes += image.size_bytes();
        break;
      }
    }
    bytes = std::clamp(bytes, kLeastBytes, most_bytes);
    return kMax * (bytes - kLeastBytes) / (most_bytes - kLeastBytes);
  });
}

Scores ScoreNodes(const Pod& pod, const Nodes& nodes, const IsReplica& is_replica,
                  const PodAffinity& affinity, const TopologySpread& spread) {
  Scores totals(nodes.size(), 0);
  auto add = [&totals](const Scores& scores, int64_t weight) {
    for (size_t i = 0; i < totals.size(); ++i) totals[i] += weight * scores[i];
  };
  add(ScoreTaints(pod, nodes), 3);
  add(spread.has_constraints() ? spread.Score(nodes) : ScoreSpread(pod, nodes, is_replica), 2);
  add(ScoreAffinity(pod, nodes), 2);
  add(affinity.Score(nodes), 2);
  add(ScoreFreeResources(pod, nodes), 1);
  add(ScoreBalance(pod, nodes), 1);
  add(ScoreImages(pod, nodes), 1);
  return totals;
}

}  // namespace skiff::cp
