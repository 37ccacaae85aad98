// Container Device Interface: devices by vendor names ("vendor.com/gpu=0"), which files on the node
// (/etc/cdi, /var/run/cdi; JSON or YAML) translate into device nodes, mounts and variables.
// Source: github.com/cncf-tags/container-device-interface, SPEC.md, versions 0.3.0 to 1.0.0.
//
// Hooks, intelRdt and net devices are refused. Files are read anew for each container that names a
// device, so that a changed file counts at once.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "runtime/spec.h"

namespace skiff::cri {

// What a device adds to a container. Mounts may only be of what is there.
struct CdiEdits {
  std::vector<std::string> env;  // "NAME=value"
  std::vector<runtime::DeviceSpec> devices;
  std::vector<runtime::MountSpec> mounts;
  std::vector<uint32_t> additional_gids;
  std::string refused;  // names what it asks for that cannot be done; empty: nothing
};

struct CdiSpec {
  std::string kind;                         // "vendor.com/gpu"
  CdiEdits common;                          // once for each container with any of the devices
  std::map<std::string, CdiEdits> devices;  // by name: "0"
};

// One file's text. Pure; InvalidArgument says what is wrong with it.
Result<CdiSpec> ParseCdiSpec(std::string_view text);

// All the edits for the named devices. In a later directory a device replaces its namesakes of
// earlier ones; twice in one directory it is an error. InvalidArgument names the device that is
// unknown, and the files that could not be read where there are any.
Result<CdiEdits> ResolveCdiDevices(const std::vector<std::string>& names,
                                   const std::vector<std::string>& directories);

// Adds the edits to the container: variables replace those of the same name.
void ApplyCdiEdits(const CdiEdits& edits, runtime::ContainerSpec* spec);

}  // namespace skiff::cri
