// Into the pod's user namespace, and what makes one.
//
// The node's root can do nothing of the node's any more from the moment a process is in a user
// namespace: what needs that comes before. It is still the node's root by number until
// BecomePodRoot, so that it can write what belongs to the node's root by owner (sysctls), and can
// make no file whose owner the pod could not name.

#include "runtime/linux/userns.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "base/os/files.h"
#include "runtime/init/launch.h"
#include "runtime/linux/mounts.h"
#include "runtime/wire/channel.h"

namespace skiff::runtime {
namespace {

// Of the child that goes on: waits until the shim has been told of it.
void AwaitParent(Pipe& told) {
  told.write_end.Reset();
  char byte = 0;
  if (::read(told.read_end.get(), &byte, 1) != 1) ::_exit(1);
}

[[noreturn]] void HandOver(const Launch& launch, pid_t pid, int pidfd, int told) {
  if (launch.spec.kind == LaunchKind::kProbe) {
    // Nobody but us waits for it.
    int status = 0;
    bool good = ::write(told, "", 1) == 1 && ::waitpid(pid, &status, 0) == pid;
    ::_exit(good && WIFEXITED(status) ? WEXITSTATUS(status) : 1);
  }
  Result<> sent = SendMessage(kLaunchSocketFd, kLaunchForked, 0,
                              Encode(LaunchForked{.pid = static_cast<int32_t>(pid)}), {pidfd});
  // Where the shim is gone, so is the pod: the child ends for want of a word.
  ::_exit(sent.ok() && ::write(told, "", 1) == 1 ? 0 : 1);
}

}  // namespace

Result<> PrepareForUserNamespace(Launch& launch) {
  if (!launch.in_user_namespace()) return {};
  // Limits above what we have, and scores below, are for the node's root to set.
  TRY(SetLimits(launch));
  std::optional<uint32_t> uid = HostId(launch.spec.user_namespace.uids, 0);
  std::optional<uint32_t> gid = HostId(launch.spec.user_namespace.gids, 0);
  for (int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    struct stat info;
    if (::fstat(stream, &info) != 0 || !S_ISFIFO(info.st_mode)) continue;
    // For OwnStreams, who is the pod's root by then.
    if (uid && gid) (void)::fchown(stream, *uid, *gid);
  }
  return {};
}

Result<> ForkIntoPidNamespace(Launch& launch) {
  if (!launch.spec.new_pid_namespace) return {};
  Pipe told = TRY(MakePipe());
  const bool probe = launch.spec.kind == LaunchKind::kProbe;
  int pidfd = -1;
  clone_args arguments{};
  // A sibling, not a child: the shim waits for it as for this process.
  arguments.flags = CLONE_NEWPID | CLONE_PIDFD | (probe ? 0 : CLONE_PARENT);
  arguments.exit_signal = probe ? SIGCHLD : 0;  // as this process's own
  arguments.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  long pid = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid < 0) return Error::Sys(errno, "clone3", "pid namespace");
  if (pid > 0) HandOver(launch, static_cast<pid_t>(pid), pidfd, told.write_end.get());
  AwaitParent(told);
  return {};
}

Result<> BecomePodRoot(Launch& launch) {
  if (!launch.in_user_namespace()) return {};
  // By system calls: glibc's wrappers exist to tell other threads, of which there are none.
  if (::syscall(SYS_setgroups, 0, nullptr) != 0) return Error::Sys(errno, "setgroups");
  if (::syscall(SYS_setresgid, 0, 0, 0) != 0 || ::syscall(SYS_setresuid, 0, 0, 0) != 0) {
    return Error::Sys(errno, "setresuid", "root of the user namespace");
  }
  return {};
}

Result<> OpenPodsUserNamespace(Launch& launch) {
  if (!launch.in_user_namespace()) return {};
  launch.user_namespace = TRY(OpenFile(launch.spec.userns_path, O_RDONLY));
  return {};
}

Result<> PinNamespaces(Launch& launch) {
  const LaunchSpec& spec = launch.spec;
  UserNamespace made = TRY(MakeUserNamespace(spec.user_namespace, !spec.netns_path.empty()));
  TRY(PinNamespace(made.user.get(), spec.userns_path));
  if (made.network) TRY(PinNamespace(made.network.get(), spec.netns_path));
  return {};
}

Result<> MakeProbedNamespaces(Launch& launch) {
  // The network namespace is for sysfs, which belongs to one.
  UserNamespace made = TRY(MakeUserNamespace(launch.spec.user_namespace, true));
  launch.user_namespace = std::move(made.user);
  launch.network_namespace = std::move(made.network);
  return {};
}

Result<> ReportSuccess(Launch& launch) {
  (void)launch;
  TRY(SendMessage(kLaunchSocketFd, kLaunchReady, 0, Encode(LaunchReady{})));
  ::_exit(0);
}

}  // namespace skiff::runtime
