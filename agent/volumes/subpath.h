// Opens a subPath of a volume so that no symlink in the volume, planted by whoever can write there,
// leads out of it (CVE-2017-1002101).
#pragma once

#include <string>

#include "base/os/unique_fd.h"
#include "base/result.h"

namespace skiff::agent {

// A descriptor (O_PATH) of what is at sub_path inside the volume; missing directories are made.
// PermissionDenied when the path leaves the volume.
Result<UniqueFd> OpenSubPath(const std::string& volume, const std::string& sub_path);

}  // namespace skiff::agent
