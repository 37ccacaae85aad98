// The work of skiff-init, step by step (launch/steps.h): what is handed from one step to the next,
// and the steps themselves, grouped by the file they are in. All run once, in one thread; the
// first failure ends the process.
#pragma once

#include <string>
#include <vector>

#include "base/os/unique_fd.h"
#include "base/result.h"
#include "runtime/launch/launch_spec.h"

namespace skiff::runtime {

struct Launch {
  LaunchSpec spec;
  UniqueFd oom_score_file;              // of this process; opened while the host's /proc is there
  std::vector<UniqueFd> mount_sources;  // one for each of spec.container.mounts
  UniqueFd host_shm;                    // IPC namespace of the node: its /dev/shm
  UniqueFd pod_shm;
  UniqueFd rootfs;     // first detached, then attached, then the root
  UniqueFd devices;    // the mount that is /dev
  UniqueFd terminals;  // the mount that is /dev/pts
  UniqueFd terminal;   // the master side, on its way to the shim
  ResolvedUser user;
  std::string home;
  std::string console_socket;  // where an OCI runtime sends the terminal; empty: there is none
};

// common.cc
Result<> JoinCgroups(Launch& launch);
Result<> SetLimits(Launch& launch);
// sandbox.cc
Result<> CreateSandboxNamespaces(Launch& launch);
Result<> SetHostname(Launch& launch);
Result<> SetSysctls(Launch& launch);
Result<> BuildSandboxRoot(Launch& launch);
Result<> BecomePause(Launch& launch);  // returns only on failure
// rootfs.cc
Result<> OpenMountSources(Launch& launch);
Result<> BuildRootfs(Launch& launch);
Result<> JoinSandboxNamespaces(Launch& launch);
Result<> CreateContainerNamespaces(Launch& launch);
Result<> AttachRootfs(Launch& launch);
Result<> MountSpecified(Launch& launch);
Result<> EnterRootfs(Launch& launch);
Result<> HidePaths(Launch& launch);
Result<> SealRootfs(Launch& launch);
// devices.cc
Result<> MountKernelFilesystems(Launch& launch);
Result<> MakeDevices(Launch& launch);
Result<> OpenContainerTerminal(Launch& launch);
// exec.cc
Result<> JoinContainerNamespaces(Launch& launch);
Result<> OpenExecTerminal(Launch& launch);
// oci.cc
Result<> OpenPodShm(Launch& launch);
Result<> PrepareBundle(Launch& launch);
Result<> ResolveImageUser(Launch& launch);
Result<> WriteOciConfig(Launch& launch);
Result<> BecomeOciRuntime(Launch& launch);  // returns only on failure
// credentials.cc
Result<> ResolveContainerUser(Launch& launch);
Result<> ChangeDirectory(Launch& launch);
Result<> SetCredentials(Launch& launch);
Result<> LoadSeccomp(Launch& launch);
Result<> DropPrivileges(Launch& launch);
Result<> ExecProgram(Launch& launch);  // returns only on failure

// What the kernel allows this process at most: a capability that it does not have itself cannot be
// given on (a node that runs in a container of its own may lack some). (credentials.cc)
Result<uint64_t> OwnCapabilities();

// Opens a new terminal of a devpts mount, makes it the controlling one and the three standard
// streams, and keeps the master side in launch.terminal. (terminal.cc)
Result<> TakeTerminal(Launch& launch, int devpts, uint16_t rows, uint16_t columns);

}  // namespace skiff::runtime
