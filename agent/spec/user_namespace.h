// spec.hostUsers as CRI wants it. Pure.
#pragma once

#include <cstdint>

#include "proto/k8s/fwd.h"

namespace runtime::v1 {
class ContainerConfig;
class PodSandboxConfig;
}  // namespace runtime::v1

namespace skiff::agent {

bool HasUserNamespace(const k8s::core::v1::Pod& pod);

// The pod's ids 0, 1, ... are first, first+1, ... on the node, so many.
void SetUserNamespace(uint32_t first, uint32_t count, ::runtime::v1::PodSandboxConfig* config);
// Its mounts too: what is root's on the node is the container's root's inside.
void SetUserNamespace(uint32_t first, uint32_t count, ::runtime::v1::ContainerConfig* config);

}  // namespace skiff::agent
