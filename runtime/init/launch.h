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
  bool in_user_namespace() const { return !spec.user_namespace.empty(); }
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

  bool limits_set = false;
  bool own_mounts = false;  // in a mount namespace of this process's own
  UniqueFd scratch;         // spec.scratch_dir, in the sandbox's mount namespace
  // With a user namespace: it, and what is opened as long as the host's files may be.
  UniqueFd user_namespace;
  UniqueFd network_namespace;               // of a sandbox or probe
  UniqueFd host_sys;                        // /sys of a pod on the node's network
  std::vector<UniqueFd> standard_devices;   // in the order of kStandardDevices
  std::vector<UniqueFd> specified_devices;  // one for each of spec.devices
};

struct StandardDevice {
  const char* name;
  unsigned major, minor;
};
constexpr StandardDevice kStandardDevices[] = {{"null", 1, 3},   {"zero", 1, 5},    {"full", 1, 7},
                                               {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};

// common.cc
Result<> JoinCgroups(Launch& launch);
Result<> SetLimits(Launch& launch);
// userns.cc; all but the last four do nothing without a user namespace
Result<> OpenPodsUserNamespace(Launch& launch);
Result<> PrepareForUserNamespace(Launch& launch);  // what the node's root alone can do
Result<> BecomePodRoot(Launch& launch);
Result<> ForkIntoPidNamespace(Launch& launch);  // where spec.new_pid_namespace: only the child
                                                // returns
Result<> PinNamespaces(Launch& launch);
Result<> MakeProbedNamespaces(Launch& launch);
Result<> ReportSuccess(Launch& launch);  // returns only on failure
// sandbox.cc
Result<> CreateSandboxNamespaces(Launch& launch);
Result<> SetHostname(Launch& launch);
Result<> SetSysctls(Launch& launch);
Result<> BuildSandboxRoot(Launch& launch);
Result<> BecomePause(Launch& launch);  // returns only on failure
// rootfs.cc
Result<> OpenMountSources(Launch& launch);
Result<> OpenDeviceSources(Launch& launch);
// What is to be a mount of its own in the rootfs, which is attached and has nothing mounted on it.
Result<> OpenOwnMounts(Launch& launch);
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
Result<> SetAppArmor(Launch& launch);
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
