// Steps of an exec: into a container that runs.

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>

#include "base/os/files.h"
#include "runtime/init/launch.h"

namespace skiff::runtime {

Result<> JoinContainerNamespaces(Launch& launch) {
  TRY(PrepareForUserNamespace(launch));
  // Root and working directory become those of the mount namespace (setns(2)).
  int flags = CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP | CLONE_NEWNS;
  if (launch.in_user_namespace()) flags |= CLONE_NEWUSER;
  if (::setns(kLaunchNamespaceFd, flags) != 0) return Error::Sys(errno, "setns", "container");
  return BecomePodRoot(launch);
}

Result<> OpenExecTerminal(Launch& launch) {
  if (::setsid() < 0) return Error::Sys(errno, "setsid");
  if (!launch.spec.exec.terminal) return {};
  UniqueFd devpts = TRY(OpenFile("/dev/pts", O_PATH | O_DIRECTORY));
  return TakeTerminal(launch, devpts.get(), launch.spec.exec.rows, launch.spec.exec.columns);
}

}  // namespace skiff::runtime
