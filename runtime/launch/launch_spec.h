// What skiff-init is told to do, and how it answers.
//
// skiff-shim starts skiff-init with these descriptors and no others:
//   0, 1, 2  the process's streams
//   3        a sealed memfd with the LaunchSpec
//   4        the socket to the shim (channel.h)
//   5        a pidfd of the process whose namespaces are joined (pause, or the container's first
//            process for an exec); /dev/null for a sandbox
//   6        the program skiff-pause (sandbox only; /dev/null otherwise)
// skiff-init is born in its pid namespace, does the steps of launch/steps.h in order, says
// kReady, waits for kGo and becomes the program (an OCI runtime: in the pid namespace of the shim,
// with the container's streams, for it passes them on). Success shows as the end of the socket (it
// is close-on-exec), failure as kFailed.
//
// A pid namespace that belongs to a user namespace is made by a process in that user namespace, so
// such a process cannot be born in it and still see to the host's files: skiff-init forks a
// sibling there (kForked), which goes on in its place.
//
// The daemon itself starts skiff-init for kNamespaces, with the descriptors 3 and 4 alone: a
// threaded program cannot make a user namespace. There success is kReady and the exit code 0.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/launch/steps.h"
#include "runtime/oci/oci_launch.h"
#include "runtime/runtime.h"
#include "runtime/wire/spec_archive.h"

namespace skiff::runtime {

constexpr int kLaunchSpecFd = 3;
constexpr int kLaunchSocketFd = 4;
constexpr int kLaunchNamespaceFd = 5;
constexpr int kLaunchPauseFd = 6;

enum class LaunchKind : uint8_t {
  kSandbox = 0,
  kContainer = 1,
  kExec = 2,
  kOci = 3,         // a command of an OCI runtime, which init becomes; "create" makes a container
  kNamespaces = 4,  // pins a user namespace, and a network namespace in it
  kProbe = 5,       // finds out whether user namespaces and id-mapped mounts work here
};
constexpr LaunchKind LastOf(LaunchKind) { return LaunchKind::kProbe; }

// A device as it is to appear in the container; the daemon reads the numbers off the host's.
struct DeviceNode {
  std::string path;
  uint32_t mode = 0;  // with the type, as in stat(2)
  uint32_t major = 0;
  uint32_t minor = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::string access;  // of r, w, m
  std::string host_path;
};
template <class A>
void Describe(A& archive, DeviceNode& d) {
  archive(d.path, d.mode, d.major, d.minor, d.uid, d.gid, d.access, d.host_path);
}

struct LaunchSpec {
  LaunchKind kind = LaunchKind::kSandbox;
  std::vector<std::string> cgroup_task_files;  // of v1, to write oneself into
  bool overlay_single_layers = false;          // linux/mounts.h

  SandboxSpec sandbox;     // kSandbox
  std::string netns_path;  // kSandbox with a network of its own
  // Any directory of the host: in kSandbox, where the new root is attached before it becomes the
  // root (in a mount namespace of its own, so the host never sees it).
  std::string scratch_dir;

  ContainerSpec container;     // kContainer, kExec, and kOci that creates
  std::string seccomp_filter;  // struct sock_filter[]; empty: none
  // Hierarchies to mount below /sys/fs/cgroup, e.g. "memory" or "cpu,cpuacct"; "" is cgroup v2.
  // One "" alone is mounted at /sys/fs/cgroup itself.
  std::vector<std::string> cgroup_hierarchies;
  NamespaceMode ipc = NamespaceMode::kPod;  // of the sandbox: says whose /dev/shm
  std::vector<DeviceNode> devices;

  ExecSpec exec;  // kExec
  OciLaunch oci;  // kOci

  IdMappings user_namespace;       // of the pod; empty: the node's
  std::string userns_path;         // where it is pinned
  bool new_pid_namespace = false;  // make it, once in the user namespace
  bool host_network = false;       // of the sandbox
  std::string apparmor_profile;    // that the program runs under; empty: none
};

template <class A>
void Describe(A& archive, LaunchSpec& l) {
  archive(l.kind, l.cgroup_task_files, l.overlay_single_layers, l.sandbox, l.netns_path,
          l.scratch_dir, l.container, l.seccomp_filter, l.cgroup_hierarchies, l.ipc, l.devices,
          l.exec, l.oci, l.user_namespace, l.userns_path, l.new_pid_namespace, l.host_network,
          l.apparmor_profile);
}

template <class A>
void Describe(A& archive, ResolvedUser& u) {
  archive(u.uid, u.gid, u.groups);
}

// Messages between init and shim.
enum LaunchMessage : uint16_t {
  kLaunchReady = 1,   // init: LaunchReady; with the terminal's master side, if there is one
  kLaunchGo = 2,      // shim: become the program; the body may be the console's socket (kOci)
  kLaunchFailed = 3,  // init: LaunchFailure; init exits
  kLaunchForked = 4,  // init: LaunchForked, with a pidfd of the process that goes on in its place
};

struct LaunchForked {
  int32_t pid = 0;  // as init sees it, which is as the shim does
};
template <class A>
void Describe(A& archive, LaunchForked& f) {
  archive(f.pid);
}

struct LaunchReady {
  ResolvedUser user;
};
template <class A>
void Describe(A& archive, LaunchReady& r) {
  archive(r.user);
}

// Which step failed, why, and on what.
struct LaunchFailure {
  Step step = Step::kReadSpec;
  int sys_errno = 0;    // 0: not a system call's failure; subject then says it all
  std::string subject;  // a path, a user's name, ...
};
template <class A>
void Describe(A& archive, LaunchFailure& f) {
  archive(f.step, f.sys_errno, f.subject);
}

// The failure as an Error: "mount: /data: ENOENT (No such file or directory)".
inline Error LaunchError(const LaunchFailure& failure) {
  if (failure.sys_errno == 0) {
    return Error(Code::kInvalidArgument,
                 std::string(StepName(failure.step)) + ": " + failure.subject);
  }
  return Error::Sys(failure.sys_errno, StepName(failure.step), failure.subject);
}

}  // namespace skiff::runtime
