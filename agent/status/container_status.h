// One container's status. Part of pod_status.cc, on its own for its length.
#pragma once

#include "agent/status/pod_status.h"

namespace skiff::agent {

// shape: one of the pod's containers; previous: its status before, or null.
void FillContainerStatus(const StatusInput& input, const ContainerShape& shape,
                         const std::string& spec_image,
                         const k8s::core::v1::ContainerStatus* previous,
                         k8s::core::v1::ContainerStatus* status);

}  // namespace skiff::agent
