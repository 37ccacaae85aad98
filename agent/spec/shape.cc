#include "agent/spec/shape.h"

#include <set>

#include "proto/codec/quantity.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::agent {
namespace {

namespace core = k8s::core::v1;
using codec::Quantity;

RestartPolicy ParsePolicy(std::string_view text) {
  if (text == "Never") return RestartPolicy::kNever;
  if (text == "OnFailure") return RestartPolicy::kOnFailure;
  return RestartPolicy::kAlways;
}

// Only CPU and memory count for the QoS class.
std::set<std::string> PositiveKeys(
    const google::protobuf::Map<std::string, k8s::resource::Quantity>& map) {
  std::set<std::string> keys;
  for (const char* key : {"cpu", "memory"}) {
    auto found = map.find(key);
    if (found != map.end() && !Quantity::From(found->second).IsZero()) keys.insert(key);
  }
  return keys;
}

}  // namespace

bool IsSidecar(const core::Container& container) { return container.restart_policy() == "Always"; }

std::string SpecHash(const core::Container& container) {
  // FNV-1a, 32 bits (http://www.isthe.com/chongo/tech/comp/fnv/).
  uint32_t hash = 2166136261u;
  auto add = [&hash](std::string_view text) {
    for (char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
    hash = (hash ^ 0u) * 16777619u;  // "ab","c" is not "a","bc"
  };
  add(container.name());
  add(container.image());
  static constexpr char kHex[] = "0123456789abcdef";
  std::string text(8, '0');
  for (size_t i = 0; i < 8; ++i) text[i] = kHex[(hash >> (28 - 4 * i)) & 15];
  return text;
}

PodShape MakeShape(const core::Pod& pod) {
  PodShape shape;
  shape.restart = ParsePolicy(pod.spec().restart_policy());
  for (const core::Container& container : pod.spec().init_containers()) {
    ContainerShape init;
    init.name = container.name();
    init.kind = IsSidecar(container) ? ContainerKind::kSidecar : ContainerKind::kInit;
    // "Always" means "until it succeeds" for an init container.
    init.restart = init.kind == ContainerKind::kSidecar      ? RestartPolicy::kAlways
                   : shape.restart == RestartPolicy::kAlways ? RestartPolicy::kOnFailure
                                                             : shape.restart;
    if (container.has_restart_policy() && !IsSidecar(container)) {
      init.restart = ParsePolicy(container.restart_policy());
    }
    init.spec_hash = SpecHash(container);
    shape.init.push_back(std::move(init));
  }
  for (const core::Container& container : pod.spec().containers()) {
    ContainerShape main;
    main.name = container.name();
    main.restart =
        container.has_restart_policy() ? ParsePolicy(container.restart_policy()) : shape.restart;
    main.spec_hash = SpecHash(container);
    shape.main.push_back(std::move(main));
  }
  return shape;
}

const core::Container* FindContainer(const core::Pod& pod, std::string_view name) {
  for (const auto* list : {&pod.spec().init_containers(), &pod.spec().containers()}) {
    for (const core::Container& container : *list) {
      if (container.name() == name) return &container;
    }
  }
  return nullptr;
}

QosClass QosOf(const core::Pod& pod) {
  bool any = false;
  bool guaranteed = true;
  for (const auto* list : {&pod.spec().containers(), &pod.spec().init_containers()}) {
    for (const core::Container& container : *list) {
      const auto& resources = container.resources();
      std::set<std::string> requests = PositiveKeys(resources.requests());
      std::set<std::string> limits = PositiveKeys(resources.limits());
      any = any || !requests.empty() || !limits.empty();
      if (limits.size() != 2) guaranteed = false;
      for (const std::string& key : requests) {
        auto limit = resources.limits().find(key);
        if (limit == resources.limits().end() ||
            Quantity::From(limit->second) != Quantity::From(resources.requests().at(key))) {
          guaranteed = false;
        }
      }
    }
  }
  if (!any) return QosClass::kBestEffort;
  return guaranteed ? QosClass::kGuaranteed : QosClass::kBurstable;
}

std::string_view QosName(QosClass qos) {
  switch (qos) {
    case QosClass::kGuaranteed: return "Guaranteed";
    case QosClass::kBurstable: return "Burstable";
    case QosClass::kBestEffort: return "BestEffort";
  }
  return "BestEffort";
}

std::chrono::seconds GracePeriod(const core::Pod& pod) {
  int64_t seconds = pod.spec().has_termination_grace_period_seconds()
                        ? pod.spec().termination_grace_period_seconds()
                        : 30;
  if (pod.metadata().has_deletion_grace_period_seconds()) {
    seconds = pod.metadata().deletion_grace_period_seconds();
  }
  return std::chrono::seconds(std::max<int64_t>(seconds, 0));
}

std::string FormatPod(const core::Pod& pod) {
  const auto& metadata = pod.metadata();
  return metadata.name() + "_" + metadata.namespace_() + "(" + metadata.uid() + ")";
}

std::string LogDirectoryName(const core::Pod& pod) {
  const auto& metadata = pod.metadata();
  return metadata.namespace_() + "_" + metadata.name() + "_" + metadata.uid();
}

std::string FieldPath(const core::Pod& pod, std::string_view container) {
  for (const core::Container& init : pod.spec().init_containers()) {
    if (init.name() == container) return "spec.initContainers{" + std::string(container) + "}";
  }
  return "spec.containers{" + std::string(container) + "}";
}

}  // namespace skiff::agent
