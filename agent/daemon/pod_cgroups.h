// PodCgroups over the runtime's cgroup code: one implementation of v1 and v2 for the whole node.
#pragma once

#include <memory>
#include <string>

#include "agent/pods/cgroups.h"
#include "base/result.h"

namespace skiff::agent {

// FailedPrecondition where no cgroup hierarchy is mounted.
Result<std::unique_ptr<PodCgroups>> OpenPodCgroups();

// Removes the cgroups of pods and of their QoS classes that no process is in: those of another
// kubelet's pods below the same root stay.
Result<> RemoveEmptyPodCgroups(const std::string& cgroup_root);

}  // namespace skiff::agent
