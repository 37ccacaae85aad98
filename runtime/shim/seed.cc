#include "runtime/shim/seed.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "base/failpoint.h"
#include "runtime/wire/channel.h"
#include "runtime/wire/messages.h"

namespace skiff::runtime {
namespace {

// Of the copy: what the seed had goes, what it was given takes its place.
Result<> BecomeShim(Message& message) {
  ::signal(SIGCHLD, SIG_DFL);
  if (::setsid() < 0) return Error::Sys(errno, "setsid");
  const int targets[] = {kShimControlFd, kShimListenFd};
  for (size_t i = 0; i < message.fds.size(); ++i) {
    // What is received lies above all that a shim has, so nothing is overwritten.
    if (::dup3(message.fds[i].get(), targets[i], O_CLOEXEC) < 0) return Error::Sys(errno, "dup3");
  }
  message.fds.clear();
  return {};
}

// The copy's number there, 0 in the copy.
Result<pid_t> Fork(UniqueFd& pidfd) {
  TRY(failpoint::Reach("clone shim"));
  int fd = -1;
  clone_args arguments{};
  arguments.flags = CLONE_PIDFD;
  arguments.pidfd = reinterpret_cast<uint64_t>(&fd);
  arguments.exit_signal = SIGCHLD;
  const long pid = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid < 0) return Error::Sys(errno, "clone3");
  if (pid > 0) pidfd = UniqueFd(fd);
  return static_cast<pid_t>(pid);
}

}  // namespace

Result<bool> GrowShims() {
  ::prctl(PR_SET_NAME, "skiff-seed");
  // The daemon waits for shims by pidfd; the kernel reaps them.
  ::signal(SIGCHLD, SIG_IGN);
  for (;;) {
    std::optional<Message> message = TRY(ReceiveMessage(kShimControlFd));
    if (!message) return false;
    if (message->type == kHello) {
      TRY(SendMessage(kShimControlFd, kHelloReply, message->request,
                      Encode(HelloReply{.shim_pid = ::getpid()})));
      continue;
    }
    if (message->type != kMakeShim || message->fds.size() != 2) {
      return Error(Code::kInvalidArgument, "seed: unknown request");
    }
    UniqueFd pidfd;
    Result<pid_t> pid = Fork(pidfd);
    if (pid.ok() && *pid == 0) {
      TRY(BecomeShim(*message));
      return true;
    }
    // Where the answer cannot be sent the seed ends, and the daemon makes another one; a shim that
    // it does not know of finds that nobody is there.
    if (pid.ok()) {
      TRY(SendMessage(kShimControlFd, kStarted, message->request, Encode(Started{.pid = *pid}),
                      {pidfd.get()}));
    } else {
      const ShimFailure failure{.code = static_cast<uint16_t>(pid.error().code()),
                                .sys_errno = pid.error().sys_errno(),
                                .message = pid.error().message()};
      TRY(SendMessage(kShimControlFd, kShimError, message->request, Encode(failure)));
    }
  }
}

}  // namespace skiff::runtime
