#include "control-plane/scheduler/resources.h"

#include <algorithm>

#include "proto/codec/quantity.h"
#include "proto/k8s/core/v1/container.pb.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::Container;
using k8s::core::v1::Pod;
using QuantityMap = google::protobuf::Map<std::string, k8s::resource::Quantity>;

constexpr int64_t kDefaultMilliCpu = 100;
constexpr int64_t kDefaultMemoryBytes = 200 * 1024 * 1024;

int64_t& AmountOf(Resources& resources, const std::string& name) {
  if (name == "cpu") return resources.milli_cpu;
  if (name == "memory") return resources.memory_bytes;
  if (name == "ephemeral-storage") return resources.ephemeral_bytes;
  return resources.others[name];
}

int64_t Amount(const std::string& name, const k8s::resource::Quantity& quantity) {
  codec::Quantity amount = codec::Quantity::From(quantity);
  return name == "cpu" ? amount.MilliValue() : amount.Value();
}

Resources FromMap(const QuantityMap& quantities) {
  Resources resources;
  for (const auto& [name, quantity] : quantities) {
    AmountOf(resources, name) = Amount(name, quantity);
  }
  return resources;
}

Resources ContainerRequests(const Container& container, bool with_defaults) {
  const auto& requests = container.resources().requests();
  Resources resources = FromMap(requests);
  if (with_defaults) {
    if (!requests.contains("cpu")) resources.milli_cpu = kDefaultMilliCpu;
    if (!requests.contains("memory")) resources.memory_bytes = kDefaultMemoryBytes;
  }
  return resources;
}

Resources Requests(const Pod& pod, bool with_defaults) {
  Resources running, sidecars, init_peak;
  for (const Container& container : pod.spec().containers()) {
    running += ContainerRequests(container, with_defaults);
  }
  for (const Container& container : pod.spec().init_containers()) {
    // A sidecar stays beside everything that starts after it.
    Resources at_once = ContainerRequests(container, with_defaults);
    at_once += sidecars;
    if (container.restart_policy() == "Always") sidecars = at_once;
    init_peak.RaiseTo(at_once);
  }
  running += sidecars;
  running.RaiseTo(init_peak);
  // Requests of the pod as a whole stand instead of those of its containers.
  for (const auto& [name, quantity] : pod.spec().resources().requests()) {
    AmountOf(running, name) = Amount(name, quantity);
  }
  running += FromMap(pod.spec().overhead());
  return running;
}

}  // namespace

Resources& Resources::operator+=(const Resources& more) {
  milli_cpu += more.milli_cpu;
  memory_bytes += more.memory_bytes;
  ephemeral_bytes += more.ephemeral_bytes;
  for (const auto& [name, amount] : more.others) others[name] += amount;
  return *this;
}

Resources& Resources::operator-=(const Resources& less) {
  milli_cpu -= less.milli_cpu;
  memory_bytes -= less.memory_bytes;
  ephemeral_bytes -= less.ephemeral_bytes;
  for (const auto& [name, amount] : less.others) others[name] -= amount;
  return *this;
}

void Resources::RaiseTo(const Resources& other) {
  milli_cpu = std::max(milli_cpu, other.milli_cpu);
  memory_bytes = std::max(memory_bytes, other.memory_bytes);
  ephemeral_bytes = std::max(ephemeral_bytes, other.ephemeral_bytes);
  for (const auto& [name, amount] : other.others) others[name] = std::max(others[name], amount);
}

bool Resources::IsZero() const {
  return milli_cpu == 0 && memory_bytes == 0 && ephemeral_bytes == 0 &&
         std::ranges::all_of(others, [](const auto& other) { return other.second == 0; });
}

Resources PodRequests(const Pod& pod) { return Requests(pod, false); }
Resources PodRequestsForScore(const Pod& pod) { return Requests(pod, true); }

Allocatable NodeAllocatable(const k8s::core::v1::Node& node) {
  const auto& status = node.status();
  Allocatable allocatable;
  allocatable.resources =
      FromMap(status.allocatable().empty() ? status.capacity() : status.allocatable());
  auto pods = allocatable.resources.others.find("pods");
  if (pods != allocatable.resources.others.end()) {
    allocatable.pods = pods->second;
    allocatable.resources.others.erase(pods);
  }
  return allocatable;
}

}  // namespace skiff::cp
