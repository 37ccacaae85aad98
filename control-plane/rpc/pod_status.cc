#include "control-plane/rpc/pod_status.h"

#include <algorithm>
#include <array>

#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::cp {

namespace {

namespace core = k8s::core::v1;

bool IsFinal(const std::string& phase) { return phase == "Succeeded" || phase == "Failed"; }

const core::PodCondition* Find(const core::PodStatus& status, std::string_view type) {
  for (const core::PodCondition& condition : status.conditions()) {
    if (condition.type() == type) return &condition;
  }
  return nullptr;
}

void MergeConditions(const core::PodStatus& stored, core::PodStatus& report) {
  for (core::PodCondition& condition : *report.mutable_conditions()) {
    const core::PodCondition* before = Find(stored, condition.type());
    if (before != nullptr && before->status() == condition.status() &&
        before->has_last_transition_time()) {
      *condition.mutable_last_transition_time() = before->last_transition_time();
    }
  }
  for (const core::PodCondition& condition : stored.conditions()) {
    // PodScheduled is the scheduler's until the node repeats it.
    bool keep = !IsNodesCondition(condition.type()) || condition.type() == "PodScheduled";
    if (keep && Find(report, condition.type()) == nullptr) *report.add_conditions() = condition;
  }
}

void FillHostAddresses(const core::Node& node, core::PodStatus& report) {
  if (!report.host_ip().empty()) return;
  for (const core::NodeAddress& address : node.status().addresses()) {
    if (address.type() != "InternalIP") continue;
    if (report.host_ip().empty()) report.set_host_ip(address.address());
    report.add_host_ips()->set_ip(address.address());
  }
}

}  // namespace

bool IsNodesCondition(std::string_view type) {
  static constexpr std::array kTypes = {
      std::string_view("PodScheduled"),
      std::string_view("Ready"),
      std::string_view("Initialized"),
      std::string_view("ContainersReady"),
      std::string_view("PodReadyToStartContainers"),
      std::string_view("PodResizePending"),
      std::string_view("PodResizeInProgress"),
  };
  return std::find(kTypes.begin(), kTypes.end(), type) != kTypes.end();
}

core::PodStatus MergePodStatus(const core::PodStatus& stored, core::PodStatus report,
                               const core::Node& node) {
  if (IsFinal(stored.phase()) && !IsFinal(report.phase())) report.set_phase(stored.phase());
  MergeConditions(stored, report);
  FillHostAddresses(node, report);
  if (report.qos_class().empty()) report.set_qos_class(stored.qos_class());
  if (report.nominated_node_name().empty() && !stored.nominated_node_name().empty()) {
    report.set_nominated_node_name(stored.nominated_node_name());
  }
  if (stored.has_start_time()) *report.mutable_start_time() = stored.start_time();
  if (report.resource_claim_statuses().empty()) {
    *report.mutable_resource_claim_statuses() = stored.resource_claim_statuses();
  }
  return report;
}

}  // namespace skiff::cp
