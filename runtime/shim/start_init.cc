#include "runtime/shim/start_init.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <iterator>

#include "base/failpoint.h"
#include "base/os/files.h"
#include "runtime/init/init.h"
#include "runtime/launch/launch_spec.h"

namespace skiff::runtime {
namespace {

constexpr int kAboveTargets = 32;
constexpr const char* kInitName = "skiff-init";

[[noreturn]] void BecomeInit(const InitFds& fds) {
  // What the shim set for itself is not the container's.
  ::signal(SIGPIPE, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);

  int sources[] = {fds.in,     fds.out,        fds.err,          fds.spec,
                   fds.socket, fds.namespaces, fds.pause_program};
  int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int& fd : sources) {
    fd = ::fcntl(fd >= 0 ? fd : null, F_DUPFD_CLOEXEC, kAboveTargets);
    if (fd < 0) ::_exit(126);
  }
  constexpr int kTargets = std::size(sources);
  for (int target = 0; target < kTargets; ++target) {
    if (::dup2(sources[target], target) < 0) ::_exit(126);
  }
  // The shim's own, whatever they are: the other ends of pipes among them.
  if (::syscall(SYS_close_range, kTargets, ~0U, 0) != 0) ::_exit(126);
  program_invocation_short_name = const_cast<char*>(kInitName);  // what failpoints know it by
  ::_exit(RunInit());
}

}  // namespace

Result<StartedProcess> StartInit(const InitFds& fds, const Birthplace& birthplace) {
  TRY(failpoint::Reach("clone init", birthplace.cgroup));
  UniqueFd cgroup;
  // Into the cgroup by birth: to move there afterwards stops every fork of the machine for the
  // length of an RCU grace period.
  if (!birthplace.cgroup.empty()) {
    cgroup = TRY(OpenFile(birthplace.cgroup, O_PATH | O_DIRECTORY));
  }
  UniqueFd own;
  if (birthplace.pid_namespace_of >= 0) {
    // setns(2): changes where children are born, not this process.
    own = TRY(OpenFile("/proc/self/ns/pid", O_RDONLY));
    if (::setns(birthplace.pid_namespace_of, CLONE_NEWPID) != 0) {
      return Error::Sys(errno, "setns", "pid namespace");
    }
  }
  int pidfd = -1;
  clone_args arguments{};
  arguments.flags = CLONE_PIDFD;
  if (birthplace.new_pid_namespace) arguments.flags |= CLONE_NEWPID;
  if (cgroup) arguments.flags |= CLONE_INTO_CGROUP;
  arguments.cgroup = static_cast<uint64_t>(cgroup ? cgroup.get() : 0);
  arguments.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  arguments.exit_signal = SIGCHLD;
  long pid = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  int clone_errno = errno;
  if (pid == 0) BecomeInit(fds);
  // All later children would be born in the wrong place.
  if (own) CHECK(::setns(own.get(), CLONE_NEWPID) == 0);
  if (pid < 0) return Error::Sys(clone_errno, "clone3", birthplace.cgroup);
  return StartedProcess{static_cast<pid_t>(pid), UniqueFd(pidfd)};
}

}  // namespace skiff::runtime
