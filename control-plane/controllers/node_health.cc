#include "control-plane/controllers/node_health.h"

#include <algorithm>
#include <array>

#include "control-plane/controllers/framework/objects.h"
#include "control-plane/controllers/framework/taints.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/placement.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::Node;
using k8s::core::v1::Taint;

// A condition with this status brings this taint with the effect NoSchedule.
struct ConditionTaint {
  const char* condition;
  const char* status;
  const char* key;
};
constexpr std::array kConditionTaints = {
    ConditionTaint{"Ready", "False", kTaintNotReady},
    ConditionTaint{"Ready", "Unknown", kTaintUnreachable},
    ConditionTaint{"MemoryPressure", "True", "node.kubernetes.io/memory-pressure"},
    ConditionTaint{"DiskPressure", "True", "node.kubernetes.io/disk-pressure"},
    ConditionTaint{"PIDPressure", "True", "node.kubernetes.io/pid-pressure"},
    ConditionTaint{"NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"},
};

bool HasTaint(const std::vector<Taint>& taints, const std::string& key, const std::string& effect) {
  return std::ranges::any_of(
      taints, [&](const Taint& taint) { return taint.key() == key && taint.effect() == effect; });
}

Taint MakeTaint(const std::string& key, const std::string& effect, WallTime now) {
  Taint taint;
  taint.set_key(key);
  taint.set_effect(effect);
  SetTime(taint.mutable_time_added(), now);
  return taint;
}

// Adds or removes one taint; true when that changed anything.
bool SetTaint(std::vector<Taint>* taints, const std::string& key, const std::string& effect,
              bool wanted, WallTime now) {
  if (HasTaint(*taints, key, effect) == wanted) return false;
  if (wanted) {
    taints->push_back(MakeTaint(key, effect, now));
  } else {
    std::erase_if(*taints, [&](const Taint& taint) {
      return taint.key() == key && taint.effect() == effect;
    });
  }
  return true;
}

}  // namespace

Disruption DisruptionOf(int ready_nodes, int not_ready_nodes) {
  const int all = ready_nodes + not_ready_nodes;
  if (not_ready_nodes > 0 && ready_nodes == 0) return Disruption::kFull;
  // Upstream's unhealthyZoneThreshold of 55 %.
  if (not_ready_nodes > 2 && not_ready_nodes * 100 >= all * 55) return Disruption::kPartial;
  return Disruption::kNone;
}

bool MarkUnknown(Node* node, WallTime now) {
  bool changed = false;
  for (const char* type : {"Ready", "MemoryPressure", "DiskPressure", "PIDPressure"}) {
    auto* condition = MutableCondition(node->mutable_status(), type);
    if (condition == nullptr) {
      condition = node->mutable_status()->add_conditions();
      condition->set_type(type);
      condition->set_reason("NodeStatusNeverUpdated");
      condition->set_message("Kubelet never posted node status.");
      SetTime(condition->mutable_last_heartbeat_time(),
              ToWall(node->metadata().creation_timestamp()));
    } else if (condition->status() == "Unknown") {
      continue;
    } else {
      condition->set_reason("NodeStatusUnknown");
      condition->set_message("Kubelet stopped posting node status.");
    }
    condition->set_status("Unknown");
    SetTime(condition->mutable_last_transition_time(), now);
    changed = true;
  }
  return changed;
}

std::string ReadyStatus(const Node& node) {
  const auto* ready = FindCondition(node.status(), "Ready");
  return ready == nullptr ? "Unknown" : ready->status();
}

std::optional<std::vector<Taint>> PlanTaints(const Node& node, bool may_evict, bool keep_evicting,
                                             WallTime now) {
  std::vector<Taint> taints(node.spec().taints().begin(), node.spec().taints().end());
  bool changed = false;
  for (const ConditionTaint& rule : kConditionTaints) {
    const auto* condition = FindCondition(node.status(), rule.condition);
    // A node that has not reported yet is not ready.
    const bool unreported = condition == nullptr && rule.key == std::string_view(kTaintNotReady);
    const bool wanted = unreported || (condition && condition->status() == rule.status);
    changed |= SetTaint(&taints, rule.key, "NoSchedule", wanted, now);
  }
  changed |= SetTaint(&taints, kTaintUnschedulable, "NoSchedule", node.spec().unschedulable(), now);
  const auto* ready = FindCondition(node.status(), "Ready");
  const std::string status = ready ? ready->status() : "";
  for (const char* key : {kTaintNotReady, kTaintUnreachable}) {
    const bool applies = status == (key == kTaintNotReady ? "False" : "Unknown");
    const bool present = HasTaint(taints, key, "NoExecute");
    // From one to the other is no new eviction.
    const bool any = HasTaint(taints, kTaintNotReady, "NoExecute") ||
                     HasTaint(taints, kTaintUnreachable, "NoExecute");
    const bool wanted = applies && keep_evicting && (present || any || may_evict);
    changed |= SetTaint(&taints, key, "NoExecute", wanted, now);
  }
  if (!changed) return std::nullopt;
  return taints;
}

}  // namespace skiff::cp
