#include "control-plane/rpc/node_reports.h"

#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <set>

#include "base/log.h"
#include "control-plane/rpc/node_registry.h"
#include "control-plane/rpc/pod_status.h"
#include "control-plane/rpc/write_back.h"
#include "proto/k8s/coordination/v1/coordination.pb.h"
#include "proto/k8s/core/v1/event.pb.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/core/v1/service.pb.h"

namespace skiff::cp {

namespace {

namespace core = k8s::core::v1;
namespace coordination = k8s::coordination::v1;

constexpr size_t kMaxEvents = 1000;
// Pods written at the same time, which then share the store's commits.
constexpr int kMaxPodWriters = 8;
constexpr const char* kLeaseNamespace = "kube-node-lease";
constexpr std::chrono::seconds kRetryDelay{2};

// The store is away, or others write all the time: worth another try.
bool IsTransient(const Error& error) {
  return error.code() == Code::kUnavailable || error.code() == Code::kConflict ||
         error.code() == Code::kDeadlineExceeded || error.code() == Code::kUnknownOutcome ||
         error.code() == Code::kInternal;
}

void SetMicroTime(k8s::meta::v1::MicroTime* time, WallTime now) {
  auto micros = std::chrono::duration_cast<std::chrono::microseconds>(now.time_since_epoch());
  time->set_seconds(micros.count() / 1'000'000);
  time->set_nanos(static_cast<int32_t>(micros.count() % 1'000'000 * 1000));
}

struct PodWork {
  PodIdentity pod;
  std::optional<core::PodStatus> status;
  bool gone = false;
};

std::string KeyOf(const PodIdentity& pod) { return pod.ns + "/" + pod.name; }

}  // namespace

struct NodeReports::State : std::enable_shared_from_this<State> {
  State(Client& c, Executor& e, std::string n) : client(c), blocking(e), node(std::move(n)) {}

  Client& client;
  Executor& blocking;
  const std::string node;

  std::mutex mutex;                     // a leaf: guards what waits
  std::map<std::string, PodWork> pods;  // by "ns/name"
  std::deque<std::string> pod_order;    // of those in `pods` that are not being written
  std::set<std::string> pods_in_work;
  int pod_writers = 0;
  bool scheduled = false;  // the writer of everything else
  std::optional<core::Node> node_status;
  std::deque<core::Event> events;
  std::optional<int> lease_seconds;

  // Of the writer of everything else, of which there is one at a time.
  WallTime lease_written;

  // The mutex is held.
  void Schedule() {
    if (std::exchange(scheduled, true)) return;
    blocking.Post([self = shared_from_this()] { self->Run(); });
  }

  // The mutex is held.
  void SchedulePods() {
    if (pod_order.empty() || pod_writers == kMaxPodWriters) return;
    ++pod_writers;
    blocking.Post([self = shared_from_this()] { self->RunPods(); });
  }

  // The mutex is held. A pod's reports are written in their order: the next one waits for the
  // writer that has the pod.
  PodWork& WorkFor(PodIdentity pod) {
    std::string key = KeyOf(pod);
    auto [found, fresh] = pods.try_emplace(key);
    if (fresh && !pods_in_work.contains(key)) pod_order.push_back(key);
    if (found->second.pod.uid != pod.uid) found->second = PodWork{std::move(pod)};
    SchedulePods();
    return found->second;
  }

  // Writes pods until none waits.
  void RunPods() {
    std::unique_lock lock(mutex);
    while (!pod_order.empty()) {
      std::string key = std::move(pod_order.front());
      pod_order.pop_front();
      auto entry = pods.extract(key);
      pods_in_work.insert(key);
      lock.unlock();
      bool done = ApplyPod(entry.mapped());
      lock.lock();
      if (!done) {
        // It stays in work until it is time to try again.
        blocking.PostAfter(kRetryDelay, [self = shared_from_this(), work = entry.mapped()] {
          self->TryAgain(work);
        });
        continue;
      }
      Release(key);
    }
    --pod_writers;
  }

  // The mutex is held. What has been reported meanwhile comes next.
  void Release(const std::string& key) {
    pods_in_work.erase(key);
    if (pods.contains(key)) pod_order.push_back(key);
  }

  void TryAgain(const PodWork& work) {
    std::lock_guard lock(mutex);
    std::string key = KeyOf(work.pod);
    // A report that came meanwhile is newer; that the pod is gone stays true of the same pod.
    auto [found, fresh] = pods.try_emplace(key, work);
    if (found->second.pod.uid == work.pod.uid) found->second.gone |= work.gone;
    Release(key);
    SchedulePods();
  }

  // Writes everything else until nothing waits.
  void Run() {
    for (;;) {
      std::unique_lock lock(mutex);
      if (lease_seconds) {
        int seconds = *std::exchange(lease_seconds, std::nullopt);
        lock.unlock();
        Report("renew lease", WriteLease(seconds));
      } else if (node_status) {
        core::Node status = *std::exchange(node_status, std::nullopt);
        lock.unlock();
        Report("write node status", WriteNode(status));
      } else if (!events.empty()) {
        core::Event event = std::move(events.front());
        events.pop_front();
        lock.unlock();
        Report("write event", WriteEvent(event));
      } else {
        scheduled = false;
        return;
      }
    }
  }

  void Report(std::string_view what, const Result<>& outcome) const {
    if (outcome.ok()) return;
    log::Warning("node report not written, going on",
                 {{"node", node}, {"what", what}, {"error", outcome.error()}});
  }

  // False when it failed and may succeed later.
  bool ApplyPod(const PodWork& work) {
    Result<> outcome = work.status ? WritePod(work.pod, *work.status) : Result<>();
    if (outcome.ok() && work.gone) outcome = DeletePod(work.pod);
    if (outcome.ok()) return true;
    Report("write pod " + KeyOf(work.pod), outcome);
    return !IsTransient(outcome.error());
  }

  // The pod as stored, if it is this node's and still the one meant; null when there is nothing to
  // say about it any more.
  Result<std::shared_ptr<const core::Pod>> FindOwn(const PodIdentity& pod) {
    auto stored = client.Get<core::Pod>(pod.ns, pod.name);
    std::shared_ptr<const core::Pod> none;
    if (!stored.ok()) {
      if (stored.error().code() == Code::kNotFound) return none;
      return stored.error();
    }
    if ((*stored)->metadata().uid() != pod.uid) return none;
    if ((*stored)->spec().node_name() != node) {
      return Error(Code::kPermissionDenied, "the pod is not bound to this node");
    }
    return *stored;
  }

  Result<> WritePod(const PodIdentity& pod, const core::PodStatus& status) {
    return RetryOnConflict([&]() -> Result<> {
      auto stored = TRY(FindOwn(pod));
      if (stored == nullptr) return {};
      auto own = client.Get<core::Node>({}, node);
      core::Pod changed = *stored;
      *changed.mutable_status() = MergePodStatus(stored->status(), status,
                                                 own.ok() ? **own : core::Node::default_instance());
      if (SameBytes(changed, *stored)) return {};
      auto written = client.UpdateStatus(changed);
      if (!written.ok() && written.error().code() == Code::kNotFound) return {};
      TRY(std::move(written));
      return {};
    });
  }

  Result<> DeletePod(const PodIdentity& pod) {
    auto stored = TRY(FindOwn(pod));
    // Only what somebody has asked to delete; a node does not delete on its own account.
    if (stored == nullptr || !stored->metadata().has_deletion_timestamp()) return {};
    Result<> deleted =
        client.Delete<core::Pod>(pod.ns, pod.name, {.grace_period_seconds = 0, .uid = pod.uid});
    if (!deleted.ok() && deleted.error().code() == Code::kNotFound) return {};
    return deleted;
  }

  Result<> WriteNode(const core::Node& report) {
    TRY(WriteAnnotations(report));
    return RetryOnConflict([&]() -> Result<> {
      auto stored = TRY(client.Get<core::Node>({}, node));
      core::Node changed = *stored;
      *changed.mutable_status() = report.status();
      if (SameBytes(changed, *stored)) return {};
      TRY(client.UpdateStatus(changed));
      return {};
    });
  }

  // What the node says to its peers; those of others are others'.
  Result<> WriteAnnotations(const core::Node& report) {
    if (report.metadata().annotations().empty()) return {};
    return RetryOnConflict([&]() -> Result<> {
      auto stored = TRY(client.Get<core::Node>({}, node));
      core::Node changed = *stored;
      auto& annotations = *changed.mutable_metadata()->mutable_annotations();
      for (const auto& [key, value] : report.metadata().annotations()) {
        if (key != kNodeKeyAnnotation) annotations[key] = value;
      }
      if (SameBytes(changed, *stored)) return {};
      TRY(client.Update(changed));
      return {};
    });
  }

  Result<> WriteEvent(core::Event& event) {
    if (Result<> allowed = CheckEvent(event); !allowed.ok()) return allowed;
    auto created = client.Create(event);
    if (created.ok()) return {};
    if (created.error().code() != Code::kAlreadyExists) return created.error();
    // The same event again, with a higher count.
    event.mutable_metadata()->clear_resource_version();
    event.mutable_metadata()->clear_uid();
    TRY(client.Update(event));
    return {};
  }

  Result<> CheckEvent(core::Event& event) {
    core::ObjectReference& about = *event.mutable_involved_object();
    if (about.kind() == "Node" && about.name() == node) return {};
    if (about.kind() == "Pod" && about.namespace_() == event.metadata().namespace_()) {
      auto pod = client.Get<core::Pod>(about.namespace_(), about.name());
      // A pod that is gone may have been anybody's; its last events are worth keeping.
      if (!pod.ok() || (*pod)->spec().node_name() == node) return {};
    }
    if (about.kind() == "Service" && about.namespace_() == event.metadata().namespace_()) {
      // Every node has rules for every Service; its proxy knows them by name.
      auto service = TRY(client.Get<core::Service>(about.namespace_(), about.name()));
      about.set_uid(service->metadata().uid());
      return {};
    }
    return Error(Code::kPermissionDenied, "an event about what is not this node's");
  }

  Result<> WriteLease(int seconds) {
    WallTime now = blocking.clock().WallNow();
    if (now - lease_written < std::chrono::seconds(seconds) / 2 && now >= lease_written) return {};
    Result<> written = RetryOnConflict([&]() -> Result<> {
      auto stored = client.Get<coordination::Lease>(kLeaseNamespace, node);
      bool fresh = !stored.ok();
      if (fresh && stored.error().code() != Code::kNotFound) return stored.error();
      coordination::Lease lease = fresh ? coordination::Lease() : **stored;
      if (fresh) {
        TRY(OwnLease(&lease));
        SetMicroTime(lease.mutable_spec()->mutable_acquire_time(), now);
      }
      lease.mutable_spec()->set_holder_identity(node);
      lease.mutable_spec()->set_lease_duration_seconds(seconds);
      SetMicroTime(lease.mutable_spec()->mutable_renew_time(), now);
      if (fresh) {
        TRY(client.Create(lease));
      } else {
        TRY(client.Update(lease));
      }
      return {};
    });
    TRY(std::move(written));
    lease_written = now;
    return {};
  }

  // A new lease goes with its Node.
  Result<> OwnLease(coordination::Lease* lease) {
    auto own = TRY(client.Get<core::Node>({}, node));
    lease->mutable_metadata()->set_name(node);
    lease->mutable_metadata()->set_namespace_(kLeaseNamespace);
    auto* owner = lease->mutable_metadata()->add_owner_references();
    owner->set_api_version("v1");
    owner->set_kind("Node");
    owner->set_name(node);
    owner->set_uid(own->metadata().uid());
    return {};
  }
};

NodeReports::NodeReports(Client& client, Executor& blocking, std::string node)
    : state_(std::make_shared<State>(client, blocking, std::move(node))) {}

NodeReports::~NodeReports() = default;

void NodeReports::ReportPod(PodIdentity pod, core::PodStatus status) {
  std::lock_guard lock(state_->mutex);
  state_->WorkFor(std::move(pod)).status = std::move(status);
}

void NodeReports::ReportPodGone(PodIdentity pod) {
  std::lock_guard lock(state_->mutex);
  state_->WorkFor(std::move(pod)).gone = true;
}

void NodeReports::ReportNode(core::Node node) {
  std::lock_guard lock(state_->mutex);
  state_->node_status = std::move(node);
  state_->Schedule();
}

void NodeReports::ReportEvent(core::Event event) {
  std::lock_guard lock(state_->mutex);
  if (state_->events.size() >= kMaxEvents) {
    log::Warning("too many events wait, dropping one", {{"node", state_->node}});
    return;
  }
  state_->events.push_back(std::move(event));
  state_->Schedule();
}

void NodeReports::RenewLease(int duration_seconds) {
  std::lock_guard lock(state_->mutex);
  state_->lease_seconds = duration_seconds;
  state_->Schedule();
}

}  // namespace skiff::cp
