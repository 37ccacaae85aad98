// The columns of `kubectl get pods`.
#include <algorithm>

#include "control-plane/api/kinds/cells.h"
#include "control-plane/api/kinds/pod_rules.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"
#include "proto/k8s/meta/v1/time.pb.h"

namespace skiff::cp {
namespace {

namespace core = k8s::core::v1;

bool HasTrueCondition(const core::PodStatus& status, std::string_view type) {
  return std::any_of(status.conditions().begin(), status.conditions().end(),
                     [&](const auto& c) { return c.type() == type && c.status() == "True"; });
}

// An init container that goes on running beside the others: a sidecar.
bool IsSidecar(const core::PodSpec& spec, const std::string& name) {
  return std::any_of(spec.init_containers().begin(), spec.init_containers().end(),
                     [&](const auto& container) {
                       return container.name() == name && container.restart_policy() == "Always";
                     });
}

// "Error", or "ExitCode:1" and "Signal:9" where the runtime gave no reason.
std::string TerminationReason(const core::ContainerStateTerminated& state) {
  if (!state.reason().empty()) return state.reason();
  if (state.signal() != 0) return "Signal:" + std::to_string(state.signal());
  return "ExitCode:" + std::to_string(state.exit_code());
}

struct Restarts {
  int count = 0;
  int64_t last = 0;  // seconds since the epoch; 0 for never

  void Add(const core::ContainerStatus& status) {
    count += status.restart_count();
    if (status.last_state().has_terminated()) {
      last = std::max(last, status.last_state().terminated().finished_at().seconds());
    }
  }
};

// What the pod's STATUS, READY and RESTARTS columns are told from, gathered container by container.
struct PodSummary {
  std::string reason;
  int ready = 0;
  int total = 0;
  Restarts restarts;
};

// True while an init container has not done its part.
bool SummarizeInit(const core::Pod& pod, PodSummary* summary, Restarts* sidecars) {
  const auto& statuses = pod.status().init_container_statuses();
  for (int i = 0; i < statuses.size(); ++i) {
    const core::ContainerStatus& status = statuses[i];
    const core::ContainerState& state = status.state();
    bool sidecar = IsSidecar(pod.spec(), status.name());
    summary->restarts.Add(status);
    if (sidecar) sidecars->Add(status);
    if (state.has_terminated() && state.terminated().exit_code() == 0) continue;
    if (sidecar && status.started()) {
      if (status.ready()) ++summary->ready;
      continue;
    }
    const std::string& waiting = state.waiting().reason();
    if (state.has_terminated()) {
      summary->reason = "Init:" + TerminationReason(state.terminated());
    } else if (!waiting.empty() && waiting != "PodInitializing") {
      summary->reason = "Init:" + waiting;
    } else {
      summary->reason =
          "Init:" + std::to_string(i) + "/" + std::to_string(pod.spec().init_containers_size());
    }
    return true;
  }
  return false;
}

void SummarizeContainers(const core::Pod& pod, PodSummary* summary) {
  bool running = false;
  const auto& statuses = pod.status().container_statuses();
  // From the last to the first: the first container's reason is the one shown.
  for (auto it = statuses.rbegin(); it != statuses.rend(); ++it) {
    const core::ContainerState& state = it->state();
    summary->restarts.Add(*it);
    if (!state.waiting().reason().empty()) {
      summary->reason = state.waiting().reason();
    } else if (state.has_terminated()) {
      summary->reason = TerminationReason(state.terminated());
    } else if (it->ready() && state.has_running()) {
      running = true;
      ++summary->ready;
    }
  }
  if (summary->reason == "Completed" && running) {
    summary->reason = HasTrueCondition(pod.status(), "Ready") ? "Running" : "NotReady";
  }
}

PodSummary Summarize(const core::Pod& pod) {
  const core::PodStatus& status = pod.status();
  PodSummary summary;
  summary.reason = status.reason().empty() ? status.phase() : status.reason();
  for (const auto& condition : status.conditions()) {
    if (condition.type() == "PodScheduled" && condition.reason() == "SchedulingGated") {
      summary.reason = "SchedulingGated";
    }
  }
  summary.total = pod.spec().containers_size();
  for (const auto& container : pod.spec().init_containers()) {
    if (container.restart_policy() == "Always") ++summary.total;
  }
  Restarts sidecars;
  if (!SummarizeInit(pod, &summary, &sidecars) || HasTrueCondition(status, "Initialized")) {
    summary.restarts = sidecars;
    SummarizeContainers(pod, &summary);
  }
  if (pod.metadata().has_deletion_timestamp()) {
    bool terminal = status.phase() == "Succeeded" || status.phase() == "Failed";
    if (status.reason() == "NodeLost") {
      summary.reason = "Unknown";
    } else if (!terminal) {
      summary.reason = "Terminating";
    }
  }
  return summary;
}

std::string RestartsText(const Restarts& restarts, WallTime now) {
  std::string text = std::to_string(restarts.count);
  if (restarts.count == 0 || restarts.last == 0) return text;
  return text + " (" + HumanAge(WallTime(std::chrono::seconds(restarts.last)), now) + " ago)";
}

std::string ReadinessGatesText(const core::Pod& pod) {
  int gates = pod.spec().readiness_gates_size();
  if (gates == 0) return "<none>";
  auto open = std::count_if(
      pod.spec().readiness_gates().begin(), pod.spec().readiness_gates().end(),
      [&](const auto& gate) { return HasTrueCondition(pod.status(), gate.condition_type()); });
  return std::to_string(open) + "/" + std::to_string(gates);
}

}  // namespace

std::vector<TableColumn> PodColumns() {
  return {
      NameColumn(),
      Column("Ready", "The aggregate readiness state of this pod for accepting traffic."),
      Column("Status", "The aggregate status of the containers in this pod."),
      Column("Restarts",
             "The number of times the containers in this pod have been restarted and "
             "when the last container in this pod has restarted."),
      AgeColumn(),
      WideColumn("IP", "The pod's address; empty if not yet allocated."),
      WideColumn("Node", "The node the pod is bound to."),
      WideColumn("Nominated Node", "The node that makes room for the pod by preemption."),
      WideColumn("Readiness Gates", "The conditions the pod's readiness also waits for."),
  };
}

std::vector<TableCell> PodRow(const core::Pod& pod, WallTime now) {
  PodSummary summary = Summarize(pod);
  std::string ip = pod.status().pod_ips().empty() ? "" : pod.status().pod_ips(0).ip();
  return {
      pod.metadata().name(),
      std::to_string(summary.ready) + "/" + std::to_string(summary.total),
      summary.reason,
      RestartsText(summary.restarts, now),
      AgeCell(pod.metadata(), now),
      OrNone(ip),
      OrNone(pod.spec().node_name()),
      OrNone(pod.status().nominated_node_name()),
      ReadinessGatesText(pod),
  };
}

}  // namespace skiff::cp
