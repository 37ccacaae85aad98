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
#include "runtime/linux/mounts.h"

namespace skiff::runtime {
namespace {

constexpr uid_t kPauseUser = 65535;

bool IsSysctlName(const std::string& name) {
  bool good = std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-' || c == '/';
  });
  return good && !name.empty() && name.find("..") == std::string::npos;
}

}  // namespace

Result<> CreateSandboxNamespaces(Launch& launch) {
  const SandboxSpec& sandbox = launch.spec.sandbox;
  int flags = CLONE_NEWNS;
  if (!launch.spec.netns_path.empty()) {
    UniqueFd netns = TRY(OpenFile(launch.spec.netns_path, O_RDONLY));
    if (::setns(netns.get(), CLONE_NEWNET) != 0) {
      return Error::Sys(errno, "setns", launch.spec.netns_path);
    }
    flags |= CLONE_NEWUTS;
  }
  if (sandbox.ipc != NamespaceMode::kNode) flags |= CLONE_NEWIPC;
  if (::unshare(flags) != 0) return Error::Sys(errno, "unshare");
  return {};
}

Result<> SetHostname(Launch& launch) {
  const std::string& name = launch.spec.sandbox.hostname;
  if (launch.spec.netns_path.empty() || name.empty()) return {};
  if (::sethostname(name.data(), name.size()) != 0) return Error::Sys(errno, "sethostname", name);
  return {};
}

Result<> SetSysctls(Launch& launch) {
  for (const auto& [name, value] : launch.spec.sandbox.sysctls) {
    if (!IsSysctlName(name)) return Error(Code::kInvalidArgument, "invalid name \"" + name + "\"");
    std::string path = name;
    // sysctl(8): a name with slashes has its dots for itself ("net/ipv4/conf/eth0.1/forwarding").
    if (path.find('/') == std::string::npos) std::replace(path.begin(), path.end(), '.', '/');
    TRY(WriteControlFile("/proc/sys/" + path, value));
  }
  return {};
}

Result<> BuildSandboxRoot(Launch& launch) {
  // Nothing done here may reach the host's mount namespace.
  if (::mount(nullptr, "/", nullptr, MS_PRIVATE | MS_REC, nullptr) != 0) {
    return Error::Sys(errno, "mount private", "/");
  }
  constexpr uint64_t kBare = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
  UniqueFd root = TRY(MakeFilesystem("tmpfs", {{"mode", "0555"}, {"size", "64k"}}, kBare));
  for (const char* name : {"shm", "root"}) {
    if (::mkdirat(root.get(), name, 0555) != 0) return Error::Sys(errno, "mkdir", name);
  }
  UniqueFd scratch = TRY(OpenFile(launch.spec.scratch_dir, O_PATH | O_DIRECTORY));
  TRY(AttachMount(root.get(), scratch.get(), launch.spec.scratch_dir));
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
  (void)launch;
  if (::setsid() < 0) return Error::Sys(errno, "setsid");
  for (int capability = 0; ::prctl(PR_CAPBSET_READ, capability) >= 0; ++capability) {
    if (::prctl(PR_CAPBSET_DROP, capability) != 0) return Error::Sys(errno, "drop capability");
  }
  // By system calls: glibc's wrappers exist to tell other threads, of which there are none.
  if (::syscall(SYS_setgroups, 0, nullptr) != 0) return Error::Sys(errno, "setgroups");
  if (::syscall(SYS_setresgid, kPauseUser, kPauseUser, kPauseUser) != 0 ||
      ::syscall(SYS_setresuid, kPauseUser, kPauseUser, kPauseUser) != 0) {
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
