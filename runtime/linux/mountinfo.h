// What mountinfo(5) says of the host's mounts.
#pragma once

#include <string_view>
#include <vector>

#include "base/result.h"
#include "runtime/spec.h"

namespace skiff::runtime {

// Whether mounts of the host and of the container can reach each other as the specs ask: a source
// on a mount that is not shared is FailedPrecondition for kShared, and one that is neither shared
// nor a slave for kSlave.
Result<> CheckPropagation(const std::vector<MountSpec>& mounts);

// The same for one mount, given the file's text and the source's real path. Pure.
Result<> CheckPropagationIn(std::string_view mountinfo, const std::string& source,
                            MountPropagation propagation);

}  // namespace skiff::runtime
