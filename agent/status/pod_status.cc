#include "agent/status/pod_status.h"

#include "agent/spec/shape.h"
#include "agent/status/container_status.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::agent {
namespace {

namespace core = k8s::core::v1;
using ContainerStatuses = google::protobuf::RepeatedPtrField<core::ContainerStatus>;

const core::ContainerStatus* FindStatus(const ContainerStatuses& list, const std::string& name) {
  for (const core::ContainerStatus& status : list) {
    if (status.name() == name) return &status;
  }
  return nullptr;
}

// "[a b]", as Go prints a list of names.
std::string ListNames(const std::vector<std::string>& names) {
  std::string text = "[";
  for (const std::string& name : names) {
    if (text.size() > 1) text += " ";
    text += name;
  }
  return text + "]";
}

class StatusMaker {
 public:
  explicit StatusMaker(const StatusInput& input) : input_(input), pod_(*input.pod) {}

  core::PodStatus Make() {
    FillContainers();
    FillPhase();
    FillAddresses();
    status_.set_qos_class(std::string(QosName(QosOf(pod_))));
    if (pod_.metadata().generation() > 0) {
      status_.set_observed_generation(pod_.metadata().generation());
    }
    if (previous().has_start_time()) {
      *status_.mutable_start_time() = previous().start_time();
    } else {
      SetNow(status_.mutable_start_time());
    }
    FillConditions();
    return std::move(status_);
  }

 private:
  const core::PodStatus& previous() const {
    static const core::PodStatus kNone;
    return input_.previous != nullptr ? *input_.previous : kNone;
  }

  void SetNow(k8s::meta::v1::Time* time) const {
    time->set_seconds(
        std::chrono::duration_cast<std::chrono::seconds>(input_.now.time_since_epoch()).count());
    time->set_nanos(0);
  }

  void FillContainers() {
    for (const ContainerShape& shape : input_.shape->init) {
      FillContainerStatus(input_, shape, FindContainer(pod_, shape.name)->image(),
                          FindStatus(previous().init_container_statuses(), shape.name),
                          status_.add_init_container_statuses());
    }
    for (const ContainerShape& shape : input_.shape->main) {
      FillContainerStatus(input_, shape, FindContainer(pod_, shape.name)->image(),
                          FindStatus(previous().container_statuses(), shape.name),
                          status_.add_container_statuses());
    }
  }

  // Init containers that have not done their work: they keep the pod pending.
  std::vector<std::string> IncompleteInit() const {
    std::vector<std::string> names;
    for (size_t i = 0; i < input_.shape->init.size(); ++i) {
      const ContainerShape& shape = input_.shape->init[i];
      const core::ContainerStatus& status = status_.init_container_statuses(static_cast<int>(i));
      bool done =
          shape.kind == ContainerKind::kSidecar
              ? status.started()
              : status.state().has_terminated() && status.state().terminated().exit_code() == 0;
      if (!done) names.push_back(shape.name);
    }
    return names;
  }

  bool AnyMainStarted() const {
    for (const core::ContainerStatus& status : status_.container_statuses()) {
      if (status.has_container_id()) return true;
    }
    return false;
  }

  std::string Phase() const {
    if (IsFinal(previous())) return previous().phase();
    if (!input_.failure_reason.empty() && input_.terminated) return "Failed";
    for (size_t i = 0; i < input_.shape->init.size(); ++i) {
      const ContainerShape& shape = input_.shape->init[i];
      const auto& state = status_.init_container_statuses(static_cast<int>(i)).state();
      if (shape.kind == ContainerKind::kInit && shape.restart == RestartPolicy::kNever &&
          state.has_terminated() && state.terminated().exit_code() != 0) {
        return "Failed";
      }
    }
    if (!AnyMainStarted() && !input_.terminated && !IncompleteInit().empty()) return "Pending";
    int running = 0, waiting = 0, succeeded = 0, failed = 0;
    bool restartable = false;
    for (size_t i = 0; i < input_.shape->main.size(); ++i) {
      const core::ContainerStatus& status = status_.container_statuses(static_cast<int>(i));
      const core::ContainerStateTerminated* end = nullptr;
      if (status.state().has_terminated()) {
        end = &status.state().terminated();
      } else if (status.state().has_waiting() && status.last_state().has_terminated()) {
        end = &status.last_state().terminated();
      }
      if (status.state().has_running()) {
        ++running;
      } else if (end == nullptr) {
        ++waiting;
      } else {
        ++(end->exit_code() == 0 ? succeeded : failed);
        RestartPolicy policy = input_.shape->main[i].restart;
        restartable = restartable || policy == RestartPolicy::kAlways ||
                      (policy == RestartPolicy::kOnFailure && end->exit_code() != 0);
      }
    }
    if (input_.terminated) {
      // What never ran did not succeed.
      return failed == 0 && waiting == 0 && succeeded > 0 ? "Succeeded" : "Failed";
    }
    if (waiting > 0) return "Pending";
    if (running > 0 || restartable) return "Running";
    if (succeeded + failed == 0) return "Pending";
    // The outcome is final only once everything of the pod has stopped; until then it runs.
    return "Running";
  }

  void FillPhase() {
    status_.set_phase(Phase());
    if (!input_.failure_reason.empty()) {
      status_.set_reason(input_.failure_reason);
      status_.set_message(input_.failure_message);
    } else if (IsFinal(previous())) {
      if (previous().has_reason()) status_.set_reason(previous().reason());
      if (previous().has_message()) status_.set_message(previous().message());
    }
  }

  void FillAddresses() {
    for (const std::string& ip : input_.node->host_ips) status_.add_host_ips()->set_ip(ip);
    if (!input_.node->host_ips.empty()) status_.set_host_ip(input_.node->host_ips.front());
    const ObservedSandbox* sandbox = input_.observed->NewestSandbox();
    const std::vector<std::string>* ips = nullptr;
    if (pod_.spec().host_network()) {
      if (sandbox != nullptr) ips = &input_.node->host_ips;
    } else if (sandbox != nullptr && !sandbox->ips.empty()) {
      ips = &sandbox->ips;
    }
    if (ips != nullptr) {
      for (const std::string& ip : *ips) status_.add_pod_ips()->set_ip(ip);
      if (!ips->empty()) status_.set_pod_ip(ips->front());
    } else if (previous().has_pod_ip()) {
      // A stopping pod keeps its last address in the status, for those who look at it afterwards.
      status_.set_pod_ip(previous().pod_ip());
      *status_.mutable_pod_ips() = previous().pod_ips();
    }
  }

  void SetCondition(const std::string& type, bool value, const std::string& reason = {},
                    const std::string& message = {}) {
    core::PodCondition* condition = status_.add_conditions();
    condition->set_type(type);
    condition->set_status(value ? "True" : "False");
    if (!reason.empty()) condition->set_reason(reason);
    if (!message.empty()) condition->set_message(message);
    if (pod_.metadata().generation() > 0) {
      condition->set_observed_generation(pod_.metadata().generation());
    }
    for (const core::PodCondition& before : previous().conditions()) {
      if (before.type() == type && before.status() == condition->status()) {
        *condition->mutable_last_transition_time() = before.last_transition_time();
        return;
      }
    }
    SetNow(condition->mutable_last_transition_time());
  }

  // Readiness of the containers in words: empty reason when all are ready.
  void ContainersReady(std::string* reason, std::string* message) const {
    if (status_.phase() == "Succeeded") {
      *reason = "PodCompleted";
      return;
    }
    if (status_.phase() == "Failed") {
      *reason = "PodFailed";
      return;
    }
    std::vector<std::string> unready;
    for (size_t i = 0; i < input_.shape->init.size(); ++i) {
      const auto& status = status_.init_container_statuses(static_cast<int>(i));
      if (input_.shape->init[i].kind == ContainerKind::kSidecar && !status.ready()) {
        unready.push_back(status.name());
      }
    }
    for (const core::ContainerStatus& status : status_.container_statuses()) {
      if (!status.ready()) unready.push_back(status.name());
    }
    if (unready.empty()) return;
    *reason = "ContainersNotReady";
    *message = "containers with unready status: " + ListNames(unready);
  }

  // Readiness gates are conditions that others set on the pod.
  void CheckGates(std::string* reason, std::string* message) const {
    for (const core::PodReadinessGate& gate : pod_.spec().readiness_gates()) {
      const core::PodCondition* found = nullptr;
      for (const core::PodCondition& condition : pod_.status().conditions()) {
        if (condition.type() == gate.condition_type()) found = &condition;
      }
      if (found != nullptr && found->status() == "True") continue;
      *reason = "ReadinessGatesNotReady";
      if (!message->empty()) *message += ", ";
      *message += found == nullptr ? "corresponding condition of pod readiness gate \"" +
                                         gate.condition_type() + "\" does not exist."
                                   : "the status of pod readiness gate \"" + gate.condition_type() +
                                         "\" is not \"True\", but " + found->status();
    }
  }

  void FillConditions() {
    const ObservedSandbox* sandbox = input_.observed->NewestSandbox();
    SetCondition("PodReadyToStartContainers", sandbox != nullptr && sandbox->ready);
    std::vector<std::string> incomplete = IncompleteInit();
    if (status_.phase() == "Succeeded") {
      SetCondition("Initialized", true, "PodCompleted");
    } else if (incomplete.empty() || AnyMainStarted()) {
      SetCondition("Initialized", true);
    } else {
      SetCondition("Initialized", false, "ContainersNotInitialized",
                   "containers with incomplete status: " + ListNames(incomplete));
    }
    std::string reason, message;
    ContainersReady(&reason, &message);
    std::string gate_reason = reason, gate_message = message;
    if (reason.empty()) CheckGates(&gate_reason, &gate_message);
    SetCondition("Ready", gate_reason.empty(), gate_reason, gate_message);
    SetCondition("ContainersReady", reason.empty(), reason, message);
    bool scheduled = false;
    for (const core::PodCondition& condition : pod_.status().conditions()) {
      bool own = false;
      for (const core::PodCondition& present : status_.conditions()) {
        own = own || present.type() == condition.type();
      }
      if (own) continue;
      scheduled = scheduled || condition.type() == "PodScheduled";
      *status_.add_conditions() = condition;
    }
    if (!scheduled) SetCondition("PodScheduled", true);
  }

  const StatusInput& input_;
  const core::Pod& pod_;
  core::PodStatus status_;
};

}  // namespace

bool IsFinal(const core::PodStatus& status) {
  return status.phase() == "Succeeded" || status.phase() == "Failed";
}

core::PodStatus ComputeStatus(const StatusInput& input) { return StatusMaker(input).Make(); }

}  // namespace skiff::agent
