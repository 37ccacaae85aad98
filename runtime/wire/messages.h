// The messages between a daemon and a pod's shim (channel.h).
//
// The daemon asks, the shim answers each request with one reply of the same request number: the
// reply named beside it, or kShimError. Events carry request number 0. A daemon that connects anew
// says kHello and gets one kContainerState for each container the shim knows, then kHelloReply.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/launch/launch_spec.h"

namespace skiff::runtime {

constexpr uint32_t kShimProtocol = 1;

// Descriptors of a shim. The seed (shim/seed.h) has the first and the last; what it is asked for
// comes with the other two.
constexpr int kShimControlFd = 3;  // connected to the daemon that starts it
constexpr int kShimListenFd = 4;   // where later daemons connect
constexpr int kShimPauseFd = 5;    // the program skiff-pause

enum ShimMessage : uint16_t {
  // Requests             body                    fds             reply
  kHello = 1,             // ShimHello                -               kContainerState*, kHelloReply
  kStartPause = 2,        // StartPause               spec            kStarted
  kCreateContainer = 3,   // CreateContainerRequest   spec            kStarted
  kStartContainer = 4,    // ContainerRef             [spec]          kDone
  kSignalContainer = 5,   // SignalContainerRequest   -               kDone
  kStartExec = 6,         // StartExec                spec[,0,1,2]    kStarted [terminal]
  kAttach = 7,            // AttachRequest            as it says      kDone
  kResizeTerminal = 8,    // ResizeTerminalRequest    -               kDone
  kReopenLog = 9,         // ContainerRef             -               kDone
  kForgetContainer = 10,  // ContainerRef             -               kDone; an exited container
  kShutdown = 11,         // ContainerRef ("")        -               kDone; kills all, then exits
  // Of the seed
  kMakeShim = 12,  // ContainerRef ("")        control, listener   kStarted with a pidfd

  // Replies
  kDone = 32,
  kShimError = 33,   // ShimFailure
  kStarted = 34,     // Started
  kHelloReply = 35,  // HelloReply

  // Events
  kContainerState = 48,   // ContainerReport
  kContainerExited = 49,  // ContainerReport
  kExecExited = 50,       // ExecExited
  kPauseExited = 51,      // PauseExited
};

struct ShimHello {
  uint32_t protocol = kShimProtocol;
};
template <class A>
void Describe(A& archive, ShimHello& m) {
  archive(m.protocol);
}

struct HelloReply {
  uint32_t protocol = kShimProtocol;
  int32_t shim_pid = 0;
  int32_t pause_pid = 0;  // 0: not running
};
template <class A>
void Describe(A& archive, HelloReply& m) {
  archive(m.protocol, m.shim_pid, m.pause_pid);
}

struct StartPause {
  bool new_pid_namespace = true;
  std::string kill_file;         // cgroup.kill of its cgroup; empty: by pid
  std::string exit_record_path;  // written when pause ends
  std::string cgroup;            // of v2, to be born in; empty: none
};
template <class A>
void Describe(A& archive, StartPause& m) {
  archive(m.new_pid_namespace, m.kill_file, m.exit_record_path, m.cgroup);
}

struct CreateContainerRequest {
  std::string id;
  NamespaceMode pid = NamespaceMode::kContainer;
  std::string target_id;
  bool terminal = false;
  bool stdin_open = false;
  bool stdin_once = false;
  LogSpec log;
  std::string kill_file;         // cgroup.kill; empty: no such file on this machine
  std::string procs_file;        // cgroup.procs, to kill by where there is no kill_file
  std::string oom_counter_file;  // memory.events or memory.oom_control; empty: none
  std::string exit_record_path;
  std::string cgroup;  // as in StartPause
  // The bundle (oci/config.h) where an OCI runtime makes it; empty: skiff-init does. Its specs are
  // of LaunchKind::kOci, one with kCreateContainer and one with kStartContainer.
  std::string bundle;
  // The pod has a user namespace: skiff-init makes the pid namespace in it (launch_spec.h).
  bool user_namespace = false;
};
template <class A>
void Describe(A& archive, CreateContainerRequest& m) {
  archive(m.id, m.pid, m.target_id, m.terminal, m.stdin_open, m.stdin_once, m.log, m.kill_file,
          m.procs_file, m.oom_counter_file, m.exit_record_path, m.cgroup, m.bundle,
          m.user_namespace);
}

struct ContainerRef {
  std::string id;
};
template <class A>
void Describe(A& archive, ContainerRef& m) {
  archive(m.id);
}

struct SignalContainerRequest {
  std::string id;
  int32_t signal = 0;
};
template <class A>
void Describe(A& archive, SignalContainerRequest& m) {
  archive(m.id, m.signal);
}

struct StartExec {
  std::string container_id;
  uint32_t exec = 0;  // chosen by the daemon; names the process in kExecExited
  bool terminal = false;
  std::string cgroup;  // as in StartPause
};
template <class A>
void Describe(A& archive, StartExec& m) {
  archive(m.container_id, m.exec, m.terminal, m.cgroup);
}

// The descriptors come in the order in, out, err, each only if its flag is set.
struct AttachRequest {
  std::string id;
  bool has_in = false;
  bool has_out = false;
  bool has_err = false;
};
template <class A>
void Describe(A& archive, AttachRequest& m) {
  archive(m.id, m.has_in, m.has_out, m.has_err);
}

struct ResizeTerminalRequest {
  std::string id;
  uint16_t rows = 0;
  uint16_t columns = 0;
};
template <class A>
void Describe(A& archive, ResizeTerminalRequest& m) {
  archive(m.id, m.rows, m.columns);
}

struct Started {
  int32_t pid = 0;
  ResolvedUser user;
};
template <class A>
void Describe(A& archive, Started& m) {
  archive(m.pid, m.user);
}

// A request that failed: in a launch step, or else for a reason of its own.
struct ShimFailure {
  std::optional<LaunchFailure> launch;
  uint16_t code = 0;  // of Code
  int32_t sys_errno = 0;
  std::string message;
};
template <class A>
void Describe(A& archive, ShimFailure& m) {
  archive(m.launch, m.code, m.sys_errno, m.message);
}

// How a process ended: on the wire and in exit records.
struct ExitReport {
  int32_t code = 0;
  int32_t signal = 0;
  WallTime finished;
  bool oom_killed = false;
  std::string start_error;

  ContainerExit ToExit() const {
    return {.status = {.code = code, .signal = signal},
            .finished = finished,
            .oom_killed = oom_killed,
            .start_error = start_error};
  }
};
template <class A>
void Describe(A& archive, ExitReport& m) {
  archive(m.code, m.signal, m.finished, m.oom_killed, m.start_error);
}

constexpr ContainerState LastOf(ContainerState) { return ContainerState::kExited; }
struct ContainerReport {
  std::string id;
  ContainerState state = ContainerState::kCreated;
  int32_t pid = 0;
  ResolvedUser user;
  std::optional<WallTime> started;
  std::optional<ExitReport> exit;
};
template <class A>
void Describe(A& archive, ContainerReport& m) {
  archive(m.id, m.state, m.pid, m.user, m.started, m.exit);
}

struct ExecExited {
  uint32_t exec = 0;
  ExitReport exit;
};
template <class A>
void Describe(A& archive, ExecExited& m) {
  archive(m.exec, m.exit);
}

struct PauseExited {
  ExitReport exit;
};
template <class A>
void Describe(A& archive, PauseExited& m) {
  archive(m.exit);
}

}  // namespace skiff::runtime
