// What controllers ask of a pod. Pure.
#pragma once

#include <chrono>

#include "base/clock.h"
#include "proto/k8s/fwd.h"

namespace skiff::cp {

// Succeeded or Failed: none of its containers will run again.
bool IsPodTerminal(const k8s::core::v1::Pod& pod);
// Neither terminal nor being deleted: counts as a replica.
bool IsPodActive(const k8s::core::v1::Pod& pod);
bool IsPodReady(const k8s::core::v1::Pod& pod);
// Since when it is ready, or the epoch.
WallTime ReadySince(const k8s::core::v1::Pod& pod);
// Ready for at least that long.
bool IsPodAvailable(const k8s::core::v1::Pod& pod, std::chrono::seconds min_ready, WallTime now);

}  // namespace skiff::cp
