// Steps of a sandbox: its namespaces, and a root directory so bare that a container that sees
// pause in /proc finds nothing in /proc/1/root.
//
// The mount namespace of pause is also the one that containers' own are copied from: it has two
// mounts, so the copy does not grow with the number of the host's.

#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/os/files.h"
#include "runtime/init/launch.h"
#include "runtime/linux/capabilities.h"
#include "runtime/linux/mounts.h"
#include "runtime/linux/userns.h"

namespace skiff::runtime {
namespace {

constexpr uid_t kPauseUser = 65535;

bool IsSysctlName(const std::string& name) {
  bool good = std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-' || c == '/';
  });
  return good && !name.empty() && name.find("..") == std::string::npos;
}

// A user namespace may mount /proc and /sys where it sees them already (the kernel wants nothing
// of them to be hidden from it). Containers' mount namespaces are copied from this one, so it has
// both, covered, because nobody is to find them in /proc/1/root.
Result<> MountWitnesses(const Launch& launch, const UniqueFd& root, uint64_t attributes) {
  for (const char* type : {"proc", "sysfs"}) {
    // sysfs is the network namespace's: on the node's network it is not ours to mount.
    if (!launch.network_namespace && type == std::string_view("sysfs")) continue;
    std::string path = std::string("kernel/") + type;
    if (::mkdirat(root.get(), path.c_str(), 0555) != 0) return Error::Sys(errno, "mkdir", path);
    UniqueFd mount = TRY(MakeFilesystem(type, {}, attributes));
    UniqueFd target = TRY(OpenInRoot(root.get(), path, O_PATH));
    TRY(AttachMount(mount.get(), target.get(), path));
  }
  UniqueFd cover =
      TRY(MakeFilesystem("tmpfs", {{"mode", "0"}, {"size", "4k"}}, attributes | MOUNT_ATTR_RDONLY));
  UniqueFd target = TRY(OpenInRoot(root.get(), "kernel", O_PATH));
  return AttachMount(cover.get(), target.get(), "kernel");
}

}  // namespace

Result<> CreateSandboxNamespaces(Launch& launch) {
  const SandboxSpec& sandbox = launch.spec.sandbox;
  TRY(PrepareForUserNamespace(launch));
  if (!launch.spec.netns_path.empty()) {
    launch.network_namespace = TRY(OpenFile(launch.spec.netns_path, O_RDONLY));
  }
  // First, so that it owns all others.
  if (launch.user_namespace && ::setns(launch.user_namespace.get(), CLONE_NEWUSER) != 0) {
    return Error::Sys(errno, "setns", "user namespace");
  }
  TRY(ForkIntoPidNamespace(launch));
  int flags = CLONE_NEWNS;
  if (launch.network_namespace) {
    if (::setns(launch.network_namespace.get(), CLONE_NEWNET) != 0) {
      return Error::Sys(errno, "setns", "network namespace");
    }
    flags |= CLONE_NEWUTS;
  }
  if (sandbox.ipc != NamespaceMode::kNode) flags |= CLONE_NEWIPC;
  if (::unshare(flags) != 0) return Error::Sys(errno, "unshare");
  launch.scratch = TRY(OpenFile(launch.spec.scratch_dir, O_PATH | O_DIRECTORY));
  return {};
}

Result<> SetHostname(Launch& launch) {
  const std::string& name = launch.spec.sandbox.hostname;
  if (!launch.network_namespace || name.empty()) return {};
  if (::sethostname(name.data(), name.size()) != 0) return Error::Sys(errno, "sethostname", name);
  return {};
}

Result<> SetSysctls(Launch& launch) {
  // Whose the pod's own are depends on the kernel: the node's root's, or (fs.mqueue since 5.19, IPC
  // since 6.9) the user namespace's. Delete the first when 6.9 is the minimum.
  std::vector<std::pair<std::string, std::string>> refused;
  for (const auto& [name, value] : launch.spec.sandbox.sysctls) {
    if (!IsSysctlName(name)) return Error(Code::kInvalidArgument, "invalid name \"" + name + "\"");
    std::string path = name;
    // sysctl(8): a name with slashes has its dots for itself ("net/ipv4/conf/eth0.1/forwarding").
    if (path.find('/') == std::string::npos) std::replace(path.begin(), path.end(), '.', '/');
    path.insert(0, "/proc/sys/");
    Result<> written = WriteControlFile(path, value);
    if (written.ok()) continue;
    int cause = written.error().sys_errno();
    if (!launch.in_user_namespace() || (cause != EACCES && cause != EPERM)) return written;
    refused.emplace_back(path, value);
  }
  if (refused.empty()) return {};
  TRY(BecomePodRoot(launch));
  for (const auto& [path, value] : refused) TRY(WriteControlFile(path, value));
  return {};
}

Result<> BuildSandboxRoot(Launch& launch) {
  TRY(BecomePodRoot(launch));
  // Nothing done here may reach the host's mount namespace.
  if (::mount(nullptr, "/", nullptr, MS_PRIVATE | MS_REC, nullptr) != 0) {
    return Error::Sys(errno, "mount private", "/");
  }
  constexpr uint64_t kBare = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
  UniqueFd root = TRY(MakeFilesystem("tmpfs", {{"mode", "0555"}, {"size", "64k"}}, kBare));
  for (const char* name : {"shm", "root", "kernel"}) {
    if (::mkdirat(root.get(), name, 0555) != 0) return Error::Sys(errno, "mkdir", name);
  }
  TRY(AttachMount(root.get(), launch.scratch.get(), launch.spec.scratch_dir));
  if (launch.in_user_namespace()) TRY(MountWitnesses(launch, root, kBare));
  if (launch.spec.sandbox.ipc != NamespaceMode::kNode) {
    std::string size = std::to_string(launch.spec.sandbox.shm_bytes);
    UniqueFd shm = TRY(MakeFilesystem("tmpfs", {{"mode", "1777"}, {"size", size}}, kBare));
    UniqueFd target = TRY(OpenInRoot(root.get(), "/shm", O_PATH));
    TRY(AttachMount(shm.get(), target.get(), "/shm"));
  }
  TRY(PivotInto(root.get()));
  return ChangeMount(root.get(), MOUNT_ATTR_RDONLY, 0, false);
}

Result<> BecomePause(Launch& launch) {
  uid_t user = kPauseUser;
  if (const IdMappings& mapped = launch.spec.user_namespace;
      !mapped.empty() && !(HostId(mapped.uids, user) && HostId(mapped.gids, user))) {
    user = 0;  // without capabilities, as any other
  }
  if (::setsid() < 0) return Error::Sys(errno, "setsid");
  TRY(LimitCapabilities(0));
  // By system calls: glibc's wrappers exist to tell other threads, of which there are none.
  if (::syscall(SYS_setgroups, 0, nullptr) != 0) return Error::Sys(errno, "setgroups");
  if (::syscall(SYS_setresgid, user, user, user) != 0 ||
      ::syscall(SYS_setresuid, user, user, user) != 0) {
    return Error::Sys(errno, "setresuid");
  }
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return Error::Sys(errno, "no_new_privs");
  ::syscall(SYS_close_range, kLaunchSpecFd, ~0U, CLOSE_RANGE_CLOEXEC);
  char name[] = "skiff-pause";
  char* argv[] = {name, nullptr};
  char* envp[] = {nullptr};
  ::execveat(kLaunchPauseFd, "", argv, envp, AT_EMPTY_PATH);
  return Error::Sys(errno, "execveat", name);
}

}  // namespace skiff::runtime
