// Network namespaces pinned at a path by a bind mount, as ip-netns(8) does it.
#pragma once

#include <functional>
#include <string>

#include "base/os/unique_fd.h"
#include "base/result.h"

namespace skiff::runtime {

// Makes a namespace with its loopback up and pins it; one that is pinned there already stays.
Result<> PinNetworkNamespace(const std::string& path);
// Unpins it: it ends with its last process. A path that is not there is a success.
Result<> UnpinNamespace(const std::string& path);

// Connects to the port on the namespace's loopback: 127.0.0.1, or else ::1. An empty path is
// the namespace of this process.
Result<UniqueFd> ConnectInNamespace(const std::string& path, uint16_t port);

}  // namespace skiff::runtime
