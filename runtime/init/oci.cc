// Steps of an OCI runtime's command: for "create" the bundle is prepared, then the process becomes
// the runtime.
//
// The bundle's mounts are made in a mount namespace of this process's own, which the container's is
// copied from: the host never sees them, so nothing is left to unmount whatever dies when. Rootfs
// and mount sources are those of the built-in way (rootfs.cc), so sub-paths, flags and propagation
// mean the same whichever runtime runs the container.

#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "base/os/files.h"
#include "runtime/init/launch.h"
#include "runtime/init/user.h"
#include "runtime/linux/mounts.h"
#include "runtime/oci/config.h"

namespace skiff::runtime {
namespace {

constexpr size_t kImageUserFileBytes = 4 << 20;

// A regular file of the rootfs; empty where there is none.
Result<std::string> ReadInRoot(int root, const std::string& path) {
  Result<UniqueFd> found = OpenInRoot(root, path, O_PATH);
  struct stat info;
  if (!found.ok() || ::fstat(found->get(), &info) != 0 || !S_ISREG(info.st_mode)) {
    return std::string();
  }
  return ReadFile("/proc/self/fd/" + std::to_string(found->get()), kImageUserFileBytes);
}

// Attaches to a place of the bundle, made here.
Result<> AttachIn(const UniqueFd& mount, const std::string& path) {
  struct stat info;
  if (::fstat(mount.get(), &info) != 0) return Error::Sys(errno, "fstat", path);
  if (S_ISDIR(info.st_mode)) {
    TRY(MakeDirectories(path, 0700));
  } else {
    TRY(OpenFile(path, O_WRONLY | O_CREAT | O_NOFOLLOW, 0600));
  }
  UniqueFd target = TRY(OpenFile(path, O_PATH | O_NOFOLLOW));
  return AttachMount(mount.get(), target.get(), path);
}

// Runtimes differ in what they make of a symlink on the way to a mount's target: so it is made here
// where it is missing. Below another mount it is the runtime's to make, and so is its word on what
// cannot be made.
void MakeMountPoint(const UniqueFd& rootfs, const std::string& target, const UniqueFd& source) {
  struct stat info {};
  const bool file = source && ::fstat(source.get(), &info) == 0 && !S_ISDIR(info.st_mode);
  (void)MakeTargetInRoot(rootfs.get(), target, file ? TargetKind::kFile : TargetKind::kDirectory);
}

// Tries to take the score: without CAP_SYS_RESOURCE it cannot go below what it was, and then stays
// there. What it is now.
Result<int> TakeOomScore(int wanted) {
  constexpr const char* kFile = "/proc/self/oom_score_adj";
  Result<> written = WriteControlFile(kFile, std::to_string(wanted));
  if (!written.ok() && written.error().sys_errno() != EACCES &&
      written.error().sys_errno() != EPERM) {
    return std::move(written).error();
  }
  return std::atoi(TRY(ReadFile(kFile)).c_str());
}

}  // namespace

Result<> OpenPodShm(Launch& launch) {
  if (launch.spec.ipc == NamespaceMode::kNode) return {};
  UniqueFd own = TRY(OpenFile("/proc/self/ns/mnt", O_RDONLY));
  if (::setns(kLaunchNamespaceFd, CLONE_NEWNS) != 0) return Error::Sys(errno, "setns", "sandbox");
  Result<UniqueFd> shm = CloneTree(AT_FDCWD, "/shm", false);
  if (::setns(own.get(), CLONE_NEWNS) != 0) return Error::Sys(errno, "setns", "back");
  launch.pod_shm = TRY(std::move(shm));
  return {};
}

Result<> PrepareBundle(Launch& launch) {
  const std::string& bundle = launch.spec.oci.bundle;
  if (::unshare(CLONE_NEWNS) != 0) return Error::Sys(errno, "unshare");
  // From here on the host sees nothing of what is mounted. The sources were copied before, so those
  // that share mounts with the host still do.
  if (::mount(nullptr, "/", nullptr, MS_SLAVE | MS_REC, nullptr) != 0) {
    return Error::Sys(errno, "mount slave", "/");
  }
  TRY(AttachIn(launch.rootfs, OciRootfsPath(bundle)));
  TRY(OpenOwnMounts(launch));
  TRY(MakeDirectories(bundle + "/mounts", 0700));
  TRY(AttachIn(launch.pod_shm ? launch.pod_shm : launch.host_shm, OciShmPath(bundle)));
  for (size_t i = 0; i < launch.mount_sources.size(); ++i) {
    const UniqueFd& source = launch.mount_sources[i];
    if (source) TRY(AttachIn(source, OciMountPath(bundle, i)));
    MakeMountPoint(launch.rootfs, launch.spec.container.mounts[i].target, source);
  }
  const std::string& cwd = launch.spec.container.cwd;
  if (!cwd.empty()) TRY(MakeTargetInRoot(launch.rootfs.get(), cwd, TargetKind::kDirectory));
  return {};
}

Result<> ResolveImageUser(Launch& launch) {
  std::string passwd = TRY(ReadInRoot(launch.rootfs.get(), "/etc/passwd"));
  std::string group = TRY(ReadInRoot(launch.rootfs.get(), "/etc/group"));
  FoundUser found = TRY(FindUser(launch.spec.container.user, passwd, group));
  launch.user = found.ids;
  launch.home = found.home;
  return {};
}

Result<> WriteOciConfig(Launch& launch) {
  const std::string& bundle = launch.spec.oci.bundle;
  OciFacts facts{.user = launch.user, .home = launch.home};
  facts.capabilities = TRY(OwnCapabilities());
  facts.oom_score_adj = TRY(TakeOomScore(launch.spec.container.oom_score_adj.value_or(0)));
  return WriteFileAtomic(OciConfigPath(bundle), OciConfig(launch.spec, facts), Durability::kNone,
                         0600);
}

Result<> BecomeOciRuntime(Launch& launch) {
  const OciLaunch& oci = launch.spec.oci;
  std::vector<std::string> words = oci.command;
  if (words.empty()) return Error(Code::kInvalidArgument, "no runtime");
  if (!launch.console_socket.empty()) {
    words.emplace_back("--console-socket");
    words.push_back(launch.console_socket);
  }
  words.push_back(oci.id);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  char* environment[] = {path, nullptr};
  if (::syscall(SYS_close_range, kLaunchSpecFd, ~0U, CLOSE_RANGE_CLOEXEC) != 0) {
    return Error::Sys(errno, "close_range");
  }
  ::execve(arguments[0], arguments.data(), environment);
  return Error::Sys(errno, "\"" + words[0] + "\"");
}

}  // namespace skiff::runtime
