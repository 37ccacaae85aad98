// The steps of a sandbox, a container and an exec, in the order written here.

#include "runtime/init/init.h"

#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "base/failpoint.h"
#include "runtime/init/launch.h"
#include "runtime/wire/channel.h"

namespace skiff::runtime {
namespace {

struct StepEntry {
  Step step;
  Result<> (*apply)(Launch& launch);
};

Result<> WaitForGo(Launch& launch) {
  LaunchReady ready{.user = launch.user};
  std::vector<int> fds;
  if (launch.terminal) fds.push_back(launch.terminal.get());
  TRY(SendMessage(kLaunchSocketFd, kLaunchReady, 0, Encode(ready), fds));
  launch.terminal.Reset();
  std::optional<Message> go = TRY(ReceiveMessage(kLaunchSocketFd));
  // The shim is gone, or the container is removed before its start.
  if (!go || go->type != kLaunchGo) return Error(Code::kCancelled, "not started");
  launch.console_socket = std::move(go->body);
  return {};
}

constexpr StepEntry kSandboxSteps[] = {
    {Step::kJoinCgroups, JoinCgroups},
    {Step::kEnterUserNamespace, OpenPodsUserNamespace},
    {Step::kCreateNamespaces, CreateSandboxNamespaces},
    {Step::kSetHostname, SetHostname},
    {Step::kSetSysctls, SetSysctls},
    {Step::kSetLimits, SetLimits},
    {Step::kBuildRootfs, BuildSandboxRoot},
    {Step::kWaitForGo, WaitForGo},
    {Step::kExec, BecomePause},
};

// Everything of the host is opened before its files go out of sight; nothing is attached before
// the mount namespace is the container's own; what could fail for a reason of the spec comes
// before kWaitForGo. The filter comes late, for it need not allow what sets a container up, but
// before the privilege to load it is dropped.
constexpr StepEntry kContainerSteps[] = {
    {Step::kJoinCgroups, JoinCgroups},
    {Step::kEnterUserNamespace, OpenPodsUserNamespace},
    {Step::kOpenMountSources, OpenMountSources},
    {Step::kBuildRootfs, BuildRootfs},
    {Step::kJoinNamespaces, JoinSandboxNamespaces},
    {Step::kCreateNamespaces, CreateContainerNamespaces},
    {Step::kAttachRootfs, AttachRootfs},
    {Step::kMountKernelFilesystems, MountKernelFilesystems},
    {Step::kMakeDevices, MakeDevices},
    {Step::kOpenTerminal, OpenContainerTerminal},
    {Step::kMount, MountSpecified},
    {Step::kEnterRootfs, EnterRootfs},
    {Step::kHidePaths, HidePaths},
    {Step::kResolveUser, ResolveContainerUser},
    {Step::kSetLimits, SetLimits},
    {Step::kChangeDirectory, ChangeDirectory},
    {Step::kSealRootfs, SealRootfs},
    {Step::kSetAppArmor, SetAppArmor},
    {Step::kSetCredentials, SetCredentials},
    {Step::kWaitForGo, WaitForGo},
    {Step::kLoadSeccomp, LoadSeccomp},
    {Step::kDropPrivileges, DropPrivileges},
    {Step::kExec, ExecProgram},
};

constexpr StepEntry kExecSteps[] = {
    {Step::kJoinCgroups, JoinCgroups},       {Step::kJoinNamespaces, JoinContainerNamespaces},
    {Step::kOpenTerminal, OpenExecTerminal}, {Step::kResolveUser, ResolveContainerUser},
    {Step::kSetLimits, SetLimits},           {Step::kChangeDirectory, ChangeDirectory},
    {Step::kSetAppArmor, SetAppArmor},       {Step::kSetCredentials, SetCredentials},
    {Step::kWaitForGo, WaitForGo},           {Step::kLoadSeccomp, LoadSeccomp},
    {Step::kDropPrivileges, DropPrivileges}, {Step::kExec, ExecProgram},
};

// "create": in the order of a container's own, up to where the runtime takes over.
constexpr StepEntry kOciCreateSteps[] = {
    {Step::kOpenMountSources, OpenMountSources},
    {Step::kBuildRootfs, BuildRootfs},
    {Step::kJoinNamespaces, OpenPodShm},
    {Step::kPrepareBundle, PrepareBundle},
    {Step::kResolveUser, ResolveImageUser},
    {Step::kWriteConfig, WriteOciConfig},
    {Step::kWaitForGo, WaitForGo},
    {Step::kExec, BecomeOciRuntime},
};

constexpr StepEntry kOciCommandSteps[] = {
    {Step::kWaitForGo, WaitForGo},
    {Step::kExec, BecomeOciRuntime},
};

constexpr StepEntry kNamespacesSteps[] = {
    {Step::kCreateNamespaces, PinNamespaces},
    {Step::kExec, ReportSuccess},
};

// What a pod with a user namespace and its containers need of the machine, tried out.
constexpr StepEntry kProbeSteps[] = {
    {Step::kCreateNamespaces, MakeProbedNamespaces},
    {Step::kJoinCgroups, JoinCgroups},
    {Step::kBuildRootfs, BuildRootfs},
    {Step::kJoinNamespaces, CreateSandboxNamespaces},
    {Step::kMountKernelFilesystems, BuildSandboxRoot},
    {Step::kExec, ReportSuccess},
};

void ReportFailure(Step step, const Error& error) {
  LaunchFailure failure{.step = step, .sys_errno = error.sys_errno(), .subject = error.message()};
  if (failure.sys_errno != 0) {
    // The reader appends the errno's text anew.
    std::string suffix = ": " + ErrnoText(failure.sys_errno);
    if (failure.subject.ends_with(suffix)) {
      failure.subject.resize(failure.subject.size() - suffix.size());
    }
  }
  (void)SendMessage(kLaunchSocketFd, kLaunchFailed, 0, Encode(failure));  // no one else to tell
}

template <size_t N>
int RunSteps(const StepEntry (&steps)[N], Launch& launch) {
  for (const StepEntry& entry : steps) {
    Result<> done = failpoint::Reach("set-up step", StepName(entry.step));
    if (done.ok()) done = entry.apply(launch);
    if (done.ok()) continue;
    ReportFailure(entry.step, done.error());
    return 1;
  }
  return 1;  // the last step does not return on success
}

}  // namespace

int RunInit() {
  ::prctl(PR_SET_NAME, "skiff-init");
  // A container that may trace must not look into a process that still has the host open.
  ::prctl(PR_SET_DUMPABLE, 0);
  ::umask(0022);
  Launch launch;
  auto read = [&]() -> Result<> {
    std::string bytes = TRY(ReadSealed(kLaunchSpecFd));
    launch.spec = TRY(Decode<LaunchSpec>(bytes));
    return {};
  };
  Result<> spec = read();
  if (!spec.ok()) {
    ReportFailure(Step::kReadSpec, spec.error());
    return 1;
  }
  switch (launch.spec.kind) {
    case LaunchKind::kSandbox: return RunSteps(kSandboxSteps, launch);
    case LaunchKind::kContainer: return RunSteps(kContainerSteps, launch);
    case LaunchKind::kExec: return RunSteps(kExecSteps, launch);
    case LaunchKind::kOci:
      return launch.spec.oci.bundle.empty() ? RunSteps(kOciCommandSteps, launch)
                                            : RunSteps(kOciCreateSteps, launch);
    case LaunchKind::kNamespaces: return RunSteps(kNamespacesSteps, launch);
    case LaunchKind::kProbe: return RunSteps(kProbeSteps, launch);
  }
  return 1;
}

}  // namespace skiff::runtime
