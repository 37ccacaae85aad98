#include "agent/pods/plan.h"

#include <algorithm>

namespace skiff::agent {
namespace {

bool ShouldRestart(RestartPolicy policy, const ObservedContainer& container) {
  switch (container.phase) {
    case ContainerPhase::kRunning: return false;
    case ContainerPhase::kCreated: return true;  // its start never happened
    case ContainerPhase::kUnknown: return true;
    case ContainerPhase::kExited: break;
  }
  switch (policy) {
    case RestartPolicy::kAlways: return true;
    case RestartPolicy::kOnFailure: return container.exit_code != 0;
    case RestartPolicy::kNever: return false;
  }
  return false;
}

void WakeAt(PodPlan& plan, WallTime time) {
  if (!plan.wake_at || time < *plan.wake_at) plan.wake_at = time;
}

// Builds the plan of a pod with a live sandbox.
class SyncPlanner {
 public:
  SyncPlanner(const PlanInput& input, const std::string& sandbox_id)
      : input_(input), sandbox_id_(sandbox_id) {}

  PodPlan Build() {
    bool initialized = PlanInit();
    if (initialized) PlanMain();
    if (failed_) {
      plan_.start.reset();
      plan_.outcome = PodOutcome::kFailed;
    } else if (initialized && !main_pending_) {
      plan_.start.reset();
      plan_.outcome = ComputeOutcome(*input_.shape, *input_.observed);
    }
    if (input_.start_busy) plan_.start.reset();
    return std::move(plan_);
  }

 private:
  const ContainerFacts& FactsOf(const std::string& id) const {
    static const ContainerFacts kNone;
    auto found = input_.facts.find(id);
    return found == input_.facts.end() ? kNone : found->second;
  }

  // Plans the start of a container after `previous` (its last run, or null).
  void PlanStart(const ContainerShape& shape, const ObservedContainer* previous) {
    if (previous != nullptr && previous->phase == ContainerPhase::kExited) {
      auto until = input_.restart_back_off->BlockedUntil(shape.name, previous->finished_at);
      if (until && *until > input_.now) {
        plan_.crash_back_off.push_back(
            {shape.name, *until, input_.restart_back_off->Delay(shape.name)});
        WakeAt(plan_, *until);
        return;
      }
    }
    auto blocked = input_.not_before.find(shape.name);
    if (blocked != input_.not_before.end() && blocked->second > input_.now) {
      WakeAt(plan_, blocked->second);
      return;
    }
    if (plan_.start) return;  // after this one
    plan_.start = StartAction{shape.name, input_.observed->NextAttempt(shape.name)};
  }

  // A running container: keep it, or stop it because a probe failed or its spec changed.
  // True when it stays.
  bool PlanRunning(const ContainerShape& shape, const ObservedContainer& container) {
    const ContainerFacts& facts = FactsOf(container.id);
    if (facts.busy) return true;
    if (!facts.kill_message.empty()) {
      plan_.stop.push_back({container.id, shape.name, facts.kill_message});
      return false;
    }
    if (!container.spec_hash.empty() && container.spec_hash != shape.spec_hash) {
      plan_.stop.push_back({container.id, shape.name,
                            "Container " + shape.name + " definition changed, will be restarted"});
      return false;
    }
    return true;
  }

  bool AnyMainCreated() const {
    return std::any_of(input_.shape->main.begin(), input_.shape->main.end(),
                       [&](const ContainerShape& main) {
                         return input_.observed->NewestIn(main.name, sandbox_id_) != nullptr;
                       });
  }

  // True when the main containers may run.
  bool PlanInit() {
    // Once a main container was made in this sandbox, init containers are history; sidecars go on.
    bool done = AnyMainCreated();
    bool ready = true;
    for (const ContainerShape& shape : input_.shape->init) {
      const ObservedContainer* container = input_.observed->NewestIn(shape.name, sandbox_id_);
      if (container != nullptr && FactsOf(container->id).busy) {
        if (done) continue;
        return false;
      }
      if (shape.kind == ContainerKind::kSidecar) {
        if (!PlanSidecar(shape, container)) ready = false;
      } else if (!done && !PlanInitContainer(shape, container)) {
        ready = false;
      }
      if (!ready && !done) return false;
      if (failed_) return false;
    }
    return true;
  }

  // True when the sidecar has started.
  bool PlanSidecar(const ContainerShape& shape, const ObservedContainer* container) {
    if (container == nullptr || container->phase != ContainerPhase::kRunning) {
      PlanStart(shape, container);
      return false;
    }
    return PlanRunning(shape, *container) && FactsOf(container->id).started;
  }

  // True when the init container has succeeded.
  bool PlanInitContainer(const ContainerShape& shape, const ObservedContainer* container) {
    if (container == nullptr) {
      PlanStart(shape, nullptr);
      return false;
    }
    switch (container->phase) {
      case ContainerPhase::kRunning: (void)PlanRunning(shape, *container); return false;
      case ContainerPhase::kExited:
        if (container->exit_code == 0) return true;
        if (shape.restart == RestartPolicy::kNever) {
          failed_ = true;
          return false;
        }
        PlanStart(shape, container);
        return false;
      case ContainerPhase::kCreated:
      case ContainerPhase::kUnknown:
        // Whether it did its work is unknown; with restarts forbidden it must not run twice.
        if (shape.restart == RestartPolicy::kNever &&
            container->phase == ContainerPhase::kUnknown) {
          failed_ = true;
          return false;
        }
        PlanStart(shape, container);
        return false;
    }
    return false;
  }

  void PlanMain() {
    for (const ContainerShape& shape : input_.shape->main) {
      const ObservedContainer* container = input_.observed->NewestIn(shape.name, sandbox_id_);
      if (container != nullptr && FactsOf(container->id).busy) {
        main_pending_ = true;
        continue;
      }
      if (container == nullptr) {
        // One that ended for good in an earlier sandbox does not run again.
        const ObservedContainer* earlier = input_.observed->Newest(shape.name);
        if (earlier != nullptr && earlier->phase == ContainerPhase::kExited &&
            !ShouldRestart(shape.restart, *earlier)) {
          continue;
        }
        main_pending_ = true;
        PlanStart(shape, earlier);
      } else if (container->phase == ContainerPhase::kRunning) {
        main_pending_ = true;
        (void)PlanRunning(shape, *container);
      } else if (ShouldRestart(shape.restart, *container)) {
        main_pending_ = true;
        PlanStart(shape, container);
      }
    }
  }

  const PlanInput& input_;
  const std::string& sandbox_id_;
  PodPlan plan_;
  bool failed_ = false;        // for good
  bool main_pending_ = false;  // a main container runs or will
};

// Whether a pod whose sandbox is gone still has something to run in a new one.
bool NeedsSandbox(const PlanInput& input) {
  const PodShape& shape = *input.shape;
  const ObservedPod& observed = *input.observed;
  if (observed.sandboxes.empty() && observed.containers.empty()) return true;
  if (shape.restart == RestartPolicy::kNever && !observed.containers.empty()) return false;
  return std::any_of(shape.main.begin(), shape.main.end(), [&](const ContainerShape& main) {
    const ObservedContainer* newest = observed.Newest(main.name);
    return newest == nullptr || newest->phase == ContainerPhase::kRunning ||
           ShouldRestart(main.restart, *newest);
  });
}

// Of each container's dead runs the newest is kept: its logs are `kubectl logs --previous`, its
// exit is lastState.
void PlanGarbage(const PlanInput& input, const std::string& live_sandbox, PodPlan& plan) {
  std::map<std::string, int> dead_kept;
  std::set<std::string> used_sandboxes = {live_sandbox};
  std::set<std::string> current;  // names whose present container was passed
  for (const ObservedContainer& container : input.observed->containers) {
    bool first = current.insert(container.name).second;
    bool dead = container.phase == ContainerPhase::kExited ||
                (container.phase == ContainerPhase::kCreated && !first);
    auto facts = input.facts.find(container.id);
    bool busy = facts != input.facts.end() && facts->second.busy;
    // The present container counts as none of the dead ones, even where it has ended.
    if (!dead || first || busy || dead_kept[container.name]++ < 1) {
      used_sandboxes.insert(container.sandbox_id);
      continue;
    }
    plan.remove_containers.push_back(container.id);
  }
  bool newest = true;
  for (const ObservedSandbox& sandbox : input.observed->sandboxes) {
    if (!newest && !sandbox.ready && !used_sandboxes.contains(sandbox.id)) {
      plan.remove_sandboxes.push_back(sandbox.id);
    }
    newest = false;
  }
}

}  // namespace

const ContainerShape* PodShape::Find(std::string_view name) const {
  for (const auto* list : {&init, &main}) {
    for (const ContainerShape& shape : *list) {
      if (shape.name == name) return &shape;
    }
  }
  return nullptr;
}

std::optional<PodOutcome> ComputeOutcome(const PodShape& shape, const ObservedPod& observed) {
  for (const ContainerShape& init : shape.init) {
    if (init.kind != ContainerKind::kInit || init.restart != RestartPolicy::kNever) continue;
    const ObservedContainer* newest = observed.Newest(init.name);
    if (newest != nullptr && newest->phase == ContainerPhase::kExited && newest->exit_code != 0) {
      return PodOutcome::kFailed;
    }
  }
  bool failed = false;
  for (const ContainerShape& main : shape.main) {
    const ObservedContainer* newest = observed.Newest(main.name);
    if (newest == nullptr || newest->phase == ContainerPhase::kRunning) return std::nullopt;
    if (newest->phase != ContainerPhase::kExited || newest->exit_code != 0) failed = true;
  }
  return failed ? PodOutcome::kFailed : PodOutcome::kSucceeded;
}

PodPlan PlanSync(const PlanInput& input) {
  const ObservedPod& observed = *input.observed;
  const ObservedSandbox* sandbox = observed.NewestSandbox();
  if (sandbox != nullptr && sandbox->ready) {
    PodPlan plan = SyncPlanner(input, sandbox->id).Build();
    PlanGarbage(input, sandbox->id, plan);
    return plan;
  }
  PodPlan plan;
  if (!NeedsSandbox(input)) {
    // With its sandbox dead and nothing to restart, containers that did not end are lost.
    plan.outcome = ComputeOutcome(*input.shape, observed).value_or(PodOutcome::kFailed);
    return plan;
  }
  plan.sandbox_changed = sandbox != nullptr;
  auto blocked = input.not_before.find("");
  if (blocked != input.not_before.end() && blocked->second > input.now) {
    WakeAt(plan, blocked->second);
    return plan;
  }
  if (!input.start_busy) plan.create_sandbox = sandbox == nullptr ? 0 : sandbox->attempt + 1;
  return plan;
}

TerminationPlan PlanTermination(const PlanInput& input,
                                const std::set<std::string>& stopped_sandboxes) {
  TerminationPlan plan;
  bool running = false;
  bool main_running = false;
  const ObservedContainer* last_sidecar = nullptr;
  size_t last_position = 0;
  auto position_of = [&](const std::string& name) -> size_t {
    if (input.shape == nullptr) return 0;
    for (size_t i = 0; i < input.shape->init.size(); ++i) {
      const ContainerShape& shape = input.shape->init[i];
      if (shape.name == name && shape.kind == ContainerKind::kSidecar) return i + 1;
    }
    return 0;
  };
  for (const ObservedContainer& container : input.observed->containers) {
    if (container.phase != ContainerPhase::kRunning) continue;
    running = true;
    if (size_t position = position_of(container.name); position > 0) {
      if (position > last_position) {
        last_position = position;
        last_sidecar = &container;
      }
      continue;
    }
    main_running = true;
    plan.stop.push_back({container.id, container.name, "Stopping container " + container.name});
  }
  if (!main_running && last_sidecar != nullptr) {
    plan.stop.push_back(
        {last_sidecar->id, last_sidecar->name, "Stopping container " + last_sidecar->name});
  }
  if (running || input.start_busy) return plan;
  for (const ObservedSandbox& sandbox : input.observed->sandboxes) {
    if (!stopped_sandboxes.contains(sandbox.id)) plan.stop_sandboxes.push_back(sandbox.id);
  }
  plan.stopped = plan.stop_sandboxes.empty();
  return plan;
}

}  // namespace skiff::agent
