#include "runtime/shim/oci_command.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>

#include "base/os/files.h"
#include "runtime/oci/config.h"
#include "runtime/oci/log.h"

namespace skiff::runtime {
namespace {

constexpr const char* kSocketName = "console.sock";
constexpr size_t kLogLimitBytes = 1 << 20;

}  // namespace

ConsoleSocket::ConsoleSocket(UniqueFd directory, UniqueFd listener)
    : directory_(std::move(directory)),
      listener_(std::move(listener)),
      path_("/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(directory_.get()) +
            "/" + kSocketName) {}

ConsoleSocket::~ConsoleSocket() {
  (void)::unlinkat(directory_.get(), kSocketName, 0);  // else it goes with the bundle
}

Result<std::unique_ptr<ConsoleSocket>> ConsoleSocket::Listen(const std::string& directory) {
  UniqueFd folder = TRY(OpenFile(directory, O_PATH | O_DIRECTORY));
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener) return Error::Sys(errno, "socket");
  auto socket =
      std::unique_ptr<ConsoleSocket>(new ConsoleSocket(std::move(folder), std::move(listener)));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, socket->path_.c_str(), socket->path_.size() + 1);
  if (::bind(socket->listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(socket->listener_.get(), 1) != 0) {
    return Error::Sys(errno, "listen", directory);
  }
  return socket;
}

Result<UniqueFd> ConsoleSocket::Receive() {
  // A runtime that has ended has sent what it had to send: nothing here waits.
  UniqueFd connection(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!connection) return Error(Code::kUnavailable, "the runtime sent no terminal");
  char bytes[4096];
  iovec text{bytes, sizeof bytes};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &text;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (::recvmsg(connection.get(), &message, MSG_CMSG_CLOEXEC) < 0) {
    return Error::Sys(errno, "recvmsg", "terminal");
  }
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS ||
      header->cmsg_len != CMSG_LEN(sizeof(int))) {
    return Error(Code::kUnavailable, "the runtime sent no terminal");
  }
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return UniqueFd(fd);
}

void OciCommand::OnReady(const LaunchReady& ready, UniqueFd) {
  outcome_.user = ready.user;
  Result<> told = process_.Go(request_.console_socket);
  if (told.ok()) return;
  // Nobody else would tell it: its end answers.
  outcome_.error = std::move(told).error().With("OCI runtime, " + request_.name);
  (void)process_.Signal(SIGKILL);  // it may have ended meanwhile
}

void OciCommand::OnLaunchFailed(const LaunchFailure& failure) { outcome_.launch = failure; }

void OciCommand::OnEnded(ExitStatus status) {
  if (outcome_.ok() && !status.Success()) {
    std::string message =
        LastLogMessage(ReadFile(OciLogPath(request_.bundle), kLogLimitBytes).value_or(""));
    if (message.empty()) message = "exit status " + std::to_string(status.ShellCode());
    outcome_.error = Error(Code::kInternal, "OCI runtime, " + request_.name + ": " + message);
  }
  const auto done = done_;
  const Outcome outcome = outcome_;
  done(outcome);
}

Result<pid_t> ReadOciPid(const std::string& bundle) {
  std::string text = TRY(ReadFile(OciPidPath(bundle), 64));
  pid_t pid = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), pid);
  if (error != std::errc() || pid <= 1) {
    return Error(Code::kInternal, "OCI runtime: no pid in its pid file");
  }
  return pid;
}

}  // namespace skiff::runtime
