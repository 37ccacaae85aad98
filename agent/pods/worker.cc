#include "agent/pods/worker.h"

#include <algorithm>

#include "agent/pods/worker_state.h"
#include "agent/spec/shape.h"
#include "base/log.h"

namespace skiff::agent {
namespace {

namespace core = k8s::core::v1;
using std::chrono::seconds;

// A look without any occasion, in case an event was lost.
constexpr std::chrono::minutes kFullPass{5};
constexpr seconds kRetryLook{2};

WallTime ToWall(const k8s::meta::v1::Time& time) { return WallTime(seconds(time.seconds())); }

// Whether the parts of a pod that the node acts on differ: a status that comes back from the API
// is no news.
bool Differs(const core::Pod& a, const core::Pod& b) {
  const auto& left = a.metadata();
  const auto& right = b.metadata();
  auto sorted = [](const auto& map) {
    return std::map<std::string, std::string>(map.begin(), map.end());
  };
  auto gates = [](const core::Pod& pod) {
    std::string text;
    for (const auto& gate : pod.spec().readiness_gates()) {
      for (const auto& condition : pod.status().conditions()) {
        if (condition.type() == gate.condition_type()) {
          text += condition.type() + "=" + condition.status() + ";";
        }
      }
    }
    return text;
  };
  return left.generation() != right.generation() ||
         left.has_deletion_timestamp() != right.has_deletion_timestamp() ||
         left.deletion_grace_period_seconds() != right.deletion_grace_period_seconds() ||
         sorted(left.labels()) != sorted(right.labels()) ||
         sorted(left.annotations()) != sorted(right.annotations()) ||
         a.spec().SerializeAsString() != b.spec().SerializeAsString() || gates(a) != gates(b);
}

}  // namespace

std::shared_ptr<PodWorker> PodWorker::Make(const PodDeps& deps, PodIdentity identity,
                                           std::function<void(const std::string&)> on_released) {
  std::shared_ptr<PodWorker> worker(
      new PodWorker(deps, std::move(identity), std::move(on_released)));
  worker->state_->log_directory =
      worker->identity_.name_space + "_" + worker->identity_.name + "_" + worker->identity_.uid;
  PodProber::Deps prober;
  prober.strand = worker->strand_;
  prober.runner = &deps.probes;
  std::weak_ptr<PodWorker> weak = worker;
  prober.on_unhealthy = [weak](const std::string& container, const std::string& message) {
    auto self = weak.lock();
    if (self == nullptr || self->state_->pod == nullptr) return;
    const core::Pod& pod = *self->state_->pod;
    self->deps_.events.Warning(SubjectOf(pod, FieldPath(pod, container)), "Unhealthy", message);
  };
  prober.on_change = [weak] {
    if (auto self = weak.lock()) self->Wake();
  };
  worker->state_->prober = PodProber::Make(std::move(prober));
  return worker;
}

PodWorker::PodWorker(const PodDeps& deps, PodIdentity identity,
                     std::function<void(const std::string&)> on_released)
    : deps_(deps),
      identity_(std::move(identity)),
      on_released_(std::move(on_released)),
      strand_(std::make_shared<Strand>(deps.executor)),
      state_(std::make_unique<State>()) {}

PodWorker::~PodWorker() = default;

void PodWorker::OnStrand(std::function<void(PodWorker&)> work) {
  strand_->Post([self = shared_from_this(), work = std::move(work)] {
    if (!self->state_->stopped) work(*self);
  });
}

void PodWorker::SetPod(PodPtr pod) {
  OnStrand([pod = std::move(pod)](PodWorker& self) {
    State& state = *self.state_;
    bool first = state.pod == nullptr;
    bool changed = first || Differs(*state.pod, *pod);
    bool relabelled = !first && changed;
    state.pod = pod;
    if (!changed) return;
    state.shape = MakeShape(*pod);
    state.log_directory = LogDirectoryName(*pod);
    if (first) {
      if (!pod->status().phase().empty()) state.status = pod->status();
      // A pod that has ended stays ended, whatever is left of it in the runtime.
      if (IsFinal(pod->status())) state.phase = Phase::kTerminating;
    }
    if (relabelled) self.RefreshVolumes();
    self.Look();
  });
}

void PodWorker::Remove() {
  OnStrand([](PodWorker& self) {
    if (self.state_->object_gone) return;
    self.state_->object_gone = true;
    if (self.state_->phase == Phase::kReleased) {
      self.on_released_(self.identity_.uid);
      return;
    }
    self.Look();
  });
}

void PodWorker::Wake() {
  OnStrand([](PodWorker& self) { self.Look(); });
}

void PodWorker::ObjectsChanged() {
  OnStrand([](PodWorker& self) {
    // What failed for want of an object may work now.
    self.state_->not_before.erase("");
    for (auto it = self.state_->waiting.begin(); it != self.state_->waiting.end(); ++it) {
      if (it->second.reason == "CreateContainerConfigError") {
        self.state_->not_before.erase(it->first);
      }
    }
    self.RefreshVolumes();
    self.Look();
  });
}

void PodWorker::Repeat() {
  OnStrand([](PodWorker& self) {
    self.state_->reported.clear();
    self.state_->gone_reported = false;
    self.Look();
  });
}

void PodWorker::Stop() {
  strand_->Post([self = shared_from_this()] {
    self->state_->stopped = true;
    self->state_->prober->Stop();
    (void)self->strand_->Cancel(self->state_->timer);
  });
}

std::shared_ptr<const PodView> PodWorker::view() const {
  std::lock_guard lock(view_mutex_);
  return view_;
}

WallTime PodWorker::Now() const { return deps_.executor.clock().WallNow(); }

std::string PodWorker::PodIp() const {
  const State& state = *state_;
  const ObservedSandbox* sandbox = state.observed.NewestSandbox();
  if (sandbox != nullptr && !sandbox->ips.empty()) return sandbox->ips.front();
  NodeContext node = deps_.node();
  return node.host_ips.empty() ? std::string() : node.host_ips.front();
}

void PodWorker::WakeIn(std::chrono::nanoseconds delay) {
  State& state = *state_;
  SteadyTime at = deps_.executor.clock().Now() +
                  std::chrono::duration_cast<SteadyTime::duration>(
                      std::max<std::chrono::nanoseconds>(delay, std::chrono::nanoseconds(0)));
  if (state.timer_at && *state.timer_at <= at) return;  // it comes sooner anyway
  (void)strand_->Cancel(state.timer);
  state.timer_at = at;
  state.timer = strand_->PostAfter(delay, [weak = weak_from_this(), at] {
    auto self = weak.lock();
    if (self == nullptr || self->state_->stopped || self->state_->timer_at != at) return;
    self->state_->timer_at.reset();
    self->Look();
  });
}

void PodWorker::WakeAt(WallTime time) { WakeIn(time - Now()); }

void PodWorker::Look() {
  State& state = *state_;
  if (state.phase == Phase::kReleased) {
    ReconcileTerminated();
    return;
  }
  if (state.looking) {
    state.look_again = true;
    return;
  }
  state.looking = true;
  uint64_t mutations = state.mutations;
  deps_.blocking.Post([self = shared_from_this(), directory = state.log_directory,
                       known = state.messages, mutations] {
    auto observed = ObservePod(self->deps_, self->identity_.uid, directory, known);
    self->OnStrand([observed = std::move(observed), mutations](PodWorker& worker) {
      worker.Looked(observed, mutations);
    });
  });
}

void PodWorker::Looked(Result<ObservedPod> observed, uint64_t mutations) {
  State& state = *state_;
  state.looking = false;
  bool again = std::exchange(state.look_again, false);
  if (!observed.ok()) {
    log::Warning("cannot look at a pod; trying again",
                 {{"pod", identity_.name}, {"error", observed.error()}});
    WakeIn(kRetryLook);
    return;
  }
  if (mutations != state.mutations) {
    Look();  // what was seen may be from before our own change
    return;
  }
  state.observed = *std::move(observed);
  state.observed_once = true;
  std::map<std::string, std::string> messages;
  for (const ObservedContainer& container : state.observed.containers) {
    if (container.phase == ContainerPhase::kExited) messages[container.id] = container.message;
  }
  state.messages = std::move(messages);
  std::erase_if(state.stopping, [&](const auto& entry) {
    const ObservedContainer* container = state.observed.ById(entry.first);
    return container == nullptr || container->phase != ContainerPhase::kRunning;
  });
  Reconcile();
  if (again) Look();
}

void PodWorker::Reconcile() {
  State& state = *state_;
  bool wanted =
      state.pod != nullptr && !state.object_gone && !state.pod->metadata().has_deletion_timestamp();
  if (state.phase == Phase::kSyncing && !wanted) BeginTermination();
  UpdateProbes();
  if (state.phase == Phase::kSyncing) ReconcileSyncing();
  if (state.phase == Phase::kTerminating) ReconcileTerminating();
  {
    auto view = std::make_shared<PodView>();
    view->pod = state.pod;
    view->observed = state.observed;
    view->log_directory = state.log_directory;
    view->terminating = state.phase != Phase::kSyncing;
    std::lock_guard lock(view_mutex_);
    view_ = std::move(view);
  }
  TellAddresses();
  ReportStatus();
  if (state.phase == Phase::kTerminated) ReconcileTerminated();
  WakeIn(kFullPass);
}

bool PodWorker::PastDeadline() {
  State& state = *state_;
  const core::Pod& pod = *state.pod;
  if (!pod.spec().has_active_deadline_seconds() || !state.status) return false;
  WallTime end = ToWall(state.status->start_time()) + seconds(pod.spec().active_deadline_seconds());
  if (Now() < end) {
    WakeAt(end);
    return false;
  }
  return true;
}

PlanInput PodWorker::MakeInput() {
  State& state = *state_;
  PlanInput input;
  input.shape = &state.shape;
  input.observed = &state.observed;
  input.restart_back_off = &state.restart_back_off;
  input.not_before = state.not_before;
  input.start_busy = state.start.has_value() || state.sandbox_starting;
  input.now = Now();
  for (const ObservedContainer& container : state.observed.containers) {
    ContainerFacts facts;
    bool starting = state.start && !state.start->pulling && state.start->name == container.name &&
                    state.start->attempt == container.attempt;
    facts.busy =
        starting || state.stopping.contains(container.id) || state.removing.contains(container.id);
    facts.started = state.prober->HealthOf(container.id).started;
    facts.kill_message = state.prober->KillMessage(container.id);
    input.facts[container.id] = std::move(facts);
  }
  return input;
}

void PodWorker::ReconcileSyncing() {
  State& state = *state_;
  if (PastDeadline()) {
    state.failure_reason = "DeadlineExceeded";
    state.failure_message = "Pod was active on the node longer than the specified deadline";
    deps_.events.Normal(SubjectOf(*state.pod), state.failure_reason, state.failure_message);
    BeginTermination();
    return;
  }
  PodPlan plan = PlanSync(MakeInput());
  if (plan.outcome) {
    BeginTermination();
    return;
  }
  ApplyStops(plan.stop);
  NoteBackOff(plan.crash_back_off);
  if (plan.create_sandbox) ApplySandbox(*plan.create_sandbox, plan.sandbox_changed);
  if (plan.start) ApplyStart(*plan.start);
  ApplyGarbage(plan);
  if (plan.wake_at) WakeAt(*plan.wake_at);
}

void PodWorker::BeginTermination() {
  State& state = *state_;
  state.phase = Phase::kTerminating;
  // A pull may take minutes and holds nothing of the pod: its result will find nobody.
  if (state.start && state.start->pulling) state.start.reset();
}

void PodWorker::ReconcileTerminating() {
  State& state = *state_;
  if (state.pod != nullptr) {
    WallTime deadline = Now() + GracePeriod(*state.pod);
    // The grace may be shortened by a second deletion, never lengthened.
    if (!state.termination_deadline || deadline < *state.termination_deadline) {
      state.termination_deadline = deadline;
    }
  }
  TerminationPlan plan = PlanTermination(MakeInput(), state.stopped_sandboxes);
  ApplyStops(plan.stop);
  ApplyStopSandboxes(plan.stop_sandboxes);
  if (plan.stopped && state.stopping_sandboxes.empty()) state.phase = Phase::kTerminated;
}

void PodWorker::ReconcileTerminated() {
  State& state = *state_;
  if (state.phase == Phase::kReleased) {
    if (state.pod != nullptr && !state.object_gone && !state.gone_reported) {
      state.gone_reported = true;
      deps_.report_gone(*state.pod);
    }
    return;
  }
  bool release =
      state.object_gone || state.pod == nullptr || state.pod->metadata().has_deletion_timestamp();
  if (release) Release();
}

void PodWorker::UpdateProbes() {
  State& state = *state_;
  if (state.pod == nullptr) return;
  std::vector<ProbedContainer> running;
  for (const ObservedContainer& container : state.observed.containers) {
    if (container.phase != ContainerPhase::kRunning) continue;
    bool starting = state.start && !state.start->pulling && state.start->name == container.name;
    if (starting) continue;  // its postStart hook has not returned
    const ContainerShape* shape = state.shape.Find(container.name);
    if (shape == nullptr) continue;
    ProbedContainer probed{container.id, container.name, container.started_at, false, false};
    if (state.status) {
      std::string id = deps_.runtime_name + "://" + container.id;
      for (const auto* list :
           {&state.status->container_statuses(), &state.status->init_container_statuses()}) {
        for (const core::ContainerStatus& status : *list) {
          if (status.container_id() != id) continue;
          probed.was_ready = status.ready();
          probed.was_started = status.started();
        }
      }
    }
    running.push_back(std::move(probed));
  }
  state.prober->Update(*state.pod, PodIp(), running, state.phase != Phase::kSyncing);
}

// The addresses are the pod's as long as something of it may use them.
void PodWorker::TellAddresses() {
  State& state = *state_;
  if (deps_.traffic == nullptr || state.pod == nullptr) return;
  const ObservedSandbox* sandbox = state.observed.NewestSandbox();
  bool in_use = sandbox != nullptr && (sandbox->ready || state.observed.AnyRunning());
  deps_.traffic->Observe(state.pod, in_use ? sandbox->ips : std::vector<std::string>());
}

void PodWorker::ReportStatus() {
  State& state = *state_;
  if (state.pod == nullptr || state.object_gone) return;
  StatusInput input;
  input.pod = state.pod.get();
  input.shape = &state.shape;
  input.observed = &state.observed;
  NodeContext node = deps_.node();
  input.node = &node;
  input.runtime_name = deps_.runtime_name;
  for (const ObservedContainer& container : state.observed.containers) {
    if (container.phase == ContainerPhase::kRunning) {
      input.health[container.id] = state.prober->HealthOf(container.id);
    }
  }
  input.waiting = state.waiting;
  input.terminated = state.phase == Phase::kTerminated;
  input.failure_reason = state.failure_reason;
  input.failure_message = state.failure_message;
  input.previous = state.status ? &*state.status : nullptr;
  input.now = Now();
  core::PodStatus status = ComputeStatus(input);
  std::string bytes = status.SerializeAsString();
  bool news = bytes != state.reported;
  state.status = std::move(status);
  if (!news) return;
  state.reported = std::move(bytes);
  deps_.report_status(*state.pod, *state.status);
}

}  // namespace skiff::agent
