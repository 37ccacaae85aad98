// Ending all processes of a cgroup.
#pragma once

#include <string>

#include "base/result.h"

namespace skiff::runtime {

// Kills every process of the cgroup and those below it: by kill_file (cgroup.kill, Linux 5.14) or,
// where that is empty, those in procs_file (cgroup.procs) until there are none. A cgroup that is
// gone is a success.
Result<> KillCgroup(const std::string& kill_file, const std::string& procs_file);

}  // namespace skiff::runtime
