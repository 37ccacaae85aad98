#include "control-plane/scheduler/filters.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>

#include "control-plane/controllers/framework/taints.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/placement.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::Node;
using k8s::core::v1::NodeSelectorRequirement;
using k8s::core::v1::NodeSelectorTerm;
using k8s::core::v1::Pod;
using k8s::core::v1::Taint;
using Reasons = std::vector<std::string>;

std::optional<int64_t> Number(const std::string& text) {
  int64_t number = 0;
  const char* end = text.data() + text.size();
  auto parsed = std::from_chars(text.data(), end, number);
  if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  return number;
}

bool MatchesRequirement(const NodeSelectorRequirement& requirement, const std::string* value) {
  const std::string& op = requirement.operator_();
  if (op == "Exists") return value != nullptr;
  if (op == "DoesNotExist") return value == nullptr;
  const bool listed = value != nullptr &&
                      std::ranges::find(requirement.values(), *value) != requirement.values().end();
  if (op == "In") return listed;
  if (op == "NotIn") return !listed;
  if ((op == "Gt" || op == "Lt") && value != nullptr && requirement.values_size() == 1) {
    auto have = Number(*value), bound = Number(requirement.values(0));
    return have && bound && (op == "Gt" ? *have > *bound : *have < *bound);
  }
  return false;
}

bool MatchesLabel(const NodeSelectorRequirement& requirement, const Node& node) {
  auto found = node.metadata().labels().find(requirement.key());
  return MatchesRequirement(requirement,
                            found == node.metadata().labels().end() ? nullptr : &found->second);
}

// Unschedulable nodes take pods that tolerate the taint of that name.
Reasons CheckUnschedulable(const Pod& pod, const NodeInfo& info) {
  if (!info.node()->spec().unschedulable()) return {};
  Taint taint;
  taint.set_key(kTaintUnschedulable);
  taint.set_effect("NoSchedule");
  if (PodTolerates(pod, taint)) return {};
  return {"node(s) were unschedulable"};
}

Reasons CheckName(const Pod& pod, const NodeInfo& info) {
  const std::string& wanted = pod.spec().node_name();
  if (wanted.empty() || wanted == info.node()->metadata().name()) return {};
  return {"node(s) didn't match the requested node name"};
}

Reasons CheckTaints(const Pod& pod, const NodeInfo& info) {
  for (const Taint& taint : info.node()->spec().taints()) {
    if (taint.effect() != "NoSchedule" && taint.effect() != "NoExecute") continue;
    if (PodTolerates(pod, taint)) continue;
    return {"node(s) had untolerated taint {" + taint.key() + ": " + taint.value() + "}"};
  }
  return {};
}

Reasons CheckAffinity(const Pod& pod, const NodeInfo& info) {
  if (MatchesNodeAffinity(pod, *info.node())) return {};
  return {"node(s) didn't match Pod's node affinity/selector"};
}

Reasons CheckPorts(const Pod& pod, const NodeInfo& info) {
  std::vector<HostPort> ports = HostPortsOf(pod);
  if (ports.empty() || !info.HasPortConflict(ports)) return {};
  return {"node(s) didn't have free ports for the requested pod ports"};
}

Reasons CheckResources(const Pod& pod, const NodeInfo& info) {
  Reasons reasons;
  const Allocatable& have = info.allocatable();
  if (std::ssize(info.pods()) + 1 > have.pods) reasons.emplace_back("Too many pods");
  const Resources want = PodRequests(pod);
  const Resources& taken = info.requested();
  auto check = [&reasons](const std::string& name, int64_t request, int64_t all, int64_t used) {
    if (request > 0 && request > all - used) reasons.push_back("Insufficient " + name);
  };
  check("cpu", want.milli_cpu, have.resources.milli_cpu, taken.milli_cpu);
  check("memory", want.memory_bytes, have.resources.memory_bytes, taken.memory_bytes);
  check("ephemeral-storage", want.ephemeral_bytes, have.resources.ephemeral_bytes,
        taken.ephemeral_bytes);
  for (const auto& [name, amount] : want.others) {
    auto all = have.resources.others.find(name);
    auto used = taken.others.find(name);
    check(name, amount, all == have.resources.others.end() ? 0 : all->second,
          used == taken.others.end() ? 0 : used->second);
  }
  return reasons;
}

}  // namespace

bool MatchesTerm(const NodeSelectorTerm& term, const Node& node) {
  if (term.match_expressions().empty() && term.match_fields().empty()) return false;
  return std::ranges::all_of(
             term.match_expressions(),
             [&](const auto& expression) { return MatchesLabel(expression, node); }) &&
         std::ranges::all_of(term.match_fields(), [&](const auto& field) {
           return field.key() == "metadata.name" &&
                  MatchesRequirement(field, &node.metadata().name());
         });
}

bool MatchesNodeAffinity(const Pod& pod, const Node& node) {
  const auto& labels = node.metadata().labels();
  for (const auto& [key, value] : pod.spec().node_selector()) {
    auto found = labels.find(key);
    if (found == labels.end() || found->second != value) return false;
  }
  const auto& affinity = pod.spec().affinity().node_affinity();
  if (!affinity.has_required_during_scheduling_ignored_during_execution()) return true;
  return std::ranges::any_of(
      affinity.required_during_scheduling_ignored_during_execution().node_selector_terms(),
      [&](const NodeSelectorTerm& term) { return MatchesTerm(term, node); });
}

std::vector<std::string> WhyNot(const Pod& pod, const NodeInfo& node) {
  for (auto check :
       {CheckUnschedulable, CheckName, CheckTaints, CheckAffinity, CheckPorts, CheckResources}) {
    if (Reasons reasons = check(pod, node); !reasons.empty()) return reasons;
  }
  return {};
}

std::string FitErrorMessage(const std::vector<std::vector<std::string>>& reasons) {
  if (reasons.empty()) return "no nodes available to schedule pods";
  std::map<std::string, int> counts;
  for (const auto& of_node : reasons) {
    for (const std::string& reason : of_node) ++counts[reason];
  }
  std::vector<std::string> lines;
  for (const auto& [reason, count] : counts) lines.push_back(std::to_string(count) + " " + reason);
  std::ranges::sort(lines);
  std::string message = "0/" + std::to_string(reasons.size()) + " nodes are available:";
  const char* separator = " ";
  for (const std::string& line : lines) {
    message += separator + line;
    separator = ", ";
  }
  return message + ".";
}

}  // namespace skiff::cp
