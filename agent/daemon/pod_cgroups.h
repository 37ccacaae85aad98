// PodCgroups over the runtime's cgroup code: one implementation of v1 and v2 for the whole node.
//
// Who makes a cgroup removes it. The agent makes the cgroups of pods and of their QoS classes
// before it asks for a sandbox in them, so the runtime finds them there and takes away only what it
// puts below. Where nobody has made the parent, as with crictl, the runtime does, says so in the
// sandbox's record (made_cgroup_parent) and takes it away with the last sandbox in it.
#pragma once

#include <memory>
#include <string>

#include "agent/pods/cgroups.h"
#include "base/result.h"

namespace skiff::agent {

// FailedPrecondition where no cgroup hierarchy is mounted.
Result<std::unique_ptr<PodCgroups>> OpenPodCgroups();

// Removes the cgroups of pods and of their QoS classes, and the parent of sandboxes that name none,
// where no process is in them: those of another kubelet's pods below the same root stay.
Result<> RemoveEmptyPodCgroups(const std::string& cgroup_root, const std::string& default_parent);

}  // namespace skiff::agent
