// Steps of a container: /proc, /sys, /dev and what is in them; its terminal.

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <iterator>

#include "base/os/files.h"
#include "runtime/init/launch.h"
#include "runtime/linux/mounts.h"
#include "runtime/linux/userns.h"

namespace skiff::runtime {
namespace {

constexpr uint64_t kInert = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
constexpr gid_t kTtyGroup = 5;

// Attaches to a directory of the rootfs that the image must not turn into a symlink.
Result<> AttachAt(Launch& launch, const UniqueFd& mount, const std::string& path) {
  Result<UniqueFd> target = OpenStraightInRoot(launch.rootfs.get(), path);
  if (!target.ok() && target.error().sys_errno() == ENOENT) {
    TRY(MakeTargetInRoot(launch.rootfs.get(), path, TargetKind::kDirectory));
    target = OpenStraightInRoot(launch.rootfs.get(), path);
  }
  if (!target.ok() && target.error().sys_errno() == ELOOP) {
    return Error(Code::kInvalidArgument, path + " of the image is a symlink");
  }
  if (!target.ok()) return std::move(target).error();
  return AttachMount(mount.get(), target->get(), path);
}

Result<> MountCgroups(Launch& launch) {
  const std::vector<std::string>& hierarchies = launch.spec.cgroup_hierarchies;
  if (hierarchies.empty()) return {};
  uint64_t attributes = kInert | (launch.spec.container.privileged ? 0 : MOUNT_ATTR_RDONLY);
  if (hierarchies.size() == 1 && hierarchies[0].empty()) {
    UniqueFd unified = TRY(MakeFilesystem("cgroup2", {}, attributes));
    return AttachAt(launch, unified, "/sys/fs/cgroup");
  }
  UniqueFd base = TRY(MakeFilesystem("tmpfs", {{"mode", "0755"}, {"size", "64k"}}, kInert));
  TRY(AttachAt(launch, base, "/sys/fs/cgroup"));
  for (const std::string& hierarchy : hierarchies) {
    std::string name = hierarchy.empty() ? "unified" : hierarchy;
    if (::mkdirat(base.get(), name.c_str(), 0755) != 0) return Error::Sys(errno, "mkdir", name);
    std::vector<MountOption> options;
    for (size_t at = 0; at < hierarchy.size();) {
      size_t comma = std::min(hierarchy.find(',', at), hierarchy.size());
      options.emplace_back(hierarchy.substr(at, comma - at), "");
      at = comma + 1;
    }
    UniqueFd mount =
        TRY(MakeFilesystem(hierarchy.empty() ? "cgroup2" : "cgroup", options, attributes));
    TRY(AttachAt(launch, mount, "/sys/fs/cgroup/" + name));
  }
  return ChangeMount(base.get(), MOUNT_ATTR_RDONLY, 0, false);
}

Result<> MakeNode(int directory, const std::string& name, mode_t mode, dev_t device, uid_t uid,
                  gid_t gid) {
  if (::mknodat(directory, name.c_str(), mode, device) != 0) {
    if (errno == EEXIST) return {};
    return Error::Sys(errno, "mknod", name);
  }
  // mknod(2) is subject to the umask.
  if (::fchmodat(directory, name.c_str(), mode & 07777, 0) != 0 ||
      ::fchownat(directory, name.c_str(), uid, gid, AT_SYMLINK_NOFOLLOW) != 0) {
    return Error::Sys(errno, "chown", name);
  }
  return {};
}

// A user namespace can make no devices: the host's is mounted on an empty file.
Result<> MountDevice(int directory, const std::string& name, const UniqueFd& device) {
  UniqueFd made(::openat(directory, name.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666));
  if (!made && errno == EEXIST) return {};
  if (!made) return Error::Sys(errno, "create", name);
  UniqueFd target(::openat(directory, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!target) return Error::Sys(errno, "open", name);
  return AttachMount(device.get(), target.get(), name);
}

// A device of the host under another or the same name; DeviceSpec::host_path was resolved to its
// numbers by the daemon, while the host's /dev was in sight (launch/launch_spec.h).
Result<> MakeSpecifiedDevice(Launch& launch, size_t index) {
  const DeviceNode& device = launch.spec.devices[index];
  size_t slash = device.path.find_last_of('/');
  std::string parent = slash == 0 ? "/" : device.path.substr(0, slash);
  UniqueFd directory = TRY(MakeTargetInRoot(launch.rootfs.get(), parent, TargetKind::kDirectory));
  std::string name = device.path.substr(slash + 1);
  if (launch.in_user_namespace()) {
    return MountDevice(directory.get(), name, launch.specified_devices[index]);
  }
  return MakeNode(directory.get(), name, device.mode, makedev(device.major, device.minor),
                  device.uid, device.gid);
}

}  // namespace

Result<> OpenDeviceSources(Launch& launch) {
  if (!launch.in_user_namespace()) return {};
  for (const StandardDevice& device : kStandardDevices) {
    std::string path = std::string("/dev/") + device.name;
    launch.standard_devices.push_back(TRY(CloneTree(AT_FDCWD, path, false)));
  }
  for (const DeviceNode& device : launch.spec.devices) {
    launch.specified_devices.push_back(TRY(CloneTree(AT_FDCWD, device.host_path, false)));
  }
  if (!launch.spec.host_network) return {};
  const uint64_t writable = launch.spec.container.privileged ? 0 : MOUNT_ATTR_RDONLY;
  launch.host_sys = TRY(MakeFilesystem("sysfs", {}, kInert | writable));
  return {};
}

Result<> MountKernelFilesystems(Launch& launch) {
  const bool privileged = launch.spec.container.privileged;
  UniqueFd proc = TRY(MakeFilesystem("proc", {}, kInert));
  TRY(AttachAt(launch, proc, "/proc"));
  if (!launch.host_sys) {
    launch.host_sys =
        TRY(MakeFilesystem("sysfs", {}, kInert | (privileged ? 0 : MOUNT_ATTR_RDONLY)));
  }
  TRY(AttachAt(launch, launch.host_sys, "/sys"));
  TRY(MountCgroups(launch));

  launch.devices = TRY(MakeFilesystem("tmpfs", {{"mode", "0755"}, {"size", "64m"}},
                                      MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME));
  for (const char* name : {"pts", "shm", "mqueue"}) {
    if (::mkdirat(launch.devices.get(), name, 0755) != 0) return Error::Sys(errno, "mkdir", name);
  }
  TRY(AttachAt(launch, launch.devices, "/dev"));
  std::vector<MountOption> terminals{{"newinstance", ""}, {"ptmxmode", "0666"}, {"mode", "0620"}};
  const IdMappings& mapped = launch.spec.user_namespace;
  if (mapped.empty() || HostId(mapped.gids, kTtyGroup)) {
    terminals.emplace_back("gid", std::to_string(kTtyGroup));
  }
  launch.terminals =
      TRY(MakeFilesystem("devpts", terminals, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC));
  TRY(AttachAt(launch, launch.terminals, "/dev/pts"));
  TRY(AttachAt(launch, launch.pod_shm ? launch.pod_shm : launch.host_shm, "/dev/shm"));
  UniqueFd queues = TRY(MakeFilesystem("mqueue", {}, kInert));
  return AttachAt(launch, queues, "/dev/mqueue");
}

Result<> MakeDevices(Launch& launch) {
  int directory = launch.devices.get();
  for (size_t i = 0; i < std::size(kStandardDevices); ++i) {
    const StandardDevice& node = kStandardDevices[i];
    TRY(launch.in_user_namespace() ? MountDevice(directory, node.name, launch.standard_devices[i])
                                   : MakeNode(directory, node.name, S_IFCHR | 0666,
                                              makedev(node.major, node.minor), 0, 0));
  }
  constexpr const char* kLinks[][2] = {{"/proc/self/fd", "fd"},       {"/proc/self/fd/0", "stdin"},
                                       {"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"},
                                       {"/proc/kcore", "core"},       {"pts/ptmx", "ptmx"}};
  for (auto [target, name] : kLinks) {
    if (::symlinkat(target, directory, name) != 0) return Error::Sys(errno, "symlink", name);
  }
  for (size_t i = 0; i < launch.spec.devices.size(); ++i) TRY(MakeSpecifiedDevice(launch, i));
  return {};
}

Result<> OpenContainerTerminal(Launch& launch) {
  if (::setsid() < 0) return Error::Sys(errno, "setsid");
  if (!launch.spec.container.terminal) return {};
  TRY(TakeTerminal(launch, launch.terminals.get(), 0, 0));
  // /dev/console is the terminal by another name.
  UniqueFd console(::openat(launch.devices.get(), "console",
                            O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0620));
  if (!console) return Error::Sys(errno, "create", "/dev/console");
  UniqueFd slave = TRY(CloneTree(STDIN_FILENO, "", false).With("terminal"));
  UniqueFd target(::openat(launch.devices.get(), "console", O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!target) return Error::Sys(errno, "open", "/dev/console");
  return AttachMount(slave.get(), target.get(), "/dev/console");
}

}  // namespace skiff::runtime
