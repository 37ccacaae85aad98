#include "control-plane/controllers/node_lifecycle_controller.h"

#include <algorithm>
#include <unordered_map>

#include "control-plane/controllers/framework/event_recorder.h"
#include "control-plane/controllers/framework/objects.h"
#include "control-plane/controllers/framework/pods.h"
#include "control-plane/controllers/framework/taints.h"
#include "control-plane/controllers/node_health.h"
#include "proto/k8s/coordination/v1/coordination.pb.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/placement.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::cp {
namespace {

using k8s::coordination::v1::Lease;
using k8s::core::v1::Node;
using k8s::core::v1::Pod;
using k8s::core::v1::Taint;
using LeasePtr = std::shared_ptr<const Lease>;
using NodePtr = std::shared_ptr<const Node>;
using PodPtr = std::shared_ptr<const Pod>;

// Upstream's node-monitor-period, -grace-period, node-startup-grace-period and node-eviction-rate.
constexpr std::chrono::seconds kMonitorPeriod{5};
constexpr std::chrono::seconds kGrace{40};
constexpr std::chrono::seconds kStartupGrace{60};
constexpr std::chrono::seconds kEvictionInterval{10};

class NodeLifecycleController : public Controller {
 public:
  NodeLifecycleController(Client& client, Executor& executor)
      : Controller("node-lifecycle", client, executor),
        events_(client, executor, "node-controller"),
        nodes_(client, strand_),
        leases_(client, strand_, "kube-node-lease"),
        pods_(client, strand_) {
    pods_by_node_ = pods_.AddIndex([](const Pod& pod) {
      return pod.spec().node_name().empty() ? std::vector<std::string>()
                                            : std::vector{pod.spec().node_name()};
    });
    Observe<Node>(nodes_,
                  [this](const NodePtr& before, const NodePtr& now) { OnNode(before, now); });
    Observe<Lease>(leases_, [this](const LeasePtr& before, const LeasePtr& now) {
      if (now && (!before || !Equal(before->spec().renew_time(), now->spec().renew_time()))) {
        heard_[now->metadata().name()] = strand_.clock().Now();
      }
    });
    Observe<Pod>(pods_, [this](const PodPtr& before, const PodPtr& now) {
      const bool placed = now && !now->spec().node_name().empty();
      const bool news = !before || before->spec().node_name().empty() ||
                        !Equal(before->spec(), now ? now->spec() : before->spec());
      if (placed && news) queue_.Add(now->spec().node_name());
    });
  }

 protected:
  void OnReady() override {
    // Whatever was before, everybody has the whole grace from now on.
    for (const NodePtr& node : nodes_.All()) {
      heard_[node->metadata().name()] = strand_.clock().Now();
      queue_.Add(node->metadata().name());
    }
    Every(kMonitorPeriod, [this] {
      for (const NodePtr& node : nodes_.All()) queue_.Add(node->metadata().name());
    });
  }

  Result<> Sync(const std::string& name) override {
    NodePtr node = nodes_.Find(name);
    if (!node) return {};
    node = TRY(CheckReports(node));
    node = TRY(UpdateTaints(node));
    if (ReadyStatus(*node) != "True") TRY(MarkPodsNotReady(*node));
    return EvictPods(*node);
  }

 private:
  void OnNode(const NodePtr& before, const NodePtr& now) {
    const std::string& name = (now ? now : before)->metadata().name();
    if (!now) {
      heard_.erase(name);
      tolerating_.erase(name);
      events_.Normal(*before, "RemovingNode",
                     "Node " + name + " event: Removing Node " + name + " from Controller");
      return;
    }
    if (!before) {
      events_.Normal(*now, "RegisteredNode",
                     "Node " + name + " event: Registered Node " + name + " in Controller");
    }
    if (!before || HeartbeatOf(*before) != HeartbeatOf(*now)) {
      heard_[name] = strand_.clock().Now();
    }
    queue_.Add(name);
  }

  // The node's status is a sign of life as well as its lease; what we write ourselves is not.
  static int64_t HeartbeatOf(const Node& node) {
    const auto* ready = FindCondition(node.status(), "Ready");
    return ready ? ready->last_heartbeat_time().seconds() : 0;
  }

  Result<NodePtr> CheckReports(const NodePtr& node) {
    const std::string& name = node->metadata().name();
    const bool reported = FindCondition(node->status(), "Ready") != nullptr;
    const auto silent = strand_.clock().Now() - heard_[name];
    if (silent <= (reported ? kGrace : kStartupGrace)) return node;
    Node updated = *node;
    if (!MarkUnknown(&updated, Now())) return node;
    const bool was_ready = ReadyStatus(*node) == "True";
    NodePtr stored = TRY(client_.UpdateStatus(updated));
    nodes_.Assume(stored);
    if (was_ready) {
      events_.Normal(*stored, "NodeNotReady", "Node " + name + " status is now: NodeNotReady");
    }
    return stored;
  }

  Disruption CurrentDisruption() const {
    int ready = 0, not_ready = 0;
    for (const NodePtr& node : nodes_.All()) ++(ReadyStatus(*node) == "True" ? ready : not_ready);
    return DisruptionOf(ready, not_ready);
  }

  Result<NodePtr> UpdateTaints(const NodePtr& node) {
    const Disruption disruption = CurrentDisruption();
    const SteadyTime now = strand_.clock().Now();
    const bool may_evict =
        disruption == Disruption::kNone && (!evicted_ || now - *evicted_ >= kEvictionInterval);
    auto taints = PlanTaints(*node, may_evict, disruption != Disruption::kFull, Now());
    if (!taints) return node;
    Node updated = *node;
    updated.mutable_spec()->clear_taints();
    bool evicting = false;
    for (Taint& taint : *taints) {
      evicting |= taint.effect() == "NoExecute" && !HasTaint(*node, taint);
      *updated.mutable_spec()->add_taints() = std::move(taint);
    }
    NodePtr stored = TRY(client_.Update(updated));
    nodes_.Assume(stored);
    if (evicting) evicted_ = now;
    return stored;
  }

  static bool HasTaint(const Node& node, const Taint& wanted) {
    return std::ranges::any_of(node.spec().taints(), [&wanted](const Taint& taint) {
      return taint.key() == wanted.key() && taint.effect() == wanted.effect();
    });
  }

  // So that Services stop sending to them.
  Result<> MarkPodsNotReady(const Node& node) {
    for (const PodPtr& pod : pods_.ByIndex(pods_by_node_, node.metadata().name())) {
      if (!IsPodReady(*pod) || ReadyStatus(node) != "Unknown") continue;
      Pod updated = *pod;
      auto* ready = MutableCondition(updated.mutable_status(), "Ready");
      ready->set_status("False");
      SetTime(ready->mutable_last_transition_time(), Now());
      auto stored = client_.UpdateStatus(updated);
      if (!stored.ok()) {
        if (stored.error().code() == Code::kNotFound) continue;
        return stored.error();
      }
      pods_.Assume(*stored);
      events_.Warning(**stored, "NodeNotReady", "Node is not ready");
    }
    return {};
  }

  // A pod's time begins when it is first seen beside a taint that it tolerates for a while, not
  // when the taint was added: users' taints do not say when that was, and the pod may have come
  // later.
  Result<> EvictPods(const Node& node) {
    const std::string& name = node.metadata().name();
    std::vector<const Taint*> evicting;
    for (const Taint& taint : node.spec().taints()) {
      if (taint.effect() == "NoExecute") evicting.push_back(&taint);
    }
    if (evicting.empty()) {
      tolerating_.erase(name);
      return {};
    }
    std::unordered_map<std::string, SteadyTime> before = std::move(tolerating_[name]);
    auto& tolerating = tolerating_[name];
    tolerating.clear();
    const SteadyTime now = strand_.clock().Now();
    Result<> result;
    for (const PodPtr& pod : pods_.ByIndex(pods_by_node_, name)) {
      if (IsBeingDeleted(pod->metadata()) || IsPodTerminal(*pod)) continue;
      auto time = TolerationTime(*pod, evicting);
      if (!time) continue;
      auto known = before.find(pod->metadata().uid());
      const SteadyTime since = known == before.end() ? now : known->second;
      tolerating[pod->metadata().uid()] = since;
      if (since + *time > now) {
        queue_.AddAfter(name, since + *time - now);
      } else if (auto evicted = Evict(*pod); !evicted.ok()) {
        result = evicted;
      }
    }
    return result;
  }

  Result<> Evict(const Pod& pod) {
    const auto& meta = pod.metadata();
    events_.Normal(pod, "TaintManagerEviction", "Marking for deletion Pod " + KeyOf(meta));
    Pod updated = pod;
    RemoveCondition(updated.mutable_status(), "DisruptionTarget");
    auto* condition = updated.mutable_status()->add_conditions();
    condition->set_type("DisruptionTarget");
    condition->set_status("True");
    condition->set_reason("DeletionByTaintManager");
    condition->set_message("Taint manager: deleting due to NoExecute taint");
    SetTime(condition->mutable_last_transition_time(), Now());
    auto stored = client_.UpdateStatus(updated);
    if (stored.ok()) pods_.Assume(*stored);
    if (!stored.ok() && stored.error().code() != Code::kNotFound) return stored.error();
    auto deleted = client_.Delete<Pod>(meta.namespace_(), meta.name(), {.uid = meta.uid()});
    if (!deleted.ok() && deleted.error().code() != Code::kNotFound) return deleted.error();
    return {};
  }

  EventRecorder events_;
  Informer<Node> nodes_;
  Informer<Lease> leases_;
  Informer<Pod> pods_;
  int pods_by_node_ = 0;
  std::unordered_map<std::string, SteadyTime> heard_;  // by node: its last sign of life
  // By node and pod's uid: since when it is seen beside NoExecute taints that it does not tolerate
  // for ever.
  std::unordered_map<std::string, std::unordered_map<std::string, SteadyTime>> tolerating_;
  std::optional<SteadyTime> evicted_;  // when a node was last tainted NoExecute
};

}  // namespace

std::shared_ptr<Controller> MakeNodeLifecycleController(Client& client, Executor& executor) {
  return std::make_shared<NodeLifecycleController>(client, executor);
}

}  // namespace skiff::cp
