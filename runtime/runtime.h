// Runtime: runs pods' sandboxes and containers on this machine.
//
// Knows nothing of Kubernetes, images or networks. A sandbox is a network namespace pinned at a
// path, a supervisor process (skiff-shim) and a process that holds the namespaces (skiff-pause).
// Containers are children of the supervisor, so they live on when this process ends, and Open()
// of the next one finds them again: everything is recorded on disk (state/paths.h) before it is
// made, and a record of another boot is void.
//
// All calls block (milliseconds, save where said) and may come from any thread; calls about
// one sandbox or container are put in order by a lock of its own, except Kill, Exec, Attach and
// Stats, which never wait for another call. Every Create, Stop and Remove is idempotent.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/os/pidref.h"
#include "base/os/unique_fd.h"
#include "base/result.h"
#include "runtime/spec.h"
#include "runtime/usage.h"

namespace skiff::runtime {

// An OCI runtime's program (crun, runc) that sandboxes may name instead of the built-in way.
struct OciHandler {
  std::string name;               // what SandboxSpec::handler says
  std::string path;               // of the program, absolute
  std::string root;               // where it keeps its state; empty: below state_dir
  std::vector<std::string> args;  // further global arguments, in front of the command
};

// A handler that can be named, and what containers made by it can have.
struct HandlerStatus {
  std::string name;      // empty: the built-in way
  std::string version;   // the program's own word; empty for the built-in way
  std::string features;  // what the program says it can do, in words; empty: it does not tell
  bool recursive_read_only_mounts = false;
  bool user_namespaces = false;
};

struct RuntimeConfig {
  std::string state_dir = "/run/skiff/runtime";   // records and sockets; void after a reboot
  std::string netns_dir = "/run/skiff/netns";     // where network namespaces are pinned
  std::string binary_dir = "/usr/libexec/skiff";  // skiff-shim, skiff-init, skiff-pause
  std::string default_cgroup_parent = "/skiff";   // of sandboxes that name none
  std::vector<OciHandler> oci_handlers;
  bool force_fallbacks = false;  // for tests: use the ways for older kernels where there are two
};

// How a container's (or an exec's) process ended.
struct ContainerExit {
  ExitStatus status;
  WallTime finished;
  bool oom_killed = false;  // the kernel killed a process of it for want of memory
  // Set where the process never ran: why its start failed ("exec /bin/x: ENOENT ...").
  std::string start_error;
};

enum class SandboxState : uint8_t { kCreated = 0, kReady = 1, kStopped = 2 };
enum class ContainerState : uint8_t { kCreated = 0, kRunning = 1, kExited = 2 };

// The ids a container's process runs with, as resolved in its rootfs.
struct ResolvedUser {
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::vector<uint32_t> groups;
};

struct SandboxStatus {
  SandboxSpec spec;
  SandboxState state = SandboxState::kCreated;
  WallTime created;
  std::string netns_path;   // empty: the node's network
  std::string cgroup_path;  // of the pod: the parent of its containers' cgroups
  pid_t pause_pid = 0;      // 0: not running
};

struct ContainerStatus {
  ContainerSpec spec;
  ContainerState state = ContainerState::kCreated;
  WallTime created;
  std::optional<WallTime> started;
  std::optional<ContainerExit> exit;  // in kExited
  pid_t pid = 0;                      // in the node's pid namespace; 0: no process
  ResolvedUser user;
  std::string cgroup_path;
};

// Sent once for each container that ends. Runtime::Open sends it (before it returns) for each that
// has ended in an earlier daemon's time and is not removed yet: that one may have missed it.
struct ExitEvent {
  std::string sandbox_id;
  std::string container_id;  // empty: the sandbox itself ended (pause or supervisor died)
  ContainerExit exit;
};

// Descriptors for a process's standard streams; an invalid one is /dev/null (exec) or not wanted
// (attach).
struct Stdio {
  UniqueFd in;
  UniqueFd out;
  UniqueFd err;
};

// A process started by Exec. Destroying the handle leaves the process alone.
class ExecProcess {
 public:
  virtual ~ExecProcess() = default;
  // With a terminal: its master side. Valid once; reading gives EIO at the end.
  virtual UniqueFd TakeTerminal() = 0;
  // Calls back once, on the runtime's event thread (or at once, if the process has ended), where
  // nothing may block. The output pipes may still hold data, and descendants of the process may
  // keep them open for ever: drain with a bound.
  virtual void OnExit(std::function<void(const ContainerExit&)> callback) = 0;
  // Waits for the end; DeadlineExceeded when it has not come by then.
  virtual Result<ContainerExit> Wait(std::optional<std::chrono::milliseconds> timeout) = 0;
  virtual Result<> ResizeTerminal(uint16_t rows, uint16_t columns) = 0;
  // Kills the process and all that it started, nothing else of the container.
  virtual Result<> Kill() = 0;
};

struct ExecOutput {
  ExitStatus status;
  std::string out;
  std::string err;
  bool truncated = false;  // an output was longer than the limit; the rest is thrown away
};

struct ExecLimits {
  std::chrono::milliseconds timeout{0};  // 0: none
  size_t limit_bytes = 16 << 20;         // of each stream
  std::stop_token stop = {};
};

class Runtime {
 public:
  // Called on the runtime's event thread; must not block nor call the runtime.
  using ExitCallback = std::function<void(const ExitEvent&)>;

  // Opens the state directory, adopts what runs, voids what another boot left, and finishes what
  // a killed predecessor began. Afterwards Sandboxes() and Containers() tell what there is.
  // FailedPrecondition when another process has it open.
  static Result<std::unique_ptr<Runtime>> Open(RuntimeConfig config, ExitCallback on_exit);
  // Leaves everything running.
  virtual ~Runtime() = default;

  // The built-in way first, then those of the configuration that answered at the start.
  virtual std::vector<HandlerStatus> Handlers() const {
    return {{.recursive_read_only_mounts = true}};
  }

  // Records the sandbox and makes its network namespace (SandboxStatus::netns_path). The network
  // may be attached from here on, also while StartSandbox runs. Creating an id anew returns what
  // is there; AlreadyExists when its spec differs. NotFound for an unknown handler.
  virtual Result<SandboxStatus> CreateSandbox(const SandboxSpec& spec) = 0;
  // Starts supervisor and pause: IPC, UTS and pid namespaces, hostname, sysctls, /dev/shm.
  virtual Result<> StartSandbox(const std::string& id) = 0;
  // Kills all containers and pause; the supervisor ends. The network namespace stays pinned until
  // RemoveSandbox, so that the network can be detached in between. Unknown ids succeed.
  virtual Result<> StopSandbox(const std::string& id) = 0;
  // Stops it, removes its containers, the namespace, the cgroups and the records.
  virtual Result<> RemoveSandbox(const std::string& id) = 0;

  // Sets the container up as far as its first instruction. The sandbox must be ready.
  virtual Result<ContainerStatus> CreateContainer(const ContainerSpec& spec) = 0;
  // Lets it run. An exec that fails is this call's error, and the container has exited with
  // code 127 (not found), 126 (not executable) or 128.
  virtual Result<> StartContainer(const std::string& id) = 0;
  // Sends a signal to the container's first process. NotFound when it has ended.
  virtual Result<> SignalContainer(const std::string& id, int signal_number) = 0;
  // Sends the stop signal, waits as long as the timeout says, then kills all its processes.
  // Returns when it has exited. Unknown and exited ones succeed.
  virtual Result<> StopContainer(const std::string& id, std::chrono::milliseconds timeout) = 0;
  // Kills it where it runs; removes its cgroup, its layer and its record. Unknown ids succeed.
  virtual Result<> RemoveContainer(const std::string& id) = 0;

  // Starts a process in a running container. The descriptors are given to the process itself (with
  // a terminal they are not used).
  virtual Result<std::unique_ptr<ExecProcess>> Exec(const ExecSpec& spec, Stdio stdio) = 0;
  // Runs a command and collects its output. At the end of the time, or when it is to stop, all that
  // it started is killed: DeadlineExceeded, Cancelled. What outlives the command itself lives on,
  // and its output is waited for only a moment.
  virtual Result<ExecOutput> ExecSync(const ExecSpec& spec, const ExecLimits& limits) = 0;
  // Connects a client to the container's streams: the supervisor copies output to out and err and
  // reads in until its end. It closes the descriptors when the container ends; the client leaves
  // by closing its ends. With a terminal all output goes to out.
  virtual Result<> Attach(const std::string& id, Stdio stdio) = 0;
  virtual Result<> ResizeTerminal(const std::string& id, uint16_t rows, uint16_t columns) = 0;
  // Opens the log path anew (after a rename). FailedPrecondition when the container does not run.
  virtual Result<> ReopenLog(const std::string& id) = 0;
  virtual Result<> UpdateResources(const std::string& id, const ResourceSpec& resources) = 0;
  // Of all the container's processes, as far down as this process may set it.
  virtual Result<> SetOomScore(const std::string& id, int score) = 0;

  // A connection to 127.0.0.1 (or else ::1) and the port inside the sandbox's network namespace.
  virtual Result<UniqueFd> ConnectToPort(const std::string& sandbox_id, uint16_t port) = 0;

  virtual Result<SandboxStatus> Sandbox(const std::string& id) const = 0;
  virtual Result<ContainerStatus> Container(const std::string& id) const = 0;
  virtual std::vector<SandboxStatus> Sandboxes() const = 0;
  virtual std::vector<ContainerStatus> Containers() const = 0;
  // Read from the cgroup files on demand. NotFound for unknown ids.
  virtual Result<CgroupStats> ContainerStats(const std::string& id) const = 0;
  virtual Result<CgroupStats> SandboxStats(const std::string& id) const = 0;
  // All that can be told, which reads some twenty files and the /proc of the container's processes.
  virtual Result<CgroupMetrics> ContainerMetrics(const std::string& id) const = 0;
  virtual Result<CgroupMetrics> SandboxMetrics(const std::string& id) const = 0;

  // Whether cgroup v2 carries the controllers (else v1, perhaps hybrid).
  virtual bool cgroup_v2() const = 0;
  // Whether pods may have user namespaces of their own, with rootfs layers of the filesystem that
  // directory is on: tried out below directory, in some milliseconds. The error says what is
  // missing.
  virtual Result<> CheckUserNamespaces(const std::string& directory) const = 0;
  // In words, what this machine lacks and which part of a spec is therefore without effect.
  virtual std::vector<std::string> Degradations() const = 0;
};

}  // namespace skiff::runtime
