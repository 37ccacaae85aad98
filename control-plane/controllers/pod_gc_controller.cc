#include "control-plane/controllers/pod_gc_controller.h"

#include <algorithm>
#include <unordered_map>

#include "base/log.h"
#include "control-plane/controllers/framework/objects.h"
#include "control-plane/controllers/framework/pods.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::Node;
using k8s::core::v1::Pod;
using PodPtr = std::shared_ptr<const Pod>;

// Upstream's values: how often, how long a node must be missing, how many ended pods may stay.
constexpr std::chrono::seconds kPeriod{20};
constexpr std::chrono::seconds kQuarantine{40};
constexpr size_t kTerminatedPods = 12'500;

class PodGcController : public Controller {
 public:
  PodGcController(Client& client, Executor& executor)
      : Controller("pod-gc", client, executor), pods_(client, strand_), nodes_(client, strand_) {
    Observe<Pod>(pods_, [](const auto&, const auto&) {});
    Observe<Node>(nodes_, [](const auto&, const auto&) {});
  }

 protected:
  void OnReady() override {
    Every(kPeriod, [this] { Collect(); });
  }
  Result<> Sync(const std::string&) override { return {}; }

 private:
  void Collect() {
    std::vector<PodPtr> ended;
    std::unordered_map<std::string, SteadyTime> missing;
    for (const PodPtr& pod : pods_.All()) {
      const std::string& node = pod->spec().node_name();
      if (node.empty()) {
        // Deleted before it had a node: nobody is there to end it.
        if (IsBeingDeleted(pod->metadata()) && !IsPodTerminal(*pod)) Report(Remove(*pod), *pod);
      } else if (!nodes_.Find(node)) {
        SteadyTime since = MissingSince(node);
        missing[node] = since;
        if (strand_.clock().Now() - since >= kQuarantine && NodeIsGone(node)) {
          Report(Fail(*pod), *pod);
          continue;
        }
      }
      if (IsPodTerminal(*pod) && !IsBeingDeleted(pod->metadata())) ended.push_back(pod);
    }
    missing_ = std::move(missing);
    RemoveOldest(std::move(ended));
  }

  SteadyTime MissingSince(const std::string& node) const {
    auto found = missing_.find(node);
    return found == missing_.end() ? strand_.clock().Now() : found->second;
  }

  // The cache may be behind.
  bool NodeIsGone(const std::string& node) {
    auto live = client_.Get<Node>("", node);
    return !live.ok() && live.error().code() == Code::kNotFound;
  }

  void RemoveOldest(std::vector<PodPtr> ended) {
    if (ended.size() <= kTerminatedPods) return;
    std::ranges::sort(ended, [](const PodPtr& a, const PodPtr& b) {
      return a->metadata().creation_timestamp().seconds() <
             b->metadata().creation_timestamp().seconds();
    });
    ended.resize(ended.size() - kTerminatedPods);
    for (const PodPtr& pod : ended) Report(Remove(*pod), *pod);
  }

  Result<> Fail(const Pod& pod) {
    if (!IsPodTerminal(pod)) {
      Pod failed = pod;
      failed.mutable_status()->set_phase("Failed");
      RemoveCondition(failed.mutable_status(), "DisruptionTarget");
      auto* condition = failed.mutable_status()->add_conditions();
      condition->set_type("DisruptionTarget");
      condition->set_status("True");
      condition->set_reason("DeletionByPodGC");
      condition->set_message("PodGC: node no longer exists");
      SetTime(condition->mutable_last_transition_time(), Now());
      auto stored = client_.UpdateStatus(failed);
      if (!stored.ok() && stored.error().code() != Code::kNotFound) return stored.error();
    }
    return Remove(pod);
  }

  Result<> Remove(const Pod& pod) {
    auto deleted = client_.Delete<Pod>(pod.metadata().namespace_(), pod.metadata().name(),
                                       {.grace_period_seconds = 0, .uid = pod.metadata().uid()});
    if (!deleted.ok() && deleted.error().code() != Code::kNotFound) return deleted.error();
    return {};
  }

  // The next round tries again.
  static void Report(const Result<>& result, const Pod& pod) {
    if (result.ok()) return;
    log::Warning("pod gc: pod not removed, trying again",
                 {{"pod", KeyOf(pod.metadata())}, {"error", result.error()}});
  }

  Informer<Pod> pods_;
  Informer<Node> nodes_;
  std::unordered_map<std::string, SteadyTime> missing_;  // nodes that pods name: since when
};

}  // namespace

std::shared_ptr<Controller> MakePodGcController(Client& client, Executor& executor) {
  return std::make_shared<PodGcController>(client, executor);
}

}  // namespace skiff::cp
