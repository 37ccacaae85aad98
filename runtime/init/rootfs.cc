// Steps of a container: its mount namespace and what is mounted in it.

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/os/files.h"
#include "runtime/init/launch.h"
#include "runtime/linux/mounts.h"
#include "runtime/linux/userns.h"

namespace skiff::runtime {
namespace {

uint64_t AttributesOf(const MountSpec& mount) {
  uint64_t attributes = 0;
  if (mount.no_exec) attributes |= MOUNT_ATTR_NOEXEC;
  if (mount.no_dev) attributes |= MOUNT_ATTR_NODEV;
  if (mount.no_suid) attributes |= MOUNT_ATTR_NOSUID;
  return attributes;
}

uint64_t PropagationFlag(MountPropagation propagation) {
  switch (propagation) {
    case MountPropagation::kPrivate: return MS_PRIVATE;
    case MountPropagation::kSlave: return MS_SLAVE;
    // A clone of a shared mount is in its peer group already; MS_SHARED makes the rest so.
    case MountPropagation::kShared: return MS_SHARED;
  }
  return MS_PRIVATE;
}

// The user namespace that has these mappings: the pod's, or one for this purpose.
Result<UniqueFd> NamespaceFor(const Launch& launch, const IdMappings& mappings) {
  if (mappings == launch.spec.user_namespace) return launch.user_namespace.Duplicate();
  return std::move(TRY(MakeUserNamespace(mappings, false)).user);
}

Result<UniqueFd> OpenBindSource(const Launch& launch, const MountSpec& mount) {
  UniqueFd source = TRY(OpenFile(mount.source, O_PATH));
  if (!mount.sub_path.empty()) source = TRY(OpenInRoot(source.get(), mount.sub_path, O_PATH));
  UniqueFd tree = TRY(CloneTree(source.get(), "", mount.recursive).With(mount.source));
  if (!mount.id_mappings.empty()) {
    UniqueFd mapping = TRY(NamespaceFor(launch, mount.id_mappings));
    TRY(MapMountIds(tree.get(), mapping.get(), mount.source));
  }
  TRY(ChangeMount(tree.get(), 0, PropagationFlag(mount.propagation), true).With(mount.source));
  uint64_t attributes = AttributesOf(mount);
  if (attributes != 0) {
    TRY(ChangeMount(tree.get(), attributes, 0, mount.recursive).With(mount.source));
  }
  if (mount.readonly) {
    TRY(ChangeMount(tree.get(), MOUNT_ATTR_RDONLY, 0, mount.recursive_readonly).With(mount.source));
  }
  return tree;
}

Result<UniqueFd> MakeTmpfs(const MountSpec& mount) {
  std::vector<MountOption> options;
  uint64_t attributes = AttributesOf(mount);
  std::string_view rest = mount.tmpfs_options;
  while (!rest.empty()) {
    std::string_view item = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), item.size() + 1));
    if (item.empty() || item == "rw") continue;
    if (item == "ro") {
      attributes |= MOUNT_ATTR_RDONLY;
    } else if (item == "noexec") {
      attributes |= MOUNT_ATTR_NOEXEC;
    } else if (item == "nosuid") {
      attributes |= MOUNT_ATTR_NOSUID;
    } else if (item == "nodev") {
      attributes |= MOUNT_ATTR_NODEV;
    } else {
      size_t equals = item.find('=');
      std::string value(equals == std::string_view::npos ? "" : item.substr(equals + 1));
      options.emplace_back(item.substr(0, equals), value);
    }
  }
  if (mount.readonly) attributes |= MOUNT_ATTR_RDONLY;
  return MakeFilesystem("tmpfs", options, attributes);
}

Result<bool> IsDirectory(int fd) {
  struct stat info;
  if (::fstat(fd, &info) != 0) return Error::Sys(errno, "fstat");
  return S_ISDIR(info.st_mode);
}

Result<> HidePath(int root, int null_device, UniqueFd& blank, const std::string& path) {
  Result<UniqueFd> target = OpenInRoot(root, path, O_PATH);
  if (!target.ok()) {
    int cause = target.error().sys_errno();
    if (cause == ENOENT || cause == ENOTDIR || cause == EACCES) return {};
    return std::move(target).error();
  }
  bool directory = TRY(IsDirectory(target->get()));
  if (!directory) {
    UniqueFd cover = TRY(CloneTree(null_device, "", false));
    return AttachMount(cover.get(), target->get(), path);
  }
  // One empty filesystem covers all directories.
  if (!blank) {
    blank = TRY(MakeFilesystem(
        "tmpfs", {{"size", "4k"}, {"nr_inodes", "2"}, {"mode", "0555"}},
        MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
    TRY(AttachMount(blank.get(), target->get(), path));
    return {};
  }
  UniqueFd cover = TRY(CloneTree(blank.get(), "", false));
  return AttachMount(cover.get(), target->get(), path);
}

Result<> MakePathReadonly(int root, const std::string& path) {
  Result<UniqueFd> target = OpenInRoot(root, path, O_PATH);
  if (!target.ok()) {
    int cause = target.error().sys_errno();
    if (cause == ENOENT || cause == ENOTDIR) return {};
    return std::move(target).error();
  }
  UniqueFd cover = TRY(CloneTree(target->get(), "", true).With(path));
  TRY(ChangeMount(cover.get(), MOUNT_ATTR_RDONLY, 0, true).With(path));
  return AttachMount(cover.get(), target->get(), path);
}

// From here on mounts may be attached anywhere, and nobody else sees them.
Result<> LeaveHostsMounts(Launch& launch) {
  if (launch.own_mounts) return {};
  if (::unshare(CLONE_NEWNS) != 0) return Error::Sys(errno, "unshare", "CLONE_NEWNS");
  if (::mount(nullptr, "/", nullptr, MS_PRIVATE | MS_REC, nullptr) != 0) {
    return Error::Sys(errno, "mount private", "/");
  }
  launch.own_mounts = true;
  return {};
}

Result<> AttachAtScratch(const Launch& launch, const UniqueFd& mount) {
  UniqueFd scratch = TRY(OpenFile(launch.spec.scratch_dir, O_PATH | O_DIRECTORY));
  return AttachMount(mount.get(), scratch.get(), launch.spec.scratch_dir);
}

// The layers with their owners as mapped, mounted below scratch_dir: overlayfs takes paths, and
// before 6.15 only of what is attached.
Result<std::vector<std::string>> MapLayers(Launch& launch, const std::vector<std::string>& layers,
                                           const IdMappings& mappings) {
  if (mappings.empty()) return layers;
  TRY(LeaveHostsMounts(launch));
  UniqueFd user_namespace = TRY(NamespaceFor(launch, mappings));
  // Under their own paths the layers are out of reach where scratch_dir is above them.
  std::vector<UniqueFd> trees;
  for (const std::string& layer : layers) {
    trees.push_back(TRY(CloneTree(AT_FDCWD, layer, false)));
    TRY(MapMountIds(trees.back().get(), user_namespace.get(), layer));
  }
  UniqueFd folder = TRY(MakeFilesystem("tmpfs", {{"mode", "0700"}, {"size", "1m"}}, 0));
  TRY(AttachAtScratch(launch, folder));
  std::vector<std::string> mapped;
  for (const UniqueFd& tree : trees) {
    std::string name = std::to_string(mapped.size());
    if (::mkdirat(folder.get(), name.c_str(), 0700) != 0) return Error::Sys(errno, "mkdir", name);
    UniqueFd target = TRY(OpenInRoot(folder.get(), name, O_PATH));
    TRY(AttachMount(tree.get(), target.get(), name));
    mapped.push_back(launch.spec.scratch_dir + "/" + name);
  }
  return mapped;
}

// Several layers as one tree. One alone is bound: an overlay without a writable layer takes two.
Result<UniqueFd> OpenLayers(Launch& launch, const MountSpec& mount) {
  if (mount.layers.size() == 1) {
    MountSpec bind = mount;
    bind.type = MountSpec::Type::kBind;
    bind.source = mount.layers[0];
    bind.readonly = true;
    return OpenBindSource(launch, bind);
  }
  OverlayLayers layers{.lower = TRY(MapLayers(launch, mount.layers, mount.id_mappings))};
  UniqueFd tree =
      TRY(MakeOverlay(layers, launch.spec.scratch_dir, launch.spec.overlay_single_layers));
  if (!mount.sub_path.empty()) {
    // Before 6.15 a mount is copied only from where it is attached.
    TRY(LeaveHostsMounts(launch));
    TRY(AttachAtScratch(launch, tree));
    UniqueFd source = TRY(OpenInRoot(tree.get(), mount.sub_path, O_PATH));
    tree = TRY(CloneTree(source.get(), "", false));
  }
  TRY(ChangeMount(tree.get(), AttributesOf(mount) | MOUNT_ATTR_RDONLY, MS_PRIVATE, false));
  return tree;
}

}  // namespace

Result<> OpenMountSources(Launch& launch) {
  const std::vector<MountSpec>& mounts = launch.spec.container.mounts;
  for (const MountSpec& mount : mounts) {
    bool bind = mount.type == MountSpec::Type::kBind;
    launch.mount_sources.push_back(bind ? TRY(OpenBindSource(launch, mount)) : UniqueFd());
  }
  if (launch.spec.ipc == NamespaceMode::kNode) {
    launch.host_shm = TRY(CloneTree(AT_FDCWD, "/dev/shm", false));
    TRY(ChangeMount(launch.host_shm.get(), 0, MS_PRIVATE, false));
  }
  TRY(OpenDeviceSources(launch));
  // Last, for it may leave the host's mounts, and with them the peers of shared ones.
  for (size_t i = 0; i < mounts.size(); ++i) {
    if (mounts[i].type != MountSpec::Type::kLayers) continue;
    launch.mount_sources[i] = TRY(OpenLayers(launch, mounts[i]));
  }
  return {};
}

Result<> BuildRootfs(Launch& launch) {
  const RootfsSpec& rootfs = launch.spec.container.rootfs;
  if (rootfs.writable_dir.empty() && rootfs.lower_dirs.size() == 1) {
    launch.rootfs = TRY(CloneTree(AT_FDCWD, rootfs.lower_dirs[0], true));
    if (launch.in_user_namespace()) {
      TRY(MapMountIds(launch.rootfs.get(), launch.user_namespace.get(), rootfs.lower_dirs[0]));
    }
    return ChangeMount(launch.rootfs.get(), 0, MS_PRIVATE, true);
  }
  OverlayLayers layers{.lower = rootfs.lower_dirs};
  if (!rootfs.writable_dir.empty()) {
    layers.upper = rootfs.writable_dir + "/upper";
    layers.work = rootfs.writable_dir + "/work";
  }
  layers.lower = TRY(MapLayers(launch, layers.lower, launch.spec.user_namespace));
  launch.rootfs =
      TRY(MakeOverlay(layers, launch.spec.scratch_dir, launch.spec.overlay_single_layers));
  return {};
}

Result<> JoinSandboxNamespaces(Launch& launch) {
  TRY(PrepareForUserNamespace(launch));
  // Those that pause shares with the node are the node's: joining them changes nothing.
  int flags = CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS;
  if (launch.in_user_namespace()) flags |= CLONE_NEWUSER;
  if (::setns(kLaunchNamespaceFd, flags) != 0) return Error::Sys(errno, "setns", "sandbox");
  if (launch.spec.ipc != NamespaceMode::kNode) {
    launch.pod_shm = TRY(CloneTree(AT_FDCWD, "/shm", false));
  }
  TRY(ForkIntoPidNamespace(launch));
  return BecomePodRoot(launch);
}

Result<> CreateContainerNamespaces(Launch& launch) {
  // After the cgroup is joined: it becomes the root of the cgroup namespace.
  int flags = CLONE_NEWNS | (launch.spec.container.host_cgroup_namespace ? 0 : CLONE_NEWCGROUP);
  if (::unshare(flags) != 0) return Error::Sys(errno, "unshare");
  return {};
}

Result<> AttachRootfs(Launch& launch) {
  UniqueFd target = TRY(OpenFile("/root", O_PATH | O_DIRECTORY));  // sandbox.cc makes it
  return AttachMount(launch.rootfs.get(), target.get(), "rootfs");
}

Result<> OpenOwnMounts(Launch& launch) {
  const std::vector<MountSpec>& mounts = launch.spec.container.mounts;
  for (size_t i = 0; i < mounts.size(); ++i) {
    if (mounts[i].type != MountSpec::Type::kOwn) continue;
    UniqueFd own =
        TRY(MakeTargetInRoot(launch.rootfs.get(), mounts[i].target, TargetKind::kDirectory));
    launch.mount_sources[i] = TRY(CloneTree(own.get(), "", false).With(mounts[i].target));
    TRY(ChangeMount(launch.mount_sources[i].get(), AttributesOf(mounts[i]), 0, false));
  }
  return {};
}

Result<> MountSpecified(Launch& launch) {
  const std::vector<MountSpec>& mounts = launch.spec.container.mounts;
  TRY(OpenOwnMounts(launch));
  for (size_t i = 0; i < mounts.size(); ++i) {
    const MountSpec& mount = mounts[i];
    UniqueFd source = std::move(launch.mount_sources[i]);
    if (mount.type == MountSpec::Type::kTmpfs) source = TRY(MakeTmpfs(mount).With(mount.target));
    TargetKind kind = TRY(IsDirectory(source.get())) ? TargetKind::kDirectory : TargetKind::kFile;
    UniqueFd target = TRY(MakeTargetInRoot(launch.rootfs.get(), mount.target, kind));
    TRY(AttachMount(source.get(), target.get(), mount.target));
  }
  return {};
}

Result<> EnterRootfs(Launch& launch) {
  // Made here, while the rootfs is writable, as other runtimes do.
  const std::string& cwd = launch.spec.container.cwd;
  if (!cwd.empty()) {
    TRY(MakeTargetInRoot(launch.rootfs.get(), cwd, TargetKind::kDirectory));
  }
  return PivotInto(launch.rootfs.get());
}

Result<> HidePaths(Launch& launch) {
  const ContainerSpec& container = launch.spec.container;
  UniqueFd null_device;
  if (!container.masked_paths.empty()) {
    // Not a detached copy: before 6.15 a mount is copied only from where it is attached.
    null_device = TRY(OpenFile("/dev/null", O_PATH));
  }
  UniqueFd blank;
  for (const std::string& path : container.readonly_paths) {
    TRY(MakePathReadonly(launch.rootfs.get(), path));
  }
  for (const std::string& path : container.masked_paths) {
    TRY(HidePath(launch.rootfs.get(), null_device.get(), blank, path));
  }
  return {};
}

Result<> SealRootfs(Launch& launch) {
  if (!launch.spec.container.rootfs.readonly) return {};
  return ChangeMount(launch.rootfs.get(), MOUNT_ATTR_RDONLY, 0, false);
}

}  // namespace skiff::runtime
