// Mounts by the interface of Linux 5.2 to 5.12 (fsopen(2), open_tree(2), move_mount(2),
// mount_setattr(2)): a mount is built detached, as a descriptor, and attached last. A detached
// mount vanishes with its descriptor, so an error leaves nothing behind.
//
// Also paths inside a foreign root: always resolved by openat2(2) with RESOLVE_IN_ROOT, so that no
// symlink of an image leads out of it. All calls are for single-threaded programs and tests.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/os/unique_fd.h"
#include "base/result.h"

namespace skiff::runtime {

// A parameter of a filesystem: a flag where the value is empty.
using MountOption = std::pair<std::string, std::string>;

// A new detached mount of a filesystem; attributes are MOUNT_ATTR_*.
Result<UniqueFd> MakeFilesystem(const char* type, const std::vector<MountOption>& options,
                                uint64_t attributes);

struct OverlayLayers {
  std::vector<std::string> lower;  // topmost first
  std::string upper;               // empty: read-only
  std::string work;
};
// Whether overlayfs takes its layers one by one (6.8). An older kernel logs the question, so it is
// asked once by the daemon and not for each container.
bool OverlayTakesSingleLayers();
// A detached overlay mount. Without single layers it mounts on scratch_dir, in a mount namespace
// of this process's own.
Result<UniqueFd> MakeOverlay(const OverlayLayers& layers, const std::string& scratch_dir,
                             bool single_layers);

// A detached copy of the mount at the path ("" means at itself), with those below if recursive.
Result<UniqueFd> CloneTree(int at, const std::string& path, bool recursive);
// Sets attributes (MOUNT_ATTR_*) and propagation (MS_PRIVATE, ...; 0 leaves it).
Result<> ChangeMount(int mount, uint64_t attributes, uint64_t propagation, bool recursive);
// Attaches a detached mount on top of what target (an O_PATH descriptor) is.
Result<> AttachMount(int mount, int target, std::string_view subject);

// Opens a path below root, taking root for "/". Magic links are refused.
Result<UniqueFd> OpenInRoot(int root, const std::string& path, uint64_t flags, uint64_t mode = 0);
// An O_PATH descriptor of a directory below root; ELOOP where any part of the path is a symlink.
Result<UniqueFd> OpenStraightInRoot(int root, const std::string& path);
// The same for a place to mount on, O_PATH, made (with its parents) where it is missing.
enum class TargetKind { kDirectory, kFile };
Result<UniqueFd> MakeTargetInRoot(int root, const std::string& path, TargetKind kind);

// Makes the mount the process's root directory and drops the old one.
Result<> PivotInto(int mount);

}  // namespace skiff::runtime
