#include "runtime/linux/mounts.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "base/os/files.h"

namespace skiff::runtime {
namespace {

constexpr int kSymlinkLimit = 40;  // as the kernel's own

// What the kernel had to say about a filesystem parameter, e.g. "overlay: Unknown parameter 'x'".
std::string ContextLog(int context) {
  char text[512];
  ssize_t got = ::read(context, text, sizeof text);
  if (got <= 2) return {};
  return std::string(text + 2, static_cast<size_t>(got) - 2);
}

Result<> Configure(int context, const MountOption& option) {
  const auto& [key, value] = option;
  int done = value.empty()
                 ? ::fsconfig(context, FSCONFIG_SET_FLAG, key.c_str(), nullptr, 0)
                 : ::fsconfig(context, FSCONFIG_SET_STRING, key.c_str(), value.c_str(), 0);
  if (done == 0) return {};
  int cause = errno;
  return Error::Sys(cause, "fsconfig", key + "=" + value + " " + ContextLog(context));
}

Result<UniqueFd> CreateMount(int context, uint64_t attributes, const char* type) {
  if (::fsconfig(context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    int cause = errno;
    return Error::Sys(cause, "fsconfig create", std::string(type) + " " + ContextLog(context));
  }
  UniqueFd mount(::fsmount(context, FSMOUNT_CLOEXEC, static_cast<unsigned>(attributes)));
  if (!mount) return Error::Sys(errno, "fsmount", type);
  return mount;
}

// The layers survive no crash anyway (a container whose node died is made anew), so they need not
// be synced when the container ends: "volatile" (5.10) saves a sync of the whole disk.
constexpr const char* kOverlayFlags = "index=off,volatile";

Result<UniqueFd> MakeOverlayByContext(const OverlayLayers& layers) {
  UniqueFd context(::fsopen("overlay", FSOPEN_CLOEXEC));
  if (!context) return Error::Sys(errno, "fsopen", "overlay");
  TRY(Configure(context.get(), {"source", "overlay"}));
  for (const std::string& layer : layers.lower) {
    TRY(Configure(context.get(), {"lowerdir+", layer}));
  }
  if (!layers.upper.empty()) {
    TRY(Configure(context.get(), {"upperdir", layers.upper}));
    TRY(Configure(context.get(), {"workdir", layers.work}));
    TRY(Configure(context.get(), {"index", "off"}));
    TRY(Configure(context.get(), {"volatile", ""}));
  }
  return CreateMount(context.get(), 0, "overlay");
}

// mount(2) takes one page of options; a layer's descriptor has a short name whatever its path.
Result<UniqueFd> MakeOverlayByMount(const OverlayLayers& layers, const std::string& scratch_dir) {
  if (::unshare(CLONE_NEWNS) != 0) return Error::Sys(errno, "unshare", "CLONE_NEWNS");
  if (::mount(nullptr, "/", nullptr, MS_PRIVATE | MS_REC, nullptr) != 0) {
    return Error::Sys(errno, "mount private", "/");
  }
  std::vector<UniqueFd> held;  // opened in the namespace that mounts them, as the kernel asks
  auto short_name = [&](const std::string& path) -> Result<std::string> {
    held.push_back(TRY(OpenFile(path, O_PATH | O_DIRECTORY)));
    return "/proc/self/fd/" + std::to_string(held.back().get());
  };
  std::string options = "lowerdir=";
  for (size_t i = 0; i < layers.lower.size(); ++i) {
    if (i > 0) options += ':';
    options += TRY(short_name(layers.lower[i]));
  }
  if (!layers.upper.empty()) {
    options += ",upperdir=" + TRY(short_name(layers.upper));
    options += ",workdir=" + TRY(short_name(layers.work)) + "," + kOverlayFlags;
  }
  if (::mount("overlay", scratch_dir.c_str(), "overlay", 0, options.c_str()) != 0) {
    return Error::Sys(errno, "mount overlay", options);
  }
  return CloneTree(AT_FDCWD, scratch_dir, false);
}

int OpenAt2(int root, const char* path, uint64_t flags, uint64_t mode,
            uint64_t resolve = RESOLVE_NO_MAGICLINKS) {
  open_how how{};
  how.flags = flags | O_CLOEXEC;
  how.mode = mode;
  how.resolve = RESOLVE_IN_ROOT | resolve;
  // EAGAIN: a rename or mount raced with the walk (openat2(2)).
  for (int attempt = 0;; ++attempt) {
    int fd = static_cast<int>(::syscall(SYS_openat2, root, path, &how, sizeof how));
    if (fd >= 0 || (errno != EAGAIN && errno != EINTR) || attempt >= 64) return fd;
  }
}

// Where a symlink at parent/name leads, seen from the root; empty when it is no symlink.
Result<std::string> SymlinkTarget(int parent, const std::string& parent_path,
                                  const std::string& name) {
  char target[4096];
  ssize_t length = ::readlinkat(parent, name.c_str(), target, sizeof target);
  if (length < 0 && (errno == EINVAL || errno == ENOENT)) return std::string();
  if (length < 0) return Error::Sys(errno, "readlink", parent_path + "/" + name);
  if (length == 0 || static_cast<size_t>(length) == sizeof target) {
    return Error::Sys(ENAMETOOLONG, "readlink", parent_path + "/" + name);
  }
  std::string text(target, static_cast<size_t>(length));
  return text[0] == '/' ? text : parent_path + "/" + text;
}

Result<UniqueFd> MakeTarget(int root, const std::string& path, TargetKind kind, int depth) {
  UniqueFd found(OpenAt2(root, path.c_str(), O_PATH, 0));
  if (found) return found;
  if (errno != ENOENT) return Error::Sys(errno, "openat2", path);
  if (depth > kSymlinkLimit) return Error::Sys(ELOOP, "openat2", path);

  std::string trimmed = path;
  while (trimmed.size() > 1 && trimmed.back() == '/') trimmed.pop_back();
  size_t slash = trimmed.find_last_of('/');
  std::string parent_path = slash == std::string::npos ? "" : trimmed.substr(0, slash);
  std::string name = slash == std::string::npos ? trimmed : trimmed.substr(slash + 1);
  if (name.empty() || name == "." || name == "..") return Error::Sys(EINVAL, "make", path);

  UniqueFd parent = TRY(
      MakeTarget(root, parent_path.empty() ? "/" : parent_path, TargetKind::kDirectory, depth + 1));
  // Descriptors of O_PATH take no creation calls through symlinks of the last component: a
  // dangling one is followed by hand, still inside the root.
  std::string target = TRY(SymlinkTarget(parent.get(), parent_path, name));
  if (!target.empty()) return MakeTarget(root, target, kind, depth + 1);
  if (kind == TargetKind::kDirectory) {
    if (::mkdirat(parent.get(), name.c_str(), 0755) != 0 && errno != EEXIST) {
      return Error::Sys(errno, "mkdir", path);
    }
  } else {
    UniqueFd made(
        ::openat(parent.get(), name.c_str(), O_CREAT | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0644));
    if (!made) return Error::Sys(errno, "create", path);
  }
  UniqueFd made(::openat(parent.get(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!made) return Error::Sys(errno, "open", path);
  return made;
}

}  // namespace

Result<UniqueFd> MakeFilesystem(const char* type, const std::vector<MountOption>& options,
                                uint64_t attributes) {
  UniqueFd context(::fsopen(type, FSOPEN_CLOEXEC));
  if (!context) return Error::Sys(errno, "fsopen", type);
  TRY(Configure(context.get(), {"source", type}));
  for (const MountOption& option : options) TRY(Configure(context.get(), option).With(type));
  return CreateMount(context.get(), attributes, type);
}

bool OverlayTakesSingleLayers() {
  UniqueFd context(::fsopen("overlay", FSOPEN_CLOEXEC));
  if (!context) return false;
  // Before 6.5 options are only looked at when the filesystem is created: any is taken for now.
  if (Configure(context.get(), {"no_such_option", ""}).ok()) return false;
  return Configure(context.get(), {"lowerdir+", "/"}).ok();
}

Result<UniqueFd> MakeOverlay(const OverlayLayers& layers, const std::string& scratch_dir,
                             bool single_layers) {
  // Delete the other way when 6.8 is the minimum.
  return single_layers ? MakeOverlayByContext(layers) : MakeOverlayByMount(layers, scratch_dir);
}

Result<UniqueFd> CloneTree(int at, const std::string& path, bool recursive) {
  unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
  if (recursive) flags |= AT_RECURSIVE;
  if (path.empty()) flags |= AT_EMPTY_PATH;
  UniqueFd tree(::open_tree(at, path.c_str(), flags));
  if (!tree) return Error::Sys(errno, "open_tree", path);
  return tree;
}

Result<> ChangeMount(int mount, uint64_t attributes, uint64_t propagation, bool recursive) {
  mount_attr change{};
  change.attr_set = attributes;
  change.propagation = propagation;
  unsigned flags = AT_EMPTY_PATH | (recursive ? static_cast<unsigned>(AT_RECURSIVE) : 0U);
  if (::mount_setattr(mount, "", flags, &change, sizeof change) != 0) {
    return Error::Sys(errno, "mount_setattr");
  }
  return {};
}

Result<> AttachMount(int mount, int target, std::string_view subject) {
  if (::move_mount(mount, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0) {
    return Error::Sys(errno, "move_mount", subject);
  }
  return {};
}

Result<UniqueFd> OpenInRoot(int root, const std::string& path, uint64_t flags, uint64_t mode) {
  UniqueFd fd(OpenAt2(root, path.c_str(), flags, mode));
  if (!fd) return Error::Sys(errno, "openat2", path);
  return fd;
}

Result<UniqueFd> OpenStraightInRoot(int root, const std::string& path) {
  UniqueFd fd(OpenAt2(root, path.c_str(), O_PATH | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS));
  if (!fd) return Error::Sys(errno, "openat2", path);
  return fd;
}

Result<UniqueFd> MakeTargetInRoot(int root, const std::string& path, TargetKind kind) {
  return MakeTarget(root, path, kind, 0);
}

Result<> PivotInto(int mount) {
  if (::fchdir(mount) != 0) return Error::Sys(errno, "fchdir", "rootfs");
  // pivot_root(2), NOTES: with both the same, the old root is stacked over the new one and
  // detached from there.
  if (::syscall(SYS_pivot_root, ".", ".") != 0) return Error::Sys(errno, "pivot_root");
  if (::umount2(".", MNT_DETACH) != 0) return Error::Sys(errno, "umount", "old root");
  if (::chdir("/") != 0) return Error::Sys(errno, "chdir", "/");
  return {};
}

}  // namespace skiff::runtime
