#include "runtime/image/layer_writer.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <set>

#include "base/os/files.h"

namespace skiff::runtime {
namespace {

constexpr std::string_view kWhiteout = ".wh.";
constexpr std::string_view kAufsMarker = ".wh..wh.";  // opaque, and AUFS's own files
constexpr std::string_view kOpaque = ".wh..wh..opq";
constexpr uint64_t kDiskBlock = 4096;

Result<UniqueFd> OpenInRoot(int root, const std::string& path, uint64_t flags) {
  open_how how{};
  how.flags = flags | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
  const std::string name = path.empty() ? "." : path;
  const long fd = syscall(SYS_openat2, root, name.c_str(), &how, sizeof how);
  if (fd < 0) return Error::Sys(errno, "openat2", path);
  return UniqueFd(static_cast<int>(fd));
}

// An open descriptor as a path, for calls that have no *at form.
std::string FdPath(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

bool IsWhiteoutDevice(const struct stat& info) {
  return S_ISCHR(info.st_mode) && info.st_rdev == makedev(0, 0);
}

struct Place {
  std::string parent;  // cleaned
  std::string name;    // empty: the root
};

Place Split(const std::string& clean) {
  const size_t slash = clean.rfind('/');
  if (slash == std::string::npos) return {"", clean};
  return {clean.substr(0, slash), clean.substr(slash + 1)};
}

class LayerWriter {
 public:
  LayerWriter(UniqueFd root, const LayerWriterOptions& options)
      : root_(std::move(root)), options_(options) {}

  Result<LayerContents> Run(ByteSource& tar) {
    TarReader reader(tar);
    for (uint64_t count = 0;; ++count) {
      auto entry = TRY(reader.Next());
      if (!entry) break;
      if (count >= options_.max_entries) {
        return Error(Code::kResourceExhausted, "the layer has too many entries");
      }
      TRY(Apply(*entry, reader).With(entry->path));
    }
    TRY(FinishDirectories());
    contents_.implicit_directories.assign(implicit_.begin(), implicit_.end());
    return std::move(contents_);
  }

 private:
  struct DirectoryEnd {  // applied last: what is put in a directory changes its time
    uint32_t mode;
    timespec mtime;
  };

  Result<> Apply(const TarEntry& entry, TarReader& reader) {
    const std::string path = TRY(CleanLayerPath(entry.path));
    const Place place = Split(path);
    if (path.empty()) return entry.type == TarType::kDirectory ? ApplyRoot(entry) : Result<>();
    TRY(EnterParent(place.parent));
    if (place.name.starts_with(kAufsMarker)) {
      if (place.name == kOpaque) return MarkOpaque(parent_.get());
      return {};
    }
    if (place.name.starts_with(kWhiteout)) return Whiteout(place.name.substr(kWhiteout.size()));
    const bool opaque = TRY(MakeRoom(entry, path, place.name));
    TRY(Create(entry, path, place.name, reader));
    if (opaque) return MarkOpaqueNamed(place.name);
    return {};
  }

  Result<> ApplyRoot(const TarEntry& entry) {
    if (!options_.rootless && fchown(root_.get(), entry.uid, entry.gid) != 0) {
      return Error::Sys(errno, "fchown");
    }
    TRY(SetXattrs(root_.get(), entry));
    directory_ends_[""] = {entry.mode, entry.mtime};
    return {};
  }

  // Opens the directory, making what is missing of it, and keeps it for the entries that follow.
  Result<> EnterParent(const std::string& path) {
    if (parent_.valid() && path == parent_path_) return {};
    parent_.Reset();
    auto opened = OpenInRoot(root_.get(), path, O_RDONLY | O_DIRECTORY);
    if (!opened.ok()) {
      if (opened.error().sys_errno() != ENOENT) return std::move(opened).error();
      TRY(MakeImplicit(path));
      opened = OpenInRoot(root_.get(), path, O_RDONLY | O_DIRECTORY);
      if (!opened.ok()) return std::move(opened).error();
    }
    parent_ = *std::move(opened);
    parent_path_ = path;
    return {};
  }

  Result<> MakeImplicit(const std::string& path) {
    for (size_t end = 0; end != std::string::npos;) {
      end = path.find('/', end + 1);
      const std::string prefix = path.substr(0, end);
      const Place place = Split(prefix);
      const UniqueFd above = TRY(OpenInRoot(root_.get(), place.parent, O_PATH | O_DIRECTORY));
      if (mkdirat(above.get(), place.name.c_str(), 0755) == 0) {
        implicit_.insert(prefix);
        ++contents_.inodes;
      } else if (errno != EEXIST) {
        return Error::Sys(errno, "mkdir", prefix);
      }
    }
    return {};
  }

  // Removes what an earlier entry left at the name, unless a directory meets a directory. True
  // when the new directory must hide the one below: a whiteout was there.
  Result<bool> MakeRoom(const TarEntry& entry, const std::string& path, const std::string& name) {
    struct stat info {};
    if (fstatat(parent_.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) return false;
      return Error::Sys(errno, "fstatat");
    }
    const bool is_directory = entry.type == TarType::kDirectory;
    if (S_ISDIR(info.st_mode)) {
      if (is_directory) return false;
      TRY(RemoveTree(FdPath(parent_.get()) + "/" + name));
      Forget(path);
      return false;
    }
    if (unlinkat(parent_.get(), name.c_str(), 0) != 0) return Error::Sys(errno, "unlinkat");
    return is_directory && IsWhiteoutDevice(info);
  }

  // What is known of a directory tree that is gone.
  void Forget(const std::string& path) {
    const auto inside = [&](const std::string& other) {
      return other == path || other.starts_with(path + "/");
    };
    std::erase_if(implicit_, inside);
    std::erase_if(directory_ends_, [&](const auto& end) { return inside(end.first); });
  }

  Result<> Create(const TarEntry& entry, const std::string& path, const std::string& name,
                  TarReader& reader) {
    switch (entry.type) {
      case TarType::kFile: return CreateFile(entry, name, reader);
      case TarType::kDirectory: return CreateDirectory(entry, path, name);
      case TarType::kHardlink: return CreateHardlink(entry, name);
      case TarType::kSymlink:
        if (symlinkat(entry.link_target.c_str(), parent_.get(), name.c_str()) != 0) {
          return Error::Sys(errno, "symlinkat");
        }
        ++contents_.inodes;
        return FinishUnopened(entry, name, /*has_mode=*/false);
      case TarType::kCharDevice: return CreateNode(entry, name, S_IFCHR);
      case TarType::kBlockDevice: return CreateNode(entry, name, S_IFBLK);
      case TarType::kFifo: return CreateNode(entry, name, S_IFIFO);
    }
    return {};
  }

  Result<> CreateFile(const TarEntry& entry, const std::string& name, TarReader& reader) {
    const UniqueFd file(openat(parent_.get(), name.c_str(),
                               O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file.valid()) return Error::Sys(errno, "openat");
    while (true) {
      const std::string_view data = TRY(reader.ReadData());
      if (data.empty()) break;
      TRY(WriteAll(file.get(), data));
    }
    contents_.disk_bytes += (entry.size_bytes + kDiskBlock - 1) / kDiskBlock * kDiskBlock;
    ++contents_.inodes;
    // The order matters: chown clears setuid bits and file capabilities.
    if (!options_.rootless && fchown(file.get(), entry.uid, entry.gid) != 0) {
      return Error::Sys(errno, "fchown");
    }
    if (fchmod(file.get(), entry.mode) != 0) return Error::Sys(errno, "fchmod");
    TRY(SetXattrs(file.get(), entry));
    const std::array<timespec, 2> times{entry.mtime, entry.mtime};
    if (futimens(file.get(), times.data()) != 0) return Error::Sys(errno, "futimens");
    return {};
  }

  Result<> CreateDirectory(const TarEntry& entry, const std::string& path,
                           const std::string& name) {
    if (mkdirat(parent_.get(), name.c_str(), 0755) == 0) {
      ++contents_.inodes;
    } else if (errno != EEXIST) {
      return Error::Sys(errno, "mkdirat");
    }
    implicit_.erase(path);
    const UniqueFd directory(
        openat(parent_.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!directory.valid()) return Error::Sys(errno, "openat");
    if (!options_.rootless && fchown(directory.get(), entry.uid, entry.gid) != 0) {
      return Error::Sys(errno, "fchown");
    }
    TRY(SetXattrs(directory.get(), entry));
    directory_ends_[path] = {entry.mode, entry.mtime};
    return {};
  }

  Result<> CreateHardlink(const TarEntry& entry, const std::string& name) {
    const Place target = Split(TRY(CleanLayerPath(entry.link_target)));
    if (target.name.empty()) return Error(Code::kInvalidArgument, "a hard link to the root");
    const UniqueFd directory = TRY(
        OpenInRoot(root_.get(), target.parent, O_PATH | O_DIRECTORY).With("hard link's target"));
    if (linkat(directory.get(), target.name.c_str(), parent_.get(), name.c_str(), 0) != 0) {
      return Error::Sys(errno, "linkat", entry.link_target);
    }
    return {};
  }

  Result<> CreateNode(const TarEntry& entry, const std::string& name, mode_t type) {
    if (options_.rootless && type != S_IFIFO) return {};
    const dev_t device = type == S_IFIFO ? 0 : makedev(entry.device_major, entry.device_minor);
    if (mknodat(parent_.get(), name.c_str(), type | 0600, device) != 0) {
      return Error::Sys(errno, "mknodat");
    }
    ++contents_.inodes;
    return FinishUnopened(entry, name, /*has_mode=*/true);
  }

  // Owner, mode and time of what must not be opened: symlinks, devices, FIFOs.
  Result<> FinishUnopened(const TarEntry& entry, const std::string& name, bool has_mode) {
    if (!options_.rootless &&
        fchownat(parent_.get(), name.c_str(), entry.uid, entry.gid, AT_SYMLINK_NOFOLLOW) != 0) {
      return Error::Sys(errno, "fchownat");
    }
    if (has_mode && fchmodat(parent_.get(), name.c_str(), entry.mode, 0) != 0) {
      return Error::Sys(errno, "fchmodat");
    }
    const std::array<timespec, 2> times{entry.mtime, entry.mtime};
    if (utimensat(parent_.get(), name.c_str(), times.data(), AT_SYMLINK_NOFOLLOW) != 0) {
      return Error::Sys(errno, "utimensat");
    }
    return {};
  }

  Result<> SetXattrs(int fd, const TarEntry& entry) {
    for (const auto& [name, value] : entry.xattrs) {
      // overlayfs's own attributes would let a layer steer the stack; security labels belong to
      // the host it was built on.
      const bool wanted = name == "security.capability" ||
                          (name.starts_with("user.") && !name.starts_with("user.overlay.")) ||
                          name.starts_with("system.posix_acl_");
      if (!wanted || (options_.rootless && !name.starts_with("user."))) continue;
      if (fsetxattr(fd, name.c_str(), value.data(), value.size(), 0) != 0 && errno != ENOTSUP) {
        return Error::Sys(errno, "fsetxattr", name);
      }
    }
    return {};
  }

  Result<> MarkOpaque(int directory) {
    const char* name = options_.rootless ? "user.overlay.opaque" : "trusted.overlay.opaque";
    if (fsetxattr(directory, name, "y", 1, 0) != 0) return Error::Sys(errno, "fsetxattr", name);
    return {};
  }

  Result<> MarkOpaqueNamed(const std::string& name) {
    const UniqueFd directory(
        openat(parent_.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!directory.valid()) return Error::Sys(errno, "openat");
    return MarkOpaque(directory.get());
  }

  // A whiteout concerns the layers below only: what this layer itself has at the name stays.
  Result<> Whiteout(const std::string& name) {
    if (name.empty() || name == "." || name == "..") {
      return Error(Code::kInvalidArgument, "bad whiteout");
    }
    struct stat info {};
    if (fstatat(parent_.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) {
      return S_ISDIR(info.st_mode) ? MarkOpaqueNamed(name) : Result<>();
    }
    if (mknodat(parent_.get(), name.c_str(), S_IFCHR, makedev(0, 0)) != 0) {
      return Error::Sys(errno, "mknodat", "whiteout");
    }
    ++contents_.inodes;
    return {};
  }

  Result<> FinishDirectories() {
    for (auto it = directory_ends_.rbegin(); it != directory_ends_.rend(); ++it) {
      const auto& [path, end] = *it;
      auto directory = OpenInRoot(root_.get(), path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      // A later entry may have put something else in a parent's place.
      if (!directory.ok()) continue;
      if (fchmod(directory->get(), end.mode) != 0) return Error::Sys(errno, "fchmod", path);
      const std::array<timespec, 2> times{end.mtime, end.mtime};
      if (futimens(directory->get(), times.data()) != 0) {
        return Error::Sys(errno, "futimens", path);
      }
    }
    return {};
  }

  UniqueFd root_;
  const LayerWriterOptions options_;
  UniqueFd parent_;
  std::string parent_path_;
  std::set<std::string> implicit_;
  std::map<std::string, DirectoryEnd> directory_ends_;  // by path; children after parents
  LayerContents contents_;
};

}  // namespace

Result<std::string> CleanLayerPath(std::string_view path) {
  std::vector<std::string_view> parts;
  for (size_t at = 0; at <= path.size();) {
    const size_t slash = std::min(path.find('/', at), path.size());
    const std::string_view part = path.substr(at, slash - at);
    at = slash + 1;
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      if (parts.empty()) return Error(Code::kInvalidArgument, "path leads out of the layer");
      parts.pop_back();
    } else {
      parts.push_back(part);
    }
  }
  std::string clean;
  for (const std::string_view part : parts) {
    if (!clean.empty()) clean += '/';
    clean += part;
  }
  return clean;
}

Result<LayerContents> UnpackLayer(ByteSource& tar, const std::string& directory,
                                  const LayerWriterOptions& options) {
  UniqueFd root = TRY(OpenFile(directory, O_RDONLY | O_DIRECTORY));
  return LayerWriter(std::move(root), options).Run(tar);
}

}  // namespace skiff::runtime
