// PidRef: a process that is certainly the one meant.
//
// A bare pid may be reused by another process; a pidfd (pidfd_open(2)) names one process for ever,
// and on disk the pid is kept with the process's start time (proc_pid_stat(5), field 22).
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "base/os/unique_fd.h"
#include "base/result.h"

namespace skiff {

// What a record keeps of a process.
struct ProcessIdentity {
  pid_t pid = 0;
  uint64_t start_ticks = 0;  // since boot; with the boot id it names the process
  bool operator==(const ProcessIdentity&) const = default;
};

// How a process ended (wait(2)).
struct ExitStatus {
  int code = 0;    // exit code, when signal is 0
  int signal = 0;  // the signal that ended it, or 0
  // As a shell shows it: the code, or 128 + signal.
  int ShellCode() const { return signal != 0 ? 128 + signal : code; }
  bool Success() const { return code == 0 && signal == 0; }
};

class PidRef {
 public:
  // The live process with this pid. NotFound when there is none.
  static Result<PidRef> Open(pid_t pid);
  // That process, of which the caller holds a pidfd.
  static PidRef Adopt(pid_t pid, UniqueFd pidfd) { return PidRef(pid, std::move(pidfd)); }
  // The process of a record. NotFound when it is gone, also when the pid is now another's.
  static Result<PidRef> OpenIdentity(const ProcessIdentity& identity);

  pid_t pid() const { return pid_; }
  int pidfd() const { return pidfd_.get(); }  // readable (poll) once the process has ended

  // NotFound when the process has ended.
  Result<> Signal(int signal_number) const;
  bool IsAlive() const;
  Result<ProcessIdentity> Identity() const;
  // Waits until the process has ended; true if it did within the timeout (none: for ever).
  Result<bool> WaitEnd(std::optional<std::chrono::milliseconds> timeout) const;
  // Reaps the process, a child of the caller; blocks until it ends.
  Result<ExitStatus> Reap() const;

 private:
  PidRef(pid_t pid, UniqueFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  pid_t pid_;
  UniqueFd pidfd_;
};

// Field 22 of /proc/PID/stat. NotFound when there is no such process.
Result<uint64_t> ReadStartTicks(pid_t pid);

}  // namespace skiff
