// The worker's actions: each begins a step on a pool and takes its result back on the strand.
#include <algorithm>

#include "agent/pods/worker.h"
#include "agent/pods/worker_state.h"
#include "agent/spec/shape.h"
#include "base/log.h"

namespace skiff::agent {
namespace {

namespace core = k8s::core::v1;
using std::chrono::seconds;

// How soon a failed step is tried again, where no back-off of Kubernetes' says otherwise.
constexpr seconds kRetryStop{5};
constexpr seconds kRetryRelease{5};
constexpr seconds kRetryConfig{10};
constexpr seconds kYoungSandbox{60};
// How long "ErrImagePull" is shown before "ImagePullBackOff" takes its place.
constexpr seconds kShowPullError{1};

std::string QuoteSeconds(seconds delay) {
  // As Go prints durations: "10s", "1m20s", "5m0s".
  auto count = delay.count();
  if (count < 60) return std::to_string(count) + "s";
  return std::to_string(count / 60) + "m" + std::to_string(count % 60) + "s";
}

}  // namespace

template <class Step, class DoneFn>
void PodWorker::RunStep(Executor& executor, Step step, DoneFn done) {
  executor.Post([self = shared_from_this(), step = std::move(step), done = std::move(done)] {
    auto result = std::make_shared<decltype(step(self->deps_))>(step(self->deps_));
    self->OnStrand([result, done](PodWorker& worker) { done(worker, std::move(*result)); });
  });
}

void PodWorker::ApplyStops(const std::vector<StopAction>& stops) {
  for (const StopAction& stop : stops) ApplyStop(stop);
}

void PodWorker::ApplyStop(const StopAction& stop) {
  State& state = *state_;
  const ObservedContainer* container = state.observed.ById(stop.container_id);
  if (container == nullptr) return;
  StopStep step;
  step.pod = state.pod;
  step.container = *container;
  step.pod_ip = PodIp();
  step.message = stop.message;
  if (state.phase == Phase::kTerminating && state.termination_deadline) {
    step.grace =
        std::max(seconds(0), std::chrono::ceil<seconds>(*state.termination_deadline - Now()));
  } else if (auto grace = state.prober->KillGrace(stop.container_id)) {
    step.grace = *grace;
  } else if (state.pod != nullptr) {
    step.grace = GracePeriod(*state.pod);
  }
  WallTime deadline = Now() + step.grace;
  auto under_way = state.stopping.find(stop.container_id);
  if (under_way != state.stopping.end()) {
    if (under_way->second.failed) return;
    // Only a grace shortened in the meantime is worth a second call.
    if (deadline + seconds(1) >= under_way->second.deadline) return;
    step.run_pre_stop = false;
  }
  state.stopping[stop.container_id] = {deadline, false};
  ++state.mutations;
  RunStep(
      deps_.blocking, [step](const PodDeps& deps) { return StopContainerStep(deps, step); },
      [id = stop.container_id, name = stop.name](PodWorker& self, Result<> result) {
        ++self.state_->mutations;
        if (!result.ok()) {
          log::Warning(
              "cannot stop a container; trying again",
              {{"pod", self.identity_.name}, {"container", name}, {"error", result.error()}});
          auto found = self.state_->stopping.find(id);
          if (found != self.state_->stopping.end()) found->second.failed = true;
          self.strand_->PostAfter(kRetryStop, [weak = self.weak_from_this(), id] {
            auto worker = weak.lock();
            if (worker == nullptr || worker->state_->stopped) return;
            worker->state_->stopping.erase(id);
            worker->Look();
          });
        } else {
          self.state_->stopping.erase(id);
        }
        self.Look();
      });
}

void PodWorker::ApplySandbox(uint32_t attempt, bool changed) {
  State& state = *state_;
  SandboxStep step;
  step.pod = state.pod;
  step.attempt = attempt;
  for (const ObservedSandbox& sandbox : state.observed.sandboxes) {
    step.replaces.push_back(sandbox.id);
  }
  // A sandbox that dies young will do so again: those after it come ever later.
  if (changed && Now() - state.observed.NewestSandbox()->created_at < kYoungSandbox) {
    ++state.sandbox_deaths;
  } else {
    state.sandbox_deaths = 0;
  }
  if (changed) {
    deps_.events.Normal(SubjectOf(*state.pod), "SandboxChanged",
                        "Pod sandbox changed, it will be killed and re-created.");
  }
  state.sandbox_starting = true;
  ++state.mutations;
  RunStep(
      deps_.blocking, [step](const PodDeps& deps) { return RunSandboxStep(deps, step); },
      [](PodWorker& self, SandboxResult result) { self.SandboxDone(std::move(result)); });
}

void PodWorker::SandboxDone(SandboxResult result) {
  State& state = *state_;
  state.sandbox_starting = false;
  ++state.mutations;
  state.sandbox_attempts_failed = result.failure ? state.sandbox_attempts_failed + 1 : 0;
  // 1 s, 2 s, 4 s ... up to a minute.
  int failures = state.sandbox_attempts_failed + state.sandbox_deaths;
  if (failures > 0) {
    state.not_before[""] = Now() + std::min(seconds(1 << std::min(failures - 1, 6)), seconds(60));
  } else {
    state.not_before.erase("");
  }
  if (!result.failure) {
    state.volumes = std::move(result.volumes);
    RefreshVolumes();  // downward API files may show the pod's address
  }
  Look();
}

void PodWorker::ApplyStart(const StartAction& start) {
  State& state = *state_;
  const ObservedContainer* previous = state.observed.Newest(start.name);
  // A start that failed before its container existed has not used its turn up.
  bool retry = state.early_failures.contains(start.name);
  if (previous != nullptr && previous->phase == ContainerPhase::kExited && !retry) {
    state.restart_back_off.Advance(start.name, Now());
  }
  state.start = StartUnderWay{start.name, start.attempt, ++state.start_generation, true};
  ContainerStep step;
  step.pod = state.pod;
  step.name = start.name;
  step.attempt = start.attempt;
  step.sandbox = *state.observed.NewestSandbox();
  step.volumes = state.volumes;
  uint64_t generation = state.start_generation;
  if (deps_.traffic == nullptr || step.sandbox.ips.empty()) {
    ChooseImage(generation, step);
    return;
  }
  deps_.traffic->Admit(
      step.pod, step.sandbox.ips, [self = shared_from_this(), step, generation](Result<> admitted) {
        self->OnStrand([step, generation, admitted = std::move(admitted)](PodWorker& worker) {
          worker.Admitted(generation, step, admitted);
        });
      });
}

void PodWorker::Admitted(uint64_t generation, const ContainerStep& step, const Result<>& admitted) {
  State& state = *state_;
  if (!state.start || state.start->generation != generation) return;
  if (admitted.ok()) {
    ChooseImage(generation, step);
    return;
  }
  std::string message =
      "the network policies of the pod are not in force: " + admitted.error().message();
  deps_.events.Warning(SubjectOf(*step.pod, FieldPath(*step.pod, step.name)), "Failed",
                       "Error: " + message);
  StartFailed(step.name, {"CreateContainerError", std::move(message)}, kRetryConfig);
}

void PodWorker::ChooseImage(uint64_t generation, const ContainerStep& step) {
  RunStep(
      deps_.blocking, [step](const PodDeps& deps) { return DecideImage(deps, step); },
      [step, generation](PodWorker& self, ImageDecision decision) {
        self.ImageDecided(generation, step, std::move(decision));
      });
}

void PodWorker::ImageDecided(uint64_t generation, const ContainerStep& step,
                             ImageDecision decision) {
  State& state = *state_;
  if (!state.start || state.start->generation != generation) return;
  if (decision.failure) {
    StartFailed(step.name, *std::move(decision.failure), kRetryConfig);
    return;
  }
  if (!decision.pull) {
    StartContainer(step, *decision.present);
    return;
  }
  RunStep(
      deps_.pulls, [step](const PodDeps& deps) { return PullImageStep(deps, step); },
      [step, generation](PodWorker& self, Result<ImageInfo> image) {
        self.ImagePulled(generation, step, std::move(image));
      });
}

void PodWorker::ImagePulled(uint64_t generation, const ContainerStep& step,
                            Result<ImageInfo> image) {
  State& state = *state_;
  if (!state.start || state.start->generation != generation) return;
  const std::string& name = FindContainer(*step.pod, step.name)->image();
  if (image.ok()) {
    state.pull_back_off.Forget(name);
    StartContainer(step, *image);
    return;
  }
  state.pull_back_off.Advance(name, Now());
  EventSubject subject = SubjectOf(*step.pod, FieldPath(*step.pod, step.name));
  deps_.events.Warning(subject, "Failed", "Error: ErrImagePull");
  seconds delay = state.pull_back_off.Delay(name);
  std::string error = image.error().message();
  StartFailed(step.name, {"ErrImagePull", error}, delay);
  strand_->PostAfter(
      kShowPullError, [weak = weak_from_this(), container = step.name, name, error, subject] {
        auto self = weak.lock();
        if (self == nullptr || self->state_->stopped) return;
        auto waiting = self->state_->waiting.find(container);
        if (waiting == self->state_->waiting.end() || waiting->second.reason != "ErrImagePull")
          return;
        self->deps_.events.Normal(subject, "BackOff", "Back-off pulling image \"" + name + "\"");
        self->deps_.events.Warning(subject, "Failed", "Error: ImagePullBackOff");
        waiting->second = {"ImagePullBackOff",
                           "Back-off pulling image \"" + name + "\": ErrImagePull: " + error};
        self->Look();
      });
}

void PodWorker::StartContainer(const ContainerStep& step, const ImageInfo& image) {
  State& state = *state_;
  state.start->pulling = false;
  ++state.mutations;
  RunStep(
      deps_.blocking,
      [step, image](const PodDeps& deps) { return RunContainerStep(deps, step, image); },
      [name = step.name](PodWorker& self, ContainerResult result) {
        self.ContainerDone(name, std::move(result));
      });
}

void PodWorker::ContainerDone(const std::string& name, ContainerResult result) {
  State& state = *state_;
  ++state.mutations;
  if (!result.volumes.empty()) state.volumes = std::move(result.volumes);
  if (result.failure) {
    StartFailed(name, *std::move(result.failure), kRetryConfig);
    return;
  }
  state.start.reset();
  state.waiting.erase(name);
  state.not_before.erase(name);
  state.early_failures.erase(name);
  state.noted_back_off.erase(name);
  Look();
}

void PodWorker::StartFailed(const std::string& name, StartFailure failure, seconds retry) {
  State& state = *state_;
  state.start.reset();
  if (failure.created) {
    state.early_failures.erase(name);
  } else {
    state.early_failures.insert(name);
  }
  state.waiting[name] = {std::move(failure.reason), std::move(failure.message)};
  state.not_before[name] = Now() + retry;
  Look();
}

void PodWorker::NoteBackOff(const std::vector<Wait>& waits) {
  State& state = *state_;
  for (const Wait& wait : waits) {
    state.waiting[wait.name] = {"CrashLoopBackOff",
                                "back-off " + QuoteSeconds(wait.delay) +
                                    " restarting failed container=" + wait.name +
                                    " pod=" + FormatPod(*state.pod)};
    if (state.noted_back_off[wait.name] == wait.until) continue;
    state.noted_back_off[wait.name] = wait.until;
    deps_.events.Warning(
        SubjectOf(*state.pod, FieldPath(*state.pod, wait.name)), "BackOff",
        "Back-off restarting failed container " + wait.name + " in pod " + FormatPod(*state.pod));
  }
}

void PodWorker::ApplyGarbage(const PodPlan& plan) {
  State& state = *state_;
  auto remove = [&](const std::string& id, bool sandbox) {
    if (!state.removing.insert(id).second) return;
    RunStep(
        deps_.blocking,
        [id, sandbox](const PodDeps& deps) {
          return sandbox ? deps.cri.RemoveSandbox(id) : deps.cri.RemoveContainer(id);
        },
        [id](PodWorker& self, Result<> result) {
          ++self.state_->mutations;
          self.state_->removing.erase(id);
          if (result.ok()) return;
          // The next full look plans it again.
          log::Warning("cannot remove what a pod left; trying again later",
                       {{"pod", self.identity_.name}, {"id", id}, {"error", result.error()}});
        });
  };
  for (const std::string& id : plan.remove_containers) remove(id, false);
  for (const std::string& id : plan.remove_sandboxes) remove(id, true);
}

void PodWorker::ApplyStopSandboxes(const std::vector<std::string>& ids) {
  State& state = *state_;
  for (const std::string& id : ids) {
    if (!state.stopping_sandboxes.insert(id).second) continue;
    ++state.mutations;
    RunStep(
        deps_.blocking,
        [uid = identity_.uid, id](const PodDeps& deps) { return StopSandboxStep(deps, uid, id); },
        [id](PodWorker& self, Result<> result) {
          ++self.state_->mutations;
          if (result.ok()) {
            self.state_->stopping_sandboxes.erase(id);
            self.state_->stopped_sandboxes.insert(id);
            self.Look();
            return;
          }
          log::Warning("cannot stop a pod's sandbox; trying again",
                       {{"pod", self.identity_.name}, {"error", result.error()}});
          if (self.state_->pod != nullptr) {
            self.deps_.events.Warning(SubjectOf(*self.state_->pod), "FailedKillPod",
                                      "error killing pod: " + result.error().message());
          }
          self.strand_->PostAfter(kRetryStop, [weak = self.weak_from_this(), id] {
            auto worker = weak.lock();
            if (worker == nullptr || worker->state_->stopped) return;
            worker->state_->stopping_sandboxes.erase(id);
            worker->Look();
          });
        });
  }
}

void PodWorker::Release() {
  State& state = *state_;
  if (state.releasing || state.refreshing || !state.removing.empty()) {
    if (!state.releasing) WakeIn(seconds(1));
    return;
  }
  state.releasing = true;
  state.prober->Stop();
  ++state.mutations;
  RunStep(
      deps_.blocking,
      [uid = identity_.uid, directory = state.log_directory](const PodDeps& deps) {
        return ReleasePodStep(deps, uid, directory);
      },
      [](PodWorker& self, Result<> result) {
        State& after = *self.state_;
        after.releasing = false;
        ++after.mutations;
        if (!result.ok()) {
          log::Warning("cannot remove all of a pod; trying again",
                       {{"pod", self.identity_.name}, {"error", result.error()}});
          self.WakeIn(kRetryRelease);
          return;
        }
        if (self.deps_.traffic != nullptr) self.deps_.traffic->Forget(self.identity_.uid);
        after.phase = Phase::kReleased;
        (void)self.strand_->Cancel(after.timer);
        if (after.object_gone || after.pod == nullptr) {
          self.on_released_(self.identity_.uid);
        } else {
          self.ReconcileTerminated();
        }
      });
}

void PodWorker::RefreshVolumes() {
  State& state = *state_;
  // Only what is mounted is kept up to date; and never while the pod's directory goes away.
  if (!state.volumes || state.phase != Phase::kSyncing || state.pod->spec().volumes().empty()) {
    return;
  }
  if (state.refreshing || state.sandbox_starting) {
    state.refresh_again = true;
    return;
  }
  state.refreshing = true;
  const ObservedSandbox* sandbox = state.observed.NewestSandbox();
  std::vector<std::string> ips = sandbox == nullptr ? std::vector<std::string>() : sandbox->ips;
  RunStep(
      deps_.blocking,
      [pod = state.pod, ips](const PodDeps& deps) {
        auto paths = deps.volumes.SetUp(*pod, {&deps.objects, deps.node(), ips});
        return paths.ok() ? Result<>() : Result<>(paths.error());
      },
      [](PodWorker& self, Result<> result) {
        self.state_->refreshing = false;
        if (!result.ok()) {
          // The files stay as they were, as for kubelet.
          log::Debug("cannot bring a pod's volumes up to date",
                     {{"pod", self.identity_.name}, {"error", result.error()}});
        }
        if (std::exchange(self.state_->refresh_again, false)) self.RefreshVolumes();
      });
}

}  // namespace skiff::agent
