#include "agent/status/container_status.h"

#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::agent {
namespace {

namespace core = k8s::core::v1;

void SetTime(WallTime time, k8s::meta::v1::Time* out) {
  auto nanoseconds =
      std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
  out->set_seconds(nanoseconds / 1'000'000'000);
  out->set_nanos(0);
}

void FillTerminated(const StatusInput& input, const ObservedContainer& container,
                    core::ContainerStateTerminated* out) {
  out->set_exit_code(container.exit_code);
  out->set_reason(!container.reason.empty()  ? container.reason
                  : container.exit_code == 0 ? "Completed"
                                             : "Error");
  if (!container.message.empty()) out->set_message(container.message);
  SetTime(container.started_at, out->mutable_started_at());
  SetTime(container.finished_at, out->mutable_finished_at());
  out->set_container_id(input.runtime_name + "://" + container.id);
}

void FillLost(core::ContainerStateTerminated* out) {
  out->set_exit_code(137);
  out->set_reason("ContainerStatusUnknown");
  out->set_message("The container could not be located when the pod was terminated");
}

// The run before the newest one of a name, when it has ended.
const ObservedContainer* RunBefore(const StatusInput& input, const ObservedContainer& newest) {
  bool passed = false;
  for (const ObservedContainer& container : input.observed->containers) {
    if (container.name != newest.name) continue;
    if (passed) return container.phase == ContainerPhase::kExited ? &container : nullptr;
    passed = container.id == newest.id;
  }
  return nullptr;
}

void SetWaiting(const std::string& reason, const std::string& message,
                core::ContainerState* state) {
  state->mutable_waiting()->set_reason(reason);
  if (!message.empty()) state->mutable_waiting()->set_message(message);
}

// A container the runtime does not know: not made yet, or gone.
void FillAbsent(const StatusInput& input, const ContainerShape& shape,
                const core::ContainerStatus* previous, core::ContainerStatus* status) {
  auto waiting = input.waiting.find(shape.name);
  if (previous != nullptr &&
      (previous->state().has_terminated() || previous->state().has_running()) &&
      waiting == input.waiting.end()) {
    // It ran once: its end is what was reported, or lost.
    *status = *previous;
    status->set_ready(false);
    status->set_started(false);
    if (previous->state().has_running() && input.terminated) {
      FillLost(status->mutable_state()->mutable_terminated());
    } else if (previous->state().has_running()) {
      status->mutable_state()->Clear();
      FillLost(status->mutable_last_state()->mutable_terminated());
      SetWaiting("ContainerCreating", "", status->mutable_state());
    }
    return;
  }
  if (previous != nullptr) {
    status->set_restart_count(previous->restart_count());
    *status->mutable_last_state() = previous->last_state();
  }
  if (waiting != input.waiting.end()) {
    SetWaiting(waiting->second.reason, waiting->second.message, status->mutable_state());
  } else if (!input.shape->init.empty()) {
    SetWaiting("PodInitializing", "", status->mutable_state());
  } else {
    SetWaiting("ContainerCreating", "", status->mutable_state());
  }
}

}  // namespace

void FillContainerStatus(const StatusInput& input, const ContainerShape& shape,
                         const std::string& spec_image, const core::ContainerStatus* previous,
                         core::ContainerStatus* status) {
  status->set_name(shape.name);
  status->set_image(spec_image);
  status->set_image_id("");
  status->set_ready(false);
  status->set_started(false);
  status->set_restart_count(0);
  status->mutable_last_state();
  const ObservedContainer* container = input.observed->Newest(shape.name);
  if (container == nullptr) {
    FillAbsent(input, shape, previous, status);
    status->set_name(shape.name);
    return;
  }
  status->set_restart_count(static_cast<int32_t>(container->attempt));
  if (!container->image.empty()) status->set_image(container->image);
  status->set_image_id(container->image_ref);
  status->set_container_id(input.runtime_name + "://" + container->id);
  if (const ObservedContainer* before = RunBefore(input, *container)) {
    FillTerminated(input, *before, status->mutable_last_state()->mutable_terminated());
  } else if (previous != nullptr && container->attempt > 0 &&
             previous->last_state().has_terminated()) {
    *status->mutable_last_state() = previous->last_state();
  }
  switch (container->phase) {
    case ContainerPhase::kRunning: {
      SetTime(container->started_at,
              status->mutable_state()->mutable_running()->mutable_started_at());
      auto health = input.health.find(container->id);
      if (health != input.health.end()) {
        status->set_ready(health->second.ready);
        status->set_started(health->second.started);
      }
      return;
    }
    case ContainerPhase::kExited:
      FillTerminated(input, *container, status->mutable_state()->mutable_terminated());
      // An init container that did its work counts as ready.
      status->set_ready(shape.kind == ContainerKind::kInit && container->exit_code == 0);
      break;
    case ContainerPhase::kCreated:
      SetWaiting("ContainerCreating", "", status->mutable_state());
      break;
    case ContainerPhase::kUnknown: FillLost(status->mutable_state()->mutable_terminated()); break;
  }
  auto waiting = input.waiting.find(shape.name);
  if (waiting == input.waiting.end() || input.terminated) return;
  if (status->state().has_terminated()) *status->mutable_last_state() = status->state();
  status->mutable_state()->Clear();
  SetWaiting(waiting->second.reason, waiting->second.message, status->mutable_state());
}

}  // namespace skiff::agent
