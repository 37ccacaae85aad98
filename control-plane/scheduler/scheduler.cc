#include "control-plane/scheduler/scheduler.h"

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>

#include "base/log.h"
#include "control-plane/controllers/framework/controller.h"
#include "control-plane/controllers/framework/event_recorder.h"
#include "control-plane/controllers/framework/objects.h"
#include "control-plane/controllers/framework/pods.h"
#include "control-plane/scheduler/filters.h"
#include "control-plane/scheduler/node_info.h"
#include "control-plane/scheduler/pod_affinity.h"
#include "control-plane/scheduler/scheduling_queue.h"
#include "control-plane/scheduler/scores.h"
#include "control-plane/scheduler/topology_spread.h"
#include "proto/codec/selector.h"
#include "proto/k8s/core/v1/namespace.pb.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/core/v1/service.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::Namespace;
using k8s::core::v1::Node;
using k8s::core::v1::Pod;
using k8s::core::v1::Service;
using NamespacePtr = std::shared_ptr<const Namespace>;
using ServicePtr = std::shared_ptr<const Service>;

// The one key of the work queue: "try the next pod".
constexpr char kNext[] = "next";

// Whether the change can make a pod schedulable; heartbeats cannot.
bool MattersToPods(const NodePtr& before, const NodePtr& now) {
  if (!now) return false;
  if (!before || !Equal(before->spec(), now->spec())) return true;
  Node left, right;
  for (auto [from, to] : {std::pair(before, &left), std::pair(now, &right)}) {
    *to->mutable_metadata()->mutable_labels() = from->metadata().labels();
    *to->mutable_status()->mutable_allocatable() = from->status().allocatable();
  }
  return !Equal(left, right);
}

// Whether the change of a pod on a node can make room for another one that looks at its neighbours.
bool MattersToNeighbours(const Pod& before, const Pod& now) {
  const auto& old_labels = before.metadata().labels();
  const auto& labels = now.metadata().labels();
  const bool same = old_labels.size() == labels.size() &&
                    std::ranges::all_of(labels, [&old_labels](const auto& label) {
                      auto found = old_labels.find(label.first);
                      return found != old_labels.end() && found->second == label.second;
                    });
  return !same || IsBeingDeleted(before.metadata()) != IsBeingDeleted(now.metadata());
}

}  // namespace

class Scheduler::Core : public Controller {
 public:
  explicit Core(const SchedulerDeps& deps)
      : Controller("scheduler", *deps.client, *deps.executor),
        executor_(*deps.executor),
        name_(deps.name),
        events_(*deps.client, *deps.executor, deps.name),
        pods_(client_, strand_),
        nodes_(client_, strand_),
        namespaces_(client_, strand_),
        services_(client_, strand_) {
    services_by_namespace_ = services_.AddIndex(
        [](const Service& service) { return std::vector{service.metadata().namespace_()}; });
    Observe<Pod>(pods_, [this](const PodPtr& before, const PodPtr& now) { OnPod(before, now); });
    Observe<Node>(nodes_,
                  [this](const NodePtr& before, const NodePtr& now) { OnNode(before, now); });
    Observe<Namespace>(namespaces_,
                       [this](const NamespacePtr&, const NamespacePtr&) { WakeNeighbours(); });
    Observe<Service>(services_, [](const ServicePtr&, const ServicePtr&) {});
  }

 protected:
  Result<> Sync(const std::string&) override {
    waiting_.Advance(SteadyNow());
    if (PodPtr pod = waiting_.Pop(SteadyNow())) Schedule(pod);
    Continue();
    return {};
  }
  void OnReady() override { Continue(); }

 private:
  SteadyTime SteadyNow() const { return strand_.clock().Now(); }

  // Comes back for the next active pod, or when one becomes active by itself.
  void Continue() {
    if (waiting_.HasActive()) {
      queue_.Add(kNext);
    } else if (auto due = waiting_.NextDue()) {
      queue_.AddAfter(kNext, std::max<std::chrono::nanoseconds>(*due - SteadyNow(),
                                                                std::chrono::nanoseconds(1)));
    }
  }

  // The node has changed: those that it can take now are tried again.
  void WakeFor(const std::string& node) {
    auto info = infos_.find(node);
    if (info == infos_.end() || !info->second.node()) return;
    waiting_.Wake([&info](const Pod& pod) { return WhyNot(pod, info->second).empty(); },
                  SteadyNow());
    Continue();
  }

  // Pods elsewhere have come, gone or changed: those that were refused because of them are tried
  // again.
  void WakeNeighbours() {
    for (const std::string& uid : looks_at_neighbours_) waiting_.WakeOne(uid, SteadyNow());
    if (!looks_at_neighbours_.empty()) Continue();
  }

  bool IsOurs(const Pod& pod) const {
    const std::string& wanted = pod.spec().scheduler_name();
    return wanted.empty() ? name_ == "default-scheduler" : wanted == name_;
  }

  void OnNode(const NodePtr& before, const NodePtr& now) {
    const std::string& name = (now ? now : before)->metadata().name();
    NodeInfo& info = infos_[name];
    info.SetNode(now);
    if (!now && info.pods().empty()) infos_.erase(name);
    if (MattersToPods(before, now)) {
      WakeFor(name);
      WakeNeighbours();
    }
  }

  void OnPod(const PodPtr& before, const PodPtr& now) {
    const std::string& uid = (now ? now : before)->metadata().uid();
    // A pod of the same name that was made anew in between.
    if (before && now && before->metadata().uid() != uid) OnPod(before, nullptr);
    if (now && !now->spec().node_name().empty() && !IsPodTerminal(*now)) {
      Forget(uid);
      Place(now, now->spec().node_name());
      if (before && MattersToNeighbours(*before, *now)) WakeNeighbours();
      return;
    }
    const bool pending = now && now->spec().node_name().empty() && IsPodActive(*now) &&
                         now->spec().scheduling_gates().empty() && IsOurs(*now);
    if (!pending) {
      Forget(uid);
      Displace(uid);
    } else if (!placed_.contains(uid)) {  // else its binding is under way
      waiting_.Set(now, SteadyNow());
      Continue();
    }
  }

  // It waits no more.
  void Forget(const std::string& uid) {
    waiting_.Remove(uid);
    looks_at_neighbours_.erase(uid);
  }

  void Place(const PodPtr& pod, const std::string& node) {
    const std::string& uid = pod->metadata().uid();
    auto found = placed_.find(uid);
    if (found != placed_.end() && found->second != node) Displace(uid);
    infos_[node].AddPod(pod);
    if (placed_.insert_or_assign(uid, node).second) WakeNeighbours();
  }

  // Its room is free again.
  void Displace(const std::string& uid) {
    auto found = placed_.find(uid);
    if (found == placed_.end()) return;
    const std::string node = found->second;
    auto info = infos_.find(node);
    if (info != infos_.end()) {
      info->second.RemovePod(uid);
      if (!info->second.node() && info->second.pods().empty()) infos_.erase(info);
    }
    placed_.erase(found);
    WakeFor(node);
    WakeNeighbours();
  }

  void Schedule(const PodPtr& pod) {
    std::vector<const NodeInfo*> nodes;
    for (const auto& [name, info] : infos_) {
      if (info.node()) nodes.push_back(&info);
    }
    const TopologySpread spread(*pod, nodes);
    const PodAffinity affinity(*pod, nodes, [this](const std::string& ns) {
      NamespacePtr found = namespaces_.Find(ns);
      return found ? &found->metadata().labels() : nullptr;
    });
    std::vector<const NodeInfo*> feasible;
    std::vector<std::vector<std::string>> reasons;
    bool by_neighbours = false;
    for (const NodeInfo* info : nodes) {
      std::vector<std::string> why_not = WhyNot(*pod, *info);
      if (why_not.empty()) {
        why_not = spread.WhyNot(*info);
        if (why_not.empty()) why_not = affinity.WhyNot(*info);
        by_neighbours |= !why_not.empty();
      }
      if (why_not.empty()) {
        feasible.push_back(info);
      } else {
        reasons.push_back(std::move(why_not));
      }
    }
    looks_at_neighbours_.erase(pod->metadata().uid());
    if (feasible.empty()) {
      if (by_neighbours) looks_at_neighbours_.insert(pod->metadata().uid());
      waiting_.PutBackUnschedulable(pod->metadata().uid(), SteadyNow());
      ReportUnschedulable(*pod, FitErrorMessage(reasons));
      return;
    }
    std::vector<int64_t> scores = ScoreNodes(*pod, feasible, Replicas(*pod), affinity, spread);
    auto best = std::ranges::max_element(scores);
    Bind(pod, feasible[static_cast<size_t>(best - scores.begin())]->node()->metadata().name());
  }

  // The pod counts on the node from now on; the binding itself is done beside the strand, so that
  // several of them share the store's commits.
  void Bind(const PodPtr& pod, const std::string& node) {
    auto assumed = std::make_shared<Pod>(*pod);
    assumed->mutable_spec()->set_node_name(node);
    Place(assumed, node);
    executor_.Post([this, self = shared_from_this(), pod, node] {
      const auto& meta = pod->metadata();
      Result<> bound = client_.Bind(meta.namespace_(), meta.name(), meta.uid(), node);
      strand_.Post(
          [this, self, pod, node, bound = std::move(bound)] { OnBound(pod, node, bound); });
    });
  }

  void OnBound(const PodPtr& pod, const std::string& node, const Result<>& bound) {
    const auto& meta = pod->metadata();
    const std::string key = KeyOf(meta);
    if (bound.ok()) {
      events_.Normal(*pod, "Scheduled", "Successfully assigned " + key + " to " + node);
      Forget(meta.uid());
      // It may have gone while it was being bound; then no event will take it off the node.
      PodPtr now = pods_.Find(key);
      if (!now || now->metadata().uid() != meta.uid()) Displace(meta.uid());
      return;
    }
    log::Debug("scheduler: binding failed", {{"pod", key}, {"error", bound.error()}});
    // If an event says meanwhile that it is on a node, that holds.
    PodPtr now = pods_.Find(key);
    if (now && now->metadata().uid() == meta.uid() && !now->spec().node_name().empty()) return;
    Displace(meta.uid());
    if (now && now->metadata().uid() == meta.uid()) {
      events_.Warning(*pod, "FailedScheduling", bound.error().message());
      waiting_.PutBackFailed(meta.uid(), SteadyNow());
    } else {
      Forget(meta.uid());
    }
    Continue();
  }

  void ReportUnschedulable(const Pod& pod, const std::string& message) {
    events_.Warning(pod, "FailedScheduling", message);
    Pod updated = pod;
    auto* condition = MutableCondition(updated.mutable_status(), "PodScheduled");
    if (condition == nullptr) {
      condition = updated.mutable_status()->add_conditions();
      condition->set_type("PodScheduled");
    }
    if (condition->status() == "False" && condition->message() == message) return;
    if (condition->status() != "False") {
      SetTime(condition->mutable_last_transition_time(), Now());
    }
    condition->set_status("False");
    condition->set_reason("Unschedulable");
    condition->set_message(message);
    // A conflict means that a newer pod is on its way to us, and another try with it.
    if (auto stored = client_.UpdateStatus(updated); stored.ok()) pods_.Assume(*stored);
  }

  // Pods of the same controller, or of a Service that selects this pod too.
  IsReplica Replicas(const Pod& pod) const {
    std::vector<codec::LabelSelector> selectors;
    for (const ServicePtr& service :
         services_.ByIndex(services_by_namespace_, pod.metadata().namespace_())) {
      if (service->spec().selector().empty()) continue;
      auto selector = codec::LabelSelector::FromSet(service->spec().selector());
      if (selector.Matches(pod.metadata().labels())) selectors.push_back(std::move(selector));
    }
    const auto* owner = ControllerOf(pod.metadata());
    return [selectors = std::move(selectors),
            owner_uid = owner ? owner->uid() : std::string()](const Pod& other) {
      if (!owner_uid.empty() && IsControlledBy(other.metadata(), owner_uid)) return true;
      return std::ranges::any_of(selectors, [&other](const codec::LabelSelector& selector) {
        return selector.Matches(other.metadata().labels());
      });
    };
  }

  Executor& executor_;
  const std::string name_;
  EventRecorder events_;
  Informer<Pod> pods_;
  Informer<Node> nodes_;
  Informer<Namespace> namespaces_;
  Informer<Service> services_;
  int services_by_namespace_ = 0;
  SchedulingQueue waiting_;
  std::set<std::string> looks_at_neighbours_;  // uids of those that wait because of other pods
  std::map<std::string, NodeInfo> infos_;      // by node name
  std::unordered_map<std::string, std::string> placed_;  // pod uid to node, assumed ones too
};

Scheduler::Scheduler(SchedulerDeps deps) : core_(std::make_shared<Core>(deps)) {}
Scheduler::~Scheduler() { Stop(); }
void Scheduler::Start() { core_->Start(); }
void Scheduler::Stop() { core_->Stop(); }

}  // namespace skiff::cp
