// PodCgroups over the runtime's cgroup code: one implementation of v1 and v2 for the whole node.
#pragma once

#include <memory>

#include "agent/pods/cgroups.h"
#include "base/result.h"

namespace skiff::agent {

// FailedPrecondition where no cgroup hierarchy is mounted.
Result<std::unique_ptr<PodCgroups>> OpenPodCgroups();

}  // namespace skiff::agent
