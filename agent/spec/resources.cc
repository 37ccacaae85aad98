#include "agent/spec/resources.h"

#include <algorithm>

#include "proto/codec/quantity.h"
#include "proto/cri/runtime/v1/api.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::agent {
namespace {

namespace core = k8s::core::v1;
using codec::Quantity;
using ResourceMap = google::protobuf::Map<std::string, k8s::resource::Quantity>;

int64_t MilliOf(const ResourceMap& map, const char* key) {
  auto found = map.find(key);
  return found == map.end() ? 0 : Quantity::From(found->second).MilliValue();
}
int64_t ValueOf(const ResourceMap& map, const char* key) {
  auto found = map.find(key);
  return found == map.end() ? 0 : Quantity::From(found->second).Value();
}

// What the pod as a whole asks for: the main containers and sidecars together, or the largest init
// container with the sidecars before it.
struct Totals {
  int64_t cpu_request = 0;
  int64_t cpu_limit = 0;
  int64_t memory_limit = 0;
  bool all_cpu_limited = true;
  bool all_memory_limited = true;
};

struct Amounts {
  int64_t cpu_request, cpu_limit, memory_limit;
};
Amounts AmountsOf(const core::Container& container) {
  const auto& resources = container.resources();
  int64_t cpu_limit = MilliOf(resources.limits(), "cpu");
  int64_t cpu_request =
      resources.requests().contains("cpu") ? MilliOf(resources.requests(), "cpu") : cpu_limit;
  return {cpu_request, cpu_limit, ValueOf(resources.limits(), "memory")};
}

Totals TotalsOf(const core::Pod& pod) {
  Totals totals;
  auto note_limits = [&totals](const Amounts& amounts) {
    totals.all_cpu_limited = totals.all_cpu_limited && amounts.cpu_limit > 0;
    totals.all_memory_limited = totals.all_memory_limited && amounts.memory_limit > 0;
  };
  Amounts sidecars{};
  Amounts init_peak{};
  for (const core::Container& container : pod.spec().init_containers()) {
    Amounts amounts = AmountsOf(container);
    note_limits(amounts);
    Amounts now{sidecars.cpu_request + amounts.cpu_request, sidecars.cpu_limit + amounts.cpu_limit,
                sidecars.memory_limit + amounts.memory_limit};
    init_peak = {std::max(init_peak.cpu_request, now.cpu_request),
                 std::max(init_peak.cpu_limit, now.cpu_limit),
                 std::max(init_peak.memory_limit, now.memory_limit)};
    if (IsSidecar(container)) sidecars = now;
  }
  Amounts main = sidecars;
  for (const core::Container& container : pod.spec().containers()) {
    Amounts amounts = AmountsOf(container);
    note_limits(amounts);
    main.cpu_request += amounts.cpu_request;
    main.cpu_limit += amounts.cpu_limit;
    main.memory_limit += amounts.memory_limit;
  }
  totals.cpu_request = std::max(main.cpu_request, init_peak.cpu_request);
  totals.cpu_limit = std::max(main.cpu_limit, init_peak.cpu_limit);
  totals.memory_limit = std::max(main.memory_limit, init_peak.memory_limit);
  // Pod-level resources, where given, are what counts.
  const auto& own = pod.spec().resources();
  if (int64_t cpu = MilliOf(own.requests(), "cpu"); cpu > 0) totals.cpu_request = cpu;
  if (int64_t cpu = MilliOf(own.limits(), "cpu"); cpu > 0) {
    totals.cpu_limit = cpu;
    totals.all_cpu_limited = true;
  }
  if (int64_t memory = ValueOf(own.limits(), "memory"); memory > 0) {
    totals.memory_limit = memory;
    totals.all_memory_limited = true;
  }
  return totals;
}

// What the pod's sandbox takes beside its containers: more room for both, where there is a limit.
void AddOverhead(const core::Pod& pod, Totals* totals) {
  const auto& overhead = pod.spec().overhead();
  totals->cpu_request += MilliOf(overhead, "cpu");
  totals->cpu_limit += MilliOf(overhead, "cpu");
  totals->memory_limit += ValueOf(overhead, "memory");
}

}  // namespace

int64_t MilliCpuToShares(int64_t milli) {
  return std::clamp<int64_t>(milli * 1024 / 1000, 2, 262144);
}

int64_t MilliCpuToQuota(int64_t milli) {
  if (milli == 0) return 0;
  return std::max<int64_t>(milli * kCpuPeriod / 1000, 1000);
}

int OomScoreAdj(const core::Pod& pod, const core::Container& container,
                int64_t memory_capacity_bytes) {
  constexpr int kGuaranteed = -997;
  constexpr int32_t kSystemCritical = 2'000'000'000;
  if (pod.spec().priority() >= kSystemCritical) return kGuaranteed;
  switch (QosOf(pod)) {
    case QosClass::kGuaranteed: return kGuaranteed;
    case QosClass::kBestEffort: return 1000;
    case QosClass::kBurstable: break;
  }
  int64_t request = ValueOf(container.resources().requests(), "memory");
  int64_t capacity = std::max<int64_t>(memory_capacity_bytes, 1);
  auto adjust = 1000 - static_cast<int64_t>(static_cast<__int128>(1000) * request / capacity);
  // Above every guaranteed pod, below every best-effort one.
  return static_cast<int>(std::clamp<int64_t>(adjust, 1000 + kGuaranteed, 999));
}

void FillContainerResources(const core::Pod& pod, const core::Container& container,
                            const NodeContext& node,
                            ::runtime::v1::LinuxContainerResources* resources) {
  Amounts amounts = AmountsOf(container);
  resources->set_cpu_shares(MilliCpuToShares(amounts.cpu_request));
  if (amounts.cpu_limit > 0) {
    resources->set_cpu_period(kCpuPeriod);
    resources->set_cpu_quota(MilliCpuToQuota(amounts.cpu_limit));
  }
  resources->set_memory_limit_in_bytes(amounts.memory_limit);
  resources->set_oom_score_adj(OomScoreAdj(pod, container, node.memory_capacity_bytes));
  if (node.cgroup_v2) {
    // No swap, and one process of the container killed means all of them (cgroup v2).
    resources->set_memory_swap_limit_in_bytes(amounts.memory_limit);
    // A string, because GCC 12 warns about the literal's assignment (PR 105329).
    (*resources->mutable_unified())["memory.oom.group"] = std::string("1");
  }
}

void FillPodResources(const core::Pod& pod, WithOverhead overhead,
                      ::runtime::v1::LinuxContainerResources* resources) {
  Totals totals = TotalsOf(pod);
  if (overhead == WithOverhead::kYes) AddOverhead(pod, &totals);
  resources->set_cpu_shares(MilliCpuToShares(totals.cpu_request));
  if (totals.all_cpu_limited) {
    resources->set_cpu_period(kCpuPeriod);
    resources->set_cpu_quota(MilliCpuToQuota(totals.cpu_limit));
  }
  if (totals.all_memory_limited) resources->set_memory_limit_in_bytes(totals.memory_limit);
}

void FillOverhead(const core::Pod& pod, ::runtime::v1::LinuxContainerResources* resources) {
  const auto& overhead = pod.spec().overhead();
  if (int64_t cpu = MilliOf(overhead, "cpu"); cpu > 0) {
    resources->set_cpu_shares(MilliCpuToShares(cpu));
    resources->set_cpu_period(kCpuPeriod);
    resources->set_cpu_quota(MilliCpuToQuota(cpu));
  }
  resources->set_memory_limit_in_bytes(ValueOf(overhead, "memory"));
}

int64_t PodCpuRequestMilli(const core::Pod& pod) {
  Totals totals = TotalsOf(pod);
  AddOverhead(pod, &totals);
  return totals.cpu_request;
}

std::string QosCgroup(QosClass qos, const NodeContext& node) {
  std::string path = node.cgroup_root + "/kubepods";
  switch (qos) {
    case QosClass::kGuaranteed: break;
    case QosClass::kBurstable: path += "/burstable"; break;
    case QosClass::kBestEffort: path += "/besteffort"; break;
  }
  return path;
}

std::string PodCgroup(const core::Pod& pod, const NodeContext& node) {
  return QosCgroup(QosOf(pod), node) + "/pod" + pod.metadata().uid();
}

}  // namespace skiff::agent
