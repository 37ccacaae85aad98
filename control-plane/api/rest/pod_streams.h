// pods/log, exec, attach and portforward.
#pragma once

#include "control-plane/api/rest/call.h"

namespace skiff::cp {

bool IsPodStream(std::string_view subresource);
// Checks pod, container and options, and hands the request to the pod's node.
Answer ServePodStream(Call& call);

}  // namespace skiff::cp
