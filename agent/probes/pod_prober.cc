#include "agent/probes/pod_prober.h"

#include <algorithm>

#include "agent/probes/targets.h"
#include "agent/spec/shape.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::agent {
namespace {

namespace core = k8s::core::v1;
using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr std::chrono::milliseconds kFirstLook{500};
constexpr std::chrono::milliseconds kFirstLiveness{1000};

const char* NameOf(ProbeKind kind) {
  switch (kind) {
    case ProbeKind::kStartup: return "Startup";
    case ProbeKind::kLiveness: return "Liveness";
    case ProbeKind::kReadiness: return "Readiness";
  }
  return "";
}

int AtLeastOne(int32_t value, int fallback) { return value > 0 ? value : fallback; }

}  // namespace

struct PodProber::Probe {
  ProbeKind kind;
  ProbeTracker tracker;
  Result<ProbeTarget> target;
  seconds timeout{1};
  seconds period{10};
  std::optional<seconds> grace;
  Executor::TimerId timer = 0;
  bool running = false;
  bool cancelled = false;
};

bool PodProber::Container::Started() const {
  return startup == nullptr || startup->tracker.state() == ProbeState::kSuccess;
}

std::shared_ptr<PodProber> PodProber::Make(Deps deps) {
  return std::shared_ptr<PodProber>(new PodProber(std::move(deps)));
}

void PodProber::Update(const core::Pod& pod, const std::string& pod_ip,
                       const std::vector<ProbedContainer>& running, bool terminating) {
  for (auto it = containers_.begin(); it != containers_.end();) {
    bool runs = std::any_of(running.begin(), running.end(), [&](const ProbedContainer& container) {
      return container.id == it->first;
    });
    if (!runs) Cancel(it->second);
    it = runs ? std::next(it) : containers_.erase(it);
  }
  terminating_ = terminating;
  for (const ProbedContainer& container : running) {
    if (!containers_.contains(container.id)) Add(pod, pod_ip, container);
  }
}

void PodProber::Add(const core::Pod& pod, const std::string& pod_ip,
                    const ProbedContainer& observed) {
  const core::Container* spec = FindContainer(pod, observed.name);
  if (spec == nullptr) return;
  Container& container = containers_[observed.id];
  container.name = observed.name;
  WallTime now = deps_.strand->clock().WallNow();
  auto add = [&](const core::Probe& probe, ProbeKind kind) {
    auto made =
        std::make_shared<Probe>(Probe{kind,
                                      ProbeTracker(kind, AtLeastOne(probe.success_threshold(), 1),
                                                   AtLeastOne(probe.failure_threshold(), 3)),
                                      TargetOf(probe.handler(), *spec, observed.id, pod_ip),
                                      seconds(AtLeastOne(probe.timeout_seconds(), 1)),
                                      seconds(AtLeastOne(probe.period_seconds(), 10)),
                                      {}});
    if (probe.has_termination_grace_period_seconds()) {
      made->grace = seconds(probe.termination_grace_period_seconds());
    }
    // What was reported before this agent started still holds until a probe says otherwise.
    if (kind == ProbeKind::kReadiness && observed.was_ready) {
      made->tracker.Seed(ProbeState::kSuccess);
    }
    if (kind == ProbeKind::kStartup && observed.was_started) {
      made->tracker.Seed(ProbeState::kSuccess);
      return made;  // it is over
    }
    // A program needs a moment before it answers; kubelet gives about a second by its nature.
    auto grace = kind == ProbeKind::kLiveness ? kFirstLiveness : kFirstLook;
    WallTime due = observed.started_at + std::max<std::chrono::milliseconds>(
                                             seconds(probe.initial_delay_seconds()), grace);
    Schedule(observed.id, made, std::max<nanoseconds>(due - now, nanoseconds(0)));
    return made;
  };
  if (spec->has_startup_probe()) {
    container.startup = add(spec->startup_probe(), ProbeKind::kStartup);
  }
  if (spec->has_liveness_probe()) {
    container.liveness = add(spec->liveness_probe(), ProbeKind::kLiveness);
  }
  if (spec->has_readiness_probe()) {
    container.readiness = add(spec->readiness_probe(), ProbeKind::kReadiness);
  }
}

void PodProber::Schedule(const std::string& id, const std::shared_ptr<Probe>& probe,
                         nanoseconds delay) {
  probe->timer = deps_.strand->PostAfter(delay, [weak = weak_from_this(), id, probe] {
    auto self = weak.lock();
    if (self != nullptr && !probe->cancelled) self->Fire(id, probe);
  });
}

void PodProber::Fire(const std::string& id, const std::shared_ptr<Probe>& probe) {
  auto found = containers_.find(id);
  if (found == containers_.end()) return;
  const Container& container = found->second;
  bool startup_done =
      probe->kind == ProbeKind::kStartup && probe->tracker.state() == ProbeState::kSuccess;
  bool failed_for_good =
      probe->kind != ProbeKind::kReadiness && probe->tracker.state() == ProbeState::kFailure;
  if (startup_done || failed_for_good) return;  // no more of these
  if (terminating_ && probe->kind != ProbeKind::kReadiness) return;
  Schedule(id, probe, probe->period);
  // The others wait for the startup probe; a slow probe is not doubled.
  if (probe->kind != ProbeKind::kStartup && !container.Started()) return;
  if (probe->running) return;
  if (!probe->target.ok()) {
    Finish(id, probe, {ProbeOutcome::Kind::kUnknown, probe->target.error().message()});
    return;
  }
  probe->running = true;
  deps_.runner->Run(*probe->target, probe->timeout,
                    [weak = weak_from_this(), id, probe](ProbeOutcome outcome) {
                      auto alive = weak.lock();
                      if (alive == nullptr) return;
                      alive->deps_.strand->Post([weak, id, probe, outcome = std::move(outcome)] {
                        auto self = weak.lock();
                        if (self == nullptr || probe->cancelled) return;
                        probe->running = false;
                        self->Finish(id, probe, outcome);
                      });
                    });
}

void PodProber::Finish(const std::string& id, const std::shared_ptr<Probe>& probe,
                       const ProbeOutcome& outcome) {
  auto found = containers_.find(id);
  if (found == containers_.end()) return;
  Container& container = found->second;
  if (outcome.kind != ProbeOutcome::Kind::kSuccess) {
    const char* verb = outcome.kind == ProbeOutcome::Kind::kFailure
                           ? " probe failed: "
                           : " probe errored and resulted in unknown state: ";
    deps_.on_unhealthy(container.name, NameOf(probe->kind) + std::string(verb) + outcome.output);
  }
  if (!probe->tracker.Add(outcome.kind)) return;
  if (probe->kind == ProbeKind::kStartup && probe->tracker.state() == ProbeState::kSuccess) {
    // Readiness need not wait for its next turn.
    if (container.readiness != nullptr && !container.readiness->running) {
      (void)deps_.strand->Cancel(container.readiness->timer);
      Schedule(id, container.readiness, nanoseconds(0));
    }
  }
  deps_.on_change();
}

void PodProber::Cancel(Container& container) {
  for (const auto& probe : {container.startup, container.liveness, container.readiness}) {
    if (probe == nullptr) continue;
    probe->cancelled = true;
    (void)deps_.strand->Cancel(probe->timer);
  }
}

void PodProber::Stop() {
  for (auto& [id, container] : containers_) Cancel(container);
  containers_.clear();
}

ContainerHealth PodProber::HealthOf(const std::string& container_id) const {
  auto found = containers_.find(container_id);
  if (found == containers_.end()) return {};
  const Container& container = found->second;
  ContainerHealth health;
  health.started = container.Started();
  health.ready = health.started && (container.readiness == nullptr ||
                                    container.readiness->tracker.state() == ProbeState::kSuccess);
  return health;
}

std::string PodProber::KillMessage(const std::string& container_id) const {
  auto found = containers_.find(container_id);
  if (found == containers_.end()) return {};
  for (const auto& probe : {found->second.startup, found->second.liveness}) {
    if (probe == nullptr || probe->tracker.state() != ProbeState::kFailure) continue;
    return "Container " + found->second.name +
           (probe->kind == ProbeKind::kStartup ? " failed startup probe, will be restarted"
                                               : " failed liveness probe, will be restarted");
  }
  return {};
}

std::optional<seconds> PodProber::KillGrace(const std::string& container_id) const {
  auto found = containers_.find(container_id);
  if (found == containers_.end()) return std::nullopt;
  for (const auto& probe : {found->second.startup, found->second.liveness}) {
    if (probe != nullptr && probe->tracker.state() == ProbeState::kFailure) return probe->grace;
  }
  return std::nullopt;
}

}  // namespace skiff::agent
