// The configuration of an OCI bundle, from the same checked spec that the built-in way takes.
//
// Source: OCI runtime specification 1.1, config.md and config-linux.md. What a runtime could do in
// a way of its own, or could not, is done before it runs (init/oci.cc) and shows here as plain
// bind mounts: recursive read-only, sub-paths, the pod's /dev/shm. All functions are pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/launch/launch_spec.h"
#include "runtime/linux/cgroup.h"

namespace skiff::runtime {

// What is known only beside the container's files and in the process that becomes the runtime.
struct OciFacts {
  ResolvedUser user;
  std::string home;               // of the user; for HOME where the environment has none
  uint64_t capabilities = ~0ULL;  // the node has no others to give
  int oom_score_adj = 0;          // as the process that becomes the runtime has it
};

// Where things are in a bundle.
inline std::string OciConfigPath(const std::string& bundle) { return bundle + "/config.json"; }
inline std::string OciRootfsPath(const std::string& bundle) { return bundle + "/rootfs"; }
inline std::string OciMountPath(const std::string& bundle, size_t index) {
  return bundle + "/mounts/" + std::to_string(index);
}
inline std::string OciShmPath(const std::string& bundle) { return bundle + "/mounts/shm"; }
inline std::string OciLogPath(const std::string& bundle) { return bundle + "/log.json"; }
inline std::string OciPidPath(const std::string& bundle) { return bundle + "/pid"; }

// config.json for spec.container and spec.oci.
std::string OciConfig(const LaunchSpec& spec, const OciFacts& facts);

// "linux.resources": the devices that may be used and the limits. v2: also cgroup v2's own files.
// Limits that are unset are left out.
std::string OciResources(const ResourceSpec& limits, const std::vector<DeviceRule>& devices,
                         bool v2);

}  // namespace skiff::runtime
