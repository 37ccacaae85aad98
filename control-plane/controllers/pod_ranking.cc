#include "control-plane/controllers/pod_ranking.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <string>
#include <unordered_map>

#include "control-plane/controllers/framework/objects.h"
#include "control-plane/controllers/framework/pods.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::cp {
namespace {

constexpr char kDeletionCost[] = "controller.kubernetes.io/pod-deletion-cost";

int64_t DeletionCost(const k8s::core::v1::Pod& pod) {
  auto found = pod.metadata().annotations().find(kDeletionCost);
  if (found == pod.metadata().annotations().end()) return 0;
  int32_t cost = 0;
  std::from_chars(found->second.data(), found->second.data() + found->second.size(), cost);
  return cost;
}

int PhaseRank(const std::string& phase) {
  if (phase == "Running") return 2;
  if (phase == "Unknown") return 1;
  return 0;
}

int64_t Restarts(const k8s::core::v1::Pod& pod) {
  int64_t restarts = 0;
  for (const auto& status : pod.status().container_statuses()) {
    restarts = std::max<int64_t>(restarts, status.restart_count());
  }
  return restarts;
}

// Ages are compared by their order of magnitude, so that of pods of about the same age not always
// the youngest one goes (upstream's LogarithmicScaleDown).
int AgeRank(WallTime since, WallTime now) {
  auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now - since).count();
  return std::bit_width(static_cast<uint64_t>(std::max<int64_t>(seconds, 0)));
}

// Smaller goes first.
struct Rank {
  Rank(const PodPtr& pod_in, int neighbours, WallTime now) : pod(pod_in) {
    const k8s::core::v1::Pod& p = *pod;
    const bool ready = IsPodReady(p);
    order = {p.spec().node_name().empty() ? 0 : 1,
             PhaseRank(p.status().phase()),
             ready ? 1 : 0,
             DeletionCost(p),
             -int64_t{neighbours},
             ready ? AgeRank(ReadySince(p), now) : 0,
             -Restarts(p),
             AgeRank(ToWall(p.metadata().creation_timestamp()), now)};
  }
  friend bool operator<(const Rank& a, const Rank& b) {
    if (a.order != b.order) return a.order < b.order;
    return a.pod->metadata().uid() < b.pod->metadata().uid();
  }
  PodPtr pod;
  std::vector<int64_t> order;
};

}  // namespace

std::vector<PodPtr> ChoosePodsToDelete(std::vector<PodPtr> pods, const std::vector<PodPtr>& related,
                                       size_t count, WallTime now) {
  if (count >= pods.size()) return pods;
  std::unordered_map<std::string, int> on_node;
  for (const PodPtr& pod : related) ++on_node[pod->spec().node_name()];
  std::vector<Rank> ranks;
  for (const PodPtr& pod : pods) ranks.emplace_back(pod, on_node[pod->spec().node_name()], now);
  std::ranges::sort(ranks, [](const Rank& a, const Rank& b) { return a < b; });
  std::vector<PodPtr> chosen;
  for (size_t i = 0; i < count; ++i) chosen.push_back(ranks[i].pod);
  return chosen;
}

}  // namespace skiff::cp
