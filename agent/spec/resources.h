// CPU, memory and the OOM killer's preference as numbers for the kernel. Pure.
#pragma once

#include <cstdint>
#include <string>

#include "agent/spec/node_context.h"
#include "agent/spec/shape.h"

namespace runtime::v1 {
class LinuxContainerResources;
}

namespace skiff::agent {

// 1024 shares a CPU, at least 2, at most 262144 (cgroup v1's cpu.shares).
int64_t MilliCpuToShares(int64_t milli);
// Microseconds in each 100 ms, at least 1 ms; 0 for no limit.
int64_t MilliCpuToQuota(int64_t milli);
inline constexpr int64_t kCpuPeriod = 100'000;

// https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#node-out-of-memory-behavior
int OomScoreAdj(const k8s::core::v1::Pod& pod, const k8s::core::v1::Container& container,
                int64_t memory_capacity_bytes);

void FillContainerResources(const k8s::core::v1::Pod& pod,
                            const k8s::core::v1::Container& container, const NodeContext& node,
                            ::runtime::v1::LinuxContainerResources* resources);
// Of the pod as a whole: the sum of its containers; a limit only where every container has one. Its
// cgroup's figures are those with the overhead of its RuntimeClass.
enum class WithOverhead { kNo, kYes };
void FillPodResources(const k8s::core::v1::Pod& pod, WithOverhead overhead,
                      ::runtime::v1::LinuxContainerResources* resources);
// The overhead alone, as CRI wants to be told of it.
void FillOverhead(const k8s::core::v1::Pod& pod, ::runtime::v1::LinuxContainerResources* resources);

// What a burstable or guaranteed pod asks for, with its overhead.
int64_t PodCpuRequestMilli(const k8s::core::v1::Pod& pod);

// "/kubepods/burstable" below the node's cgroup root; of guaranteed pods "/kubepods".
std::string QosCgroup(QosClass qos, const NodeContext& node);
// "/kubepods/burstable/pod<uid>".
std::string PodCgroup(const k8s::core::v1::Pod& pod, const NodeContext& node);

}  // namespace skiff::agent
