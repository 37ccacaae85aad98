#include "runtime/shim/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "runtime/wire/channel.h"

namespace skiff::runtime {

LaunchedProcess::~LaunchedProcess() { CloseSocket(); }

Result<> LaunchedProcess::Start(InitFds fds, const Birthplace& birthplace) {
  SocketPair pair = TRY(MakeSocketPair());
  if (::fcntl(pair.ours.get(), F_SETFL, O_NONBLOCK) != 0) return Error::Sys(errno, "fcntl");
  fds.socket = pair.theirs.get();
  StartedProcess started = TRY(StartInit(fds, birthplace));
  pid_ = started.pid;
  pidfd_ = std::move(started.pidfd);
  socket_ = std::move(pair.ours);
  return loop_.Add(socket_.get(), EPOLLIN, this);
}

Result<> LaunchedProcess::Adopt(pid_t pid) {
  UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) return Error::Sys(errno, "pidfd_open", std::to_string(pid));
  pid_ = pid;
  pidfd_ = std::move(pidfd);
  state_ = State::kWaiting;
  return {};
}

void LaunchedProcess::Started() {
  if (state_ != State::kStarting) return;
  state_ = State::kRunning;
  owner_.OnRunning();
}

Result<> LaunchedProcess::Go(std::string_view word) {
  if (state_ != State::kWaiting) return Error(Code::kFailedPrecondition, "not waiting to start");
  if (socket_) TRY(SendMessage(socket_.get(), kLaunchGo, 0, word));
  state_ = State::kStarting;
  return {};
}

Result<> LaunchedProcess::Signal(int signal_number) const {
  if (state_ == State::kEnded || pid_ == 0) return Error(Code::kNotFound, "process has ended");
  if (::syscall(SYS_pidfd_send_signal, pidfd_.get(), signal_number, nullptr, 0) != 0) {
    return Error::Sys(errno, "pidfd_send_signal");
  }
  return {};
}

void LaunchedProcess::OnEvents(uint32_t) { (void)HandleMessage(); }

bool LaunchedProcess::HandleMessage() {
  if (!socket_) return false;
  Result<std::optional<Message>> received = ReceiveMessage(socket_.get());
  if (!received.ok() && received.error().sys_errno() == EAGAIN) return false;
  if (!received.ok() || !received->has_value()) {
    CloseSocket();
    // The socket is close-on-exec: its end after Go means that the program runs. Before Go it
    // means that init died, which SIGCHLD tells.
    if (state_ == State::kStarting && !failed_) {
      state_ = State::kRunning;
      owner_.OnRunning();
    }
    return false;
  }
  Message& message = **received;
  if (message.type == kLaunchReady && state_ == State::kSettingUp) {
    state_ = State::kWaiting;
    LaunchReady ready = Decode<LaunchReady>(message.body).value_or({});
    owner_.OnReady(ready, message.fds.empty() ? UniqueFd() : std::move(message.fds[0]));
  } else if (message.type == kLaunchForked && state_ == State::kSettingUp &&
             message.fds.size() == 1) {
    pid_ = Decode<LaunchForked>(message.body).value_or(LaunchForked{.pid = pid_}).pid;
    pidfd_ = std::move(message.fds[0]);
  } else if (message.type == kLaunchFailed && !failed_) {
    failed_ = true;
    owner_.OnLaunchFailed(Decode<LaunchFailure>(message.body).value_or({}));
  }
  return true;
}

void LaunchedProcess::ReadMessages() {
  while (HandleMessage()) {
  }
}

void LaunchedProcess::HandleEnd(pid_t pid, int wait_status) {
  // What init said before it died comes first.
  ReadMessages();
  if (pid != pid_) return;  // another has taken its place
  CloseSocket();
  State before = std::exchange(state_, State::kEnded);
  ExitStatus status;
  if (WIFSIGNALED(wait_status)) {
    status.signal = WTERMSIG(wait_status);
  } else {
    status.code = WEXITSTATUS(wait_status);
  }
  if (before == State::kSettingUp && !failed_) {
    failed_ = true;
    owner_.OnLaunchFailed(
        {.step = Step::kReadSpec,
         .subject = "skiff-init ended with status " + std::to_string(status.ShellCode())});
  }
  owner_.OnEnded(status);
}

void LaunchedProcess::CloseSocket() {
  if (!socket_) return;
  loop_.Remove(socket_.get());
  socket_.Reset();
}

}  // namespace skiff::runtime
