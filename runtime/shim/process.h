// LaunchedProcess: one child of the shim on its way from skiff-init to its end.
//
//   kSettingUp --ready--> kWaiting --Go--> kStarting --exec--> kRunning
//        \________________\________________\__________________\___ended--> kEnded
//
// Pause, containers and execs are alike in this; they differ in what the owner does on each
// arrow. A container that an OCI runtime made is adopted in kWaiting. Owned by the Shim; all on its
// one thread.
#pragma once

#include <functional>
#include <optional>
#include <string_view>

#include "base/os/pidref.h"
#include "base/os/unique_fd.h"
#include "runtime/launch/launch_spec.h"
#include "runtime/shim/event_loop.h"
#include "runtime/shim/start_init.h"

namespace skiff::runtime {

class LaunchedProcess : public Watcher {
 public:
  enum class State { kSettingUp, kWaiting, kStarting, kRunning, kEnded };

  // Each is called at most once, and none after OnLaunchFailed but OnEnded.
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void OnReady(const LaunchReady& ready, UniqueFd terminal) = 0;
    virtual void OnRunning() = 0;
    // In set-up, or in the exec after Go: the process is about to end.
    virtual void OnLaunchFailed(const LaunchFailure& failure) = 0;
    virtual void OnEnded(ExitStatus status) = 0;
  };

  LaunchedProcess(EventLoop& loop, Owner& owner) : loop_(loop), owner_(owner) {}
  ~LaunchedProcess() override;

  // fds.socket is filled in here.
  Result<> Start(InitFds fds, const Birthplace& birthplace);
  // A process that somebody else made and that waits for its start: a child of the shim that is
  // not reaped yet. Who starts it says Go before, and Started behind.
  Result<> Adopt(pid_t pid);
  void Started();
  // Lets the program run; only in kWaiting. word: for LaunchKind::kOci.
  Result<> Go(std::string_view word = {});
  // The SIGCHLD of a process that pid() was: status as waitpid(2) gave it.
  void HandleEnd(pid_t pid, int wait_status);
  // What init has said and we have not read.
  void ReadMessages();
  Result<> Signal(int signal_number) const;

  State state() const { return state_; }
  pid_t pid() const { return pid_; }
  int pidfd() const { return pidfd_.get(); }

 private:
  void OnEvents(uint32_t events) override;
  // Handles one message; false when there is none (yet, or any more).
  bool HandleMessage();
  void CloseSocket();

  EventLoop& loop_;
  Owner& owner_;
  State state_ = State::kSettingUp;
  pid_t pid_ = 0;
  UniqueFd pidfd_;
  UniqueFd socket_;
  bool failed_ = false;
};

}  // namespace skiff::runtime
