// The devices that a container may use, and those it finds in its /dev.
#pragma once

#include <vector>

#include "base/result.h"
#include "runtime/launch/launch_spec.h"
#include "runtime/linux/cgroup.h"
#include "runtime/spec.h"

namespace skiff::runtime {

// Those of the spec with the numbers that they have on the host; all of the host's where the
// container is privileged. InvalidArgument for one that is no device.
Result<std::vector<DeviceNode>> DeviceNodes(const ContainerSpec& spec);

// What every container may do (mknod of anything, the harmless devices, its terminals), and the
// devices given to it.
Result<std::vector<DeviceRule>> DeviceRules(const std::vector<DeviceSpec>& devices);

}  // namespace skiff::runtime
