#include "control-plane/controllers/replica_set_controller.h"

#include <algorithm>
#include <chrono>
#include <type_traits>
#include <unordered_set>
#include <utility>

#include "control-plane/controllers/framework/event_recorder.h"
#include "control-plane/controllers/framework/namespaces.h"
#include "control-plane/controllers/framework/objects.h"
#include "control-plane/controllers/framework/pods.h"
#include "control-plane/controllers/pod_ranking.h"
#include "proto/codec/selector.h"
#include "proto/k8s/apps/v1/apps.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/core/v1/rest.pb.h"

namespace skiff::cp {
namespace {

using k8s::apps::v1::ReplicaSet;
using k8s::core::v1::Pod;
using k8s::core::v1::ReplicationController;

// Pods made or deleted in one go; the rest follows when the key comes back.
constexpr int kBurst = 500;
constexpr char kFailure[] = "ReplicaFailure";

Result<codec::LabelSelector> SelectorOf(const ReplicaSet& set) {
  return codec::LabelSelector::From(set.spec().selector());
}
Result<codec::LabelSelector> SelectorOf(const ReplicationController& controller) {
  return codec::LabelSelector::FromSet(controller.spec().selector());
}

// Set: ReplicaSet or ReplicationController, which differ in the form of their selector alone.
template <class Set>
class ReplicaController : public Controller {
 public:
  // source: who the events are from.
  ReplicaController(std::string name, std::string source, Client& client, Executor& executor)
      : Controller(std::move(name), client, executor),
        events_(client, executor, std::move(source)),
        sets_(client, strand_),
        pods_(client, strand_) {
    by_owner_ = pods_.AddIndex([](const Pod& pod) {
      const auto* owner = ControllerOf(pod.metadata());
      return std::vector{owner ? owner->uid() : OrphansOf(pod.metadata().namespace_())};
    });
    sets_by_namespace_ =
        sets_.AddIndex([](const Set& set) { return std::vector{set.metadata().namespace_()}; });
    sets_by_owner_ = sets_.AddIndex([](const Set& set) {
      const auto* owner = ControllerOf(set.metadata());
      return owner ? std::vector{owner->uid()} : std::vector<std::string>();
    });
    Observe<Set>(sets_, [this](const SetPtr& before, const SetPtr& now) {
      queue_.Add(KeyOf((now ? now : before)->metadata()));
    });
    Observe<Pod>(pods_, [this](const PodPtr& before, const PodPtr& now) { OnPod(before, now); });
  }

 protected:
  Result<> Sync(const std::string& key) override;

 private:
  using SetPtr = std::shared_ptr<const Set>;
  using Status = std::remove_cvref_t<decltype(std::declval<const Set&>().status())>;

  void OnPod(const PodPtr& before, const PodPtr& now);
  void AddOwner(const Pod& pod);
  void AddMatching(const Pod& orphan);

  // The set's active pods; adopts those that match and belong to nobody, and lets those go that
  // match no more.
  Result<std::vector<PodPtr>> Claim(const Set& set, const codec::LabelSelector& selector);
  Result<> Adopt(const Set& set, const PodPtr& pod);
  Result<> Release(const Set& set, const PodPtr& pod);
  bool IsGoing(const Pod& pod) const {
    return IsBeingDeleted(pod.metadata()) || deleting_.contains(pod.metadata().uid());
  }

  Result<> CreatePods(const Set& set, int count);
  Result<> DeletePods(const Set& set, const std::vector<PodPtr>& pods, int count);
  std::vector<PodPtr> RelatedPods(const Set& set) const;
  Status StatusOf(const Set& set, const std::vector<PodPtr>& pods, const Result<>& managed,
                  bool too_few) const;
  Result<> WriteStatus(const Set& set, Status status);

  EventRecorder events_;
  Informer<Set> sets_;
  Informer<Pod> pods_;
  int by_owner_ = 0;
  int sets_by_namespace_ = 0;
  int sets_by_owner_ = 0;
  // Pods (by uid) that this controller has deleted, until the cache shows it.
  std::unordered_set<std::string> deleting_;
};

template <class Set>
void ReplicaController<Set>::OnPod(const PodPtr& before, const PodPtr& now) {
  if (!now || IsBeingDeleted(now->metadata())) {
    deleting_.erase((now ? now : before)->metadata().uid());
  }
  if (before) AddOwner(*before);
  if (now) {
    AddOwner(*now);
    if (ControllerOf(now->metadata()) == nullptr) AddMatching(*now);
  }
}

template <class Set>
void ReplicaController<Set>::AddOwner(const Pod& pod) {
  const auto* owner = ControllerOf(pod.metadata());
  if (owner == nullptr || owner->kind() != Set::descriptor()->name()) return;
  std::string key = JoinKey(pod.metadata().namespace_(), owner->name());
  SetPtr set = sets_.Find(key);
  if (set && set->metadata().uid() == owner->uid()) queue_.Add(key);
}

template <class Set>
void ReplicaController<Set>::AddMatching(const Pod& orphan) {
  for (const SetPtr& set : sets_.ByIndex(sets_by_namespace_, orphan.metadata().namespace_())) {
    auto selector = SelectorOf(*set);
    if (selector.ok() && !selector->MatchesEverything() &&
        selector->Matches(orphan.metadata().labels())) {
      queue_.Add(KeyOf(set->metadata()));
    }
  }
}

template <class Set>
Result<> ReplicaController<Set>::Sync(const std::string& key) {
  SetPtr set = sets_.Find(key);
  if (!set) return {};
  auto selector = SelectorOf(*set);
  // Validation refuses such selectors: nothing to retry.
  if (!selector.ok() || selector->MatchesEverything()) return {};

  std::vector<PodPtr> pods = TRY(Claim(*set, *selector));
  const int missing = set->spec().replicas() - static_cast<int>(pods.size());
  Result<> managed;
  if (!IsBeingDeleted(set->metadata())) {
    if (missing > 0) managed = CreatePods(*set, std::min(missing, kBurst));
    if (missing < 0) managed = DeletePods(*set, pods, std::min(-missing, kBurst));
  }
  // What was made or deleted a moment ago comes back as events of the pods.
  if (SetPtr now = sets_.Find(key)) {
    TRY(WriteStatus(*now, StatusOf(*now, pods, managed, missing > 0)));
  }
  return managed;
}

template <class Set>
Result<std::vector<PodPtr>> ReplicaController<Set>::Claim(const Set& set,
                                                          const codec::LabelSelector& selector) {
  std::vector<PodPtr> claimed;
  for (const PodPtr& pod : pods_.ByIndex(by_owner_, set.metadata().uid())) {
    if (!selector.Matches(pod->metadata().labels())) {
      TRY(Release(set, pod));
    } else if (IsPodActive(*pod) && !IsGoing(*pod)) {
      claimed.push_back(pod);
    }
  }
  if (IsBeingDeleted(set.metadata())) return claimed;
  for (const PodPtr& pod : pods_.ByIndex(by_owner_, OrphansOf(set.metadata().namespace_()))) {
    if (!selector.Matches(pod->metadata().labels()) || !IsPodActive(*pod)) continue;
    TRY(Adopt(set, pod));
    claimed.push_back(pod);
  }
  return claimed;
}

template <class Set>
Result<> ReplicaController<Set>::Adopt(const Set& set, const PodPtr& pod) {
  // A set that is going must not take pods along: ask the API, not the cache.
  auto live = TRY(client_.Get<Set>(set.metadata().namespace_(), set.metadata().name()));
  if (live->metadata().uid() != set.metadata().uid() || IsBeingDeleted(live->metadata())) {
    return Error(Code::kConflict, "the " + Set::descriptor()->name() + " has been deleted");
  }
  Pod adopted = *pod;
  *adopted.mutable_metadata()->add_owner_references() = ControllerReference(set);
  pods_.Assume(TRY(client_.Update(adopted)));
  return {};
}

template <class Set>
Result<> ReplicaController<Set>::Release(const Set& set, const PodPtr& pod) {
  Pod released = *pod;
  RemoveOwner(released.mutable_metadata(), set.metadata().uid());
  auto updated = client_.Update(released);
  if (!updated.ok()) {
    if (updated.error().code() == Code::kNotFound) return {};
    return updated.error();
  }
  pods_.Assume(*updated);
  return {};
}

// In batches of 1, 2, 4, ...: a set whose pods are refused (a quota, an invalid template) costs a
// few requests, not five hundred.
template <class Set>
Result<> ReplicaController<Set>::CreatePods(const Set& set, int count) {
  Pod pod;
  const auto& pod_template = set.spec().template_();
  auto* meta = pod.mutable_metadata();
  meta->set_generate_name(set.metadata().name() + "-");
  meta->set_namespace_(set.metadata().namespace_());
  *meta->mutable_labels() = pod_template.metadata().labels();
  *meta->mutable_annotations() = pod_template.metadata().annotations();
  *meta->mutable_finalizers() = pod_template.metadata().finalizers();
  *meta->add_owner_references() = ControllerReference(set);
  *pod.mutable_spec() = pod_template.spec();

  Result<> result;
  for (int done = 0, batch = 1; done < count && result.ok(); batch *= 2) {
    for (int i = 0; i < batch && done < count; ++i, ++done) {
      auto created = client_.Create(pod);
      if (created.ok()) {
        events_.Normal(set, "SuccessfulCreate", "Created pod: " + (*created)->metadata().name());
        pods_.Assume(*created);
      } else if (RefusedByEndingNamespace(client_, set.metadata().namespace_(), created.error())) {
        return {};
      } else if (result.ok()) {
        events_.Warning(set, "FailedCreate", "Error creating: " + created.error().message());
        result = created.error();
      }
    }
  }
  return result;
}

template <class Set>
Result<> ReplicaController<Set>::DeletePods(const Set& set, const std::vector<PodPtr>& pods,
                                            int count) {
  Result<> result;
  for (const PodPtr& pod :
       ChoosePodsToDelete(pods, RelatedPods(set), static_cast<size_t>(count), Now())) {
    const auto& meta = pod->metadata();
    deleting_.insert(meta.uid());
    auto deleted = client_.Delete<Pod>(meta.namespace_(), meta.name(), {.uid = meta.uid()});
    if (deleted.ok() || deleted.error().code() == Code::kNotFound) {
      events_.Normal(set, "SuccessfulDelete", "Deleted pod: " + meta.name());
      continue;
    }
    deleting_.erase(meta.uid());
    if (!result.ok()) continue;
    events_.Warning(set, "FailedDelete", "Error deleting: " + deleted.error().message());
    result = deleted.error();
  }
  return result;
}

// The active pods of the sets that have the same owner: during a rollout they are of one kind.
template <class Set>
std::vector<PodPtr> ReplicaController<Set>::RelatedPods(const Set& set) const {
  std::vector<std::string> uids = {set.metadata().uid()};
  if (const auto* owner = ControllerOf(set.metadata())) {
    for (const SetPtr& sibling : sets_.ByIndex(sets_by_owner_, owner->uid())) {
      if (sibling->metadata().uid() != uids[0]) uids.push_back(sibling->metadata().uid());
    }
  }
  std::vector<PodPtr> related;
  for (const std::string& uid : uids) {
    for (const PodPtr& pod : pods_.ByIndex(by_owner_, uid)) {
      if (IsPodActive(*pod)) related.push_back(pod);
    }
  }
  return related;
}

template <class Set>
typename ReplicaController<Set>::Status ReplicaController<Set>::StatusOf(
    const Set& set, const std::vector<PodPtr>& pods, const Result<>& managed, bool too_few) const {
  const std::chrono::seconds min_ready(set.spec().min_ready_seconds());
  codec::LabelSelector full =
      codec::LabelSelector::FromSet(set.spec().template_().metadata().labels());
  int labeled = 0, ready = 0, available = 0, terminating = 0;
  for (const PodPtr& pod : pods) {
    labeled += full.Matches(pod->metadata().labels());
    ready += IsPodReady(*pod);
    available += IsPodAvailable(*pod, min_ready, Now());
  }
  for (const PodPtr& pod : pods_.ByIndex(by_owner_, set.metadata().uid())) {
    terminating += !IsPodTerminal(*pod) && IsGoing(*pod);
  }
  Status status = set.status();
  status.set_observed_generation(set.metadata().generation());
  status.set_replicas(static_cast<int>(pods.size()));
  status.set_fully_labeled_replicas(labeled);
  status.set_ready_replicas(ready);
  status.set_available_replicas(available);
  if constexpr (requires { status.set_terminating_replicas(terminating); }) {
    status.set_terminating_replicas(terminating);
  }
  const bool known = FindCondition(status, kFailure) != nullptr;
  if (managed.ok()) {
    RemoveCondition(&status, kFailure);
  } else if (!known) {
    auto* condition = status.add_conditions();
    condition->set_type(kFailure);
    condition->set_status("True");
    condition->set_reason(too_few ? "FailedCreate" : "FailedDelete");
    condition->set_message(managed.error().message());
    SetTime(condition->mutable_last_transition_time(), Now());
  }
  return status;
}

template <class Set>
Result<> ReplicaController<Set>::WriteStatus(const Set& set, Status status) {
  if (status.available_replicas() < status.ready_replicas()) {
    queue_.AddAfter(KeyOf(set.metadata()), std::chrono::seconds(set.spec().min_ready_seconds()));
  }
  if (Equal(status, set.status())) return {};
  Set updated = set;
  *updated.mutable_status() = std::move(status);
  auto stored = client_.UpdateStatus(updated);
  if (!stored.ok()) {
    if (stored.error().code() == Code::kNotFound) return {};
    return stored.error();
  }
  sets_.Assume(*stored);
  return {};
}

}  // namespace

std::shared_ptr<Controller> MakeReplicaSetController(Client& client, Executor& executor) {
  return std::make_shared<ReplicaController<ReplicaSet>>("replicaset", "replicaset-controller",
                                                         client, executor);
}

std::shared_ptr<Controller> MakeReplicationController(Client& client, Executor& executor) {
  return std::make_shared<ReplicaController<ReplicationController>>(
      "replicationcontroller", "replication-controller", client, executor);
}

}  // namespace skiff::cp
