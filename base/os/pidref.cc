#include "base/os/pidref.h"

#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <csignal>

#include "base/os/files.h"

namespace skiff {

Result<uint64_t> ReadStartTicks(pid_t pid) {
  std::string path = "/proc/" + std::to_string(pid) + "/stat";
  std::string text = TRY(ReadFile(path));
  // The second field is the command in parentheses and may hold anything, also ")".
  size_t at = text.rfind(')');
  for (int field = 2; field < 22 && at != std::string::npos; ++field) at = text.find(' ', at + 1);
  uint64_t ticks = 0;
  if (at == std::string::npos ||
      std::from_chars(text.data() + at + 1, text.data() + text.size(), ticks).ec != std::errc()) {
    return Error(Code::kInternal, path + ": no start time");
  }
  return ticks;
}

Result<PidRef> PidRef::Open(pid_t pid) {
  int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  if (fd < 0) return Error::Sys(errno, "pidfd_open", std::to_string(pid));
  return PidRef(pid, UniqueFd(fd));
}

Result<PidRef> PidRef::OpenIdentity(const ProcessIdentity& identity) {
  PidRef process = TRY(Open(identity.pid));
  ProcessIdentity found = TRY(process.Identity());
  if (found.start_ticks != identity.start_ticks) {
    return Error(Code::kNotFound,
                 "process " + std::to_string(identity.pid) + " is another one by now");
  }
  return process;
}

Result<> PidRef::Signal(int signal_number) const {
  if (::syscall(SYS_pidfd_send_signal, pidfd_.get(), signal_number, nullptr, 0) != 0) {
    return Error::Sys(errno, "pidfd_send_signal", std::to_string(pid_));
  }
  return {};
}

bool PidRef::IsAlive() const {
  auto ended = WaitEnd(std::chrono::milliseconds(0));
  return ended.ok() && !*ended;
}

Result<ProcessIdentity> PidRef::Identity() const {
  uint64_t ticks = TRY(ReadStartTicks(pid_));
  if (!IsAlive()) return Error(Code::kNotFound, "process " + std::to_string(pid_) + " has ended");
  return ProcessIdentity{pid_, ticks};
}

Result<bool> PidRef::WaitEnd(std::optional<std::chrono::milliseconds> timeout) const {
  using std::chrono::steady_clock;
  auto deadline = steady_clock::now() + timeout.value_or(std::chrono::milliseconds(0));
  pollfd poll_fd{pidfd_.get(), POLLIN, 0};
  for (;;) {
    int wait_ms = -1;
    if (timeout) {
      auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - steady_clock::now());
      wait_ms = static_cast<int>(std::max<long long>(0, left.count()));
    }
    int ready = ::poll(&poll_fd, 1, wait_ms);
    if (ready > 0) return true;
    if (ready == 0) return false;
    if (errno != EINTR) return Error::Sys(errno, "poll", "pidfd of " + std::to_string(pid_));
  }
}

Result<ExitStatus> PidRef::Reap() const {
  siginfo_t info{};
  while (::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED) != 0) {
    if (errno != EINTR) return Error::Sys(errno, "waitid", std::to_string(pid_));
  }
  if (info.si_code == CLD_EXITED) return ExitStatus{info.si_status, 0};
  return ExitStatus{0, info.si_status};
}

}  // namespace skiff
