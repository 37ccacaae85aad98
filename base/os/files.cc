#include "base/os/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>

#include "base/failpoint.h"

namespace skiff {
namespace {

struct DirCloser {
  void operator()(DIR* dir) const { ::closedir(dir); }
};
using DirPtr = std::unique_ptr<DIR, DirCloser>;

std::string ParentOf(const std::string& path) {
  size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

bool IsDotOrDotDot(const char* name) {
  return std::strcmp(name, ".") == 0 || std::strcmp(name, "..") == 0;
}

// Takes the directory's descriptor; path is for messages only.
Result<DirPtr> OpenDirectoryStream(UniqueFd fd, const std::string& path) {
  DIR* dir = ::fdopendir(fd.get());
  if (dir == nullptr) return Error::Sys(errno, "fdopendir", path);
  (void)fd.Release();
  return DirPtr(dir);
}

// Takes a tree away from below. What lies deeper than descriptors and the stack should follow is
// moved up to the top first, so that it does not matter how deep somebody made a tree.
class TreeRemover {
 public:
  // device: of the directory that the tree is in. Anything else is a mount point, which stays.
  explicit TreeRemover(dev_t device) : device_(device) {}

  // path: for messages, and from where the caller stands.
  Result<> RemoveTop(const std::string& path) {
    do {
      moved_up_ = false;
      TRY(RemoveEntry(AT_FDCWD, path.c_str(), true, path));
    } while (moved_up_);
    return {};
  }

 private:
  static constexpr int kMaxDepth = 100;

  // may_be_directory: tried as such first.
  Result<> RemoveEntry(int parent, const char* name, bool may_be_directory,
                       const std::string& path) {
    if (may_be_directory) {
      if (::unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT) return {};
      if (errno == ENOTEMPTY || errno == EEXIST) return RemoveDirectory(parent, name, path);
      if (errno == EBUSY) return MountPoint(path);
      if (errno != ENOTDIR) return Error::Sys(errno, "rmdir", path);
    }
    if (::unlinkat(parent, name, 0) == 0 || errno == ENOENT) return {};
    return Error::Sys(errno, "unlink", path);
  }

  Result<> RemoveDirectory(int parent, const char* name, const std::string& path) {
    if (depth_ == kMaxDepth) return MoveUp(parent, name, path);
    UniqueFd fd(::openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd) return Error::Sys(errno, "open", path);
    struct stat info;
    if (::fstat(fd.get(), &info) != 0) return Error::Sys(errno, "stat", path);
    if (info.st_dev != device_) return MountPoint(path);
    if (depth_ == 0) top_ = fd.get();
    ++depth_;
    Result<> emptied = RemoveChildren(fd.get(), path);
    --depth_;
    TRY(std::move(emptied));
    // What was moved up lies in the top now.
    if (depth_ == 0 && moved_up_) return {};
    if (::unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT) return {};
    return Error::Sys(errno, "rmdir", path);
  }

  Result<> RemoveChildren(int fd, const std::string& path) {
    alignas(dirent64) char buffer[2048];
    for (;;) {
      const ssize_t size = ::getdents64(fd, buffer, sizeof buffer);
      if (size < 0) return Error::Sys(errno, "read directory", path);
      if (size == 0) return {};
      for (ssize_t at = 0; at < size;) {
        const auto* entry = reinterpret_cast<const dirent64*>(buffer + at);
        at += entry->d_reclen;
        if (IsDotOrDotDot(entry->d_name)) continue;
        const bool may_be_directory = entry->d_type == DT_DIR || entry->d_type == DT_UNKNOWN;
        TRY(RemoveEntry(fd, entry->d_name, may_be_directory, path + "/" + entry->d_name));
      }
    }
  }

  static Error MountPoint(const std::string& path) {
    return Error(Code::kFailedPrecondition, "remove " + path + ": it is a mount point");
  }

  Result<> MoveUp(int parent, const char* name, const std::string& path) {
    for (;;) {
      const std::string there = "deep-" + std::to_string(next_name_++);
      if (::renameat2(parent, name, top_, there.c_str(), RENAME_NOREPLACE) == 0) break;
      if (errno != EEXIST) return Error::Sys(errno, "rename", path);
    }
    moved_up_ = true;
    return {};
  }

  const dev_t device_;
  int depth_ = 0;  // of the directories that are open
  int top_ = -1;
  bool moved_up_ = false;
  uint64_t next_name_ = 0;
};

}  // namespace

Result<UniqueFd> OpenFile(const std::string& path, int flags, mode_t mode) {
  if ((flags & O_CREAT) != 0) TRY(failpoint::Reach("create file", path));
  int fd;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return Error::Sys(errno, "open", path);
  return UniqueFd(fd);
}

Result<std::string> ReadFile(const std::string& path, size_t limit_bytes) {
  UniqueFd fd = TRY(OpenFile(path, O_RDONLY));
  std::string data;
  char buffer[16384];
  for (;;) {
    ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::Sys(errno, "read", path);
    if (got == 0) return data;
    if (data.size() + static_cast<size_t>(got) > limit_bytes) {
      return Error(Code::kResourceExhausted,
                   "read " + path + ": more than " + std::to_string(limit_bytes) + " bytes");
    }
    data.append(buffer, static_cast<size_t>(got));
  }
}

Result<> WriteAll(int fd, std::string_view data) {
  while (!data.empty()) {
    ssize_t put = ::write(fd, data.data(), data.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return Error::Sys(errno, "write");
    data.remove_prefix(static_cast<size_t>(put));
  }
  return {};
}

Result<> WriteControlFile(const std::string& path, std::string_view value) {
  TRY(failpoint::Reach("write control file", path));
  UniqueFd fd = TRY(OpenFile(path, O_WRONLY));
  ssize_t put;
  do {
    put = ::write(fd.get(), value.data(), value.size());
  } while (put < 0 && errno == EINTR);
  if (put < 0) return Error::Sys(errno, "write", path + " \"" + std::string(value) + "\"");
  return {};
}

namespace {

// Opens, gives the owner, and writes: what the two ways to write a file have in common.
Result<UniqueFd> OpenAndWrite(const std::string& path, int flags, std::string_view data,
                              mode_t mode, std::optional<FileOwner> owner) {
  UniqueFd fd = TRY(OpenFile(path, O_WRONLY | O_CREAT | flags, mode));
  if (owner && ::fchown(fd.get(), owner->user, owner->group) != 0) {
    return Error::Sys(errno, "chown", path);
  }
  TRY(WriteAll(fd.get(), data).With(path));
  return fd;
}

}  // namespace

Result<> WriteFileInPlace(const std::string& path, std::string_view data, mode_t mode,
                          std::optional<FileOwner> owner) {
  UniqueFd fd = TRY(OpenAndWrite(path, O_TRUNC, data, mode, owner));
  return fd.Close();
}

Result<> WriteFileAtomic(const std::string& path, std::string_view data, Durability durability,
                         mode_t mode, std::optional<FileOwner> owner) {
  static std::atomic<uint64_t> sequence{0};
  std::string temporary =
      path + ".tmp" + std::to_string(::getpid()) + "." + std::to_string(sequence++);
  auto write = [&]() -> Result<> {
    UniqueFd fd = TRY(OpenAndWrite(temporary, O_EXCL, data, mode, owner));
    if (durability == Durability::kPower && ::fsync(fd.get()) != 0) {
      return Error::Sys(errno, "fsync", temporary);
    }
    TRY(fd.Close());
    TRY(failpoint::Reach("replace file", path));
    if (::rename(temporary.c_str(), path.c_str()) != 0) return Error::Sys(errno, "rename", path);
    return {};
  };
  Result<> written = write();
  if (!written.ok()) {
    ::unlink(temporary.c_str());
    return written;
  }
  if (durability == Durability::kPower) return SyncDirectory(ParentOf(path));
  return {};
}

Result<> SyncDirectory(const std::string& path) {
  UniqueFd fd = TRY(OpenFile(path, O_RDONLY | O_DIRECTORY));
  if (::fsync(fd.get()) != 0) return Error::Sys(errno, "fsync", path);
  return {};
}

Result<> MakeDirectories(const std::string& path, mode_t mode) {
  TRY(failpoint::Reach("make directory", path));
  if (::mkdir(path.c_str(), mode) == 0) return {};
  if (errno == EEXIST) {
    struct stat info;
    if (::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) return {};
    return Error::Sys(ENOTDIR, "mkdir", path);
  }
  if (errno != ENOENT) return Error::Sys(errno, "mkdir", path);
  TRY(MakeDirectories(ParentOf(path), mode));
  if (::mkdir(path.c_str(), mode) != 0 && errno != EEXIST) return Error::Sys(errno, "mkdir", path);
  return {};
}

Result<> RemoveFile(const std::string& path) {
  TRY(failpoint::Reach("remove file", path));
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return Error::Sys(errno, "unlink", path);
  return {};
}

Result<> RemoveTree(const std::string& path) {
  TRY(failpoint::Reach("remove tree", path));
  const std::string parent = ParentOf(path);
  struct stat info;
  if (::stat(parent.c_str(), &info) != 0) {
    if (errno == ENOENT) return {};
    return Error::Sys(errno, "stat", parent);
  }
  return TreeRemover(info.st_dev).RemoveTop(path);
}

namespace {

template <class Wanted>
Result<std::vector<std::string>> ListEntries(const std::string& path, Wanted wanted) {
  UniqueFd fd = TRY(OpenFile(path, O_RDONLY | O_DIRECTORY));
  DirPtr dir = TRY(OpenDirectoryStream(std::move(fd), path));
  std::vector<std::string> names;
  while (dirent* entry = ::readdir(dir.get())) {
    if (!IsDotOrDotDot(entry->d_name) && wanted(*entry)) names.emplace_back(entry->d_name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

Result<std::vector<std::string>> ListDirectory(const std::string& path) {
  return ListEntries(path, [](const dirent&) { return true; });
}

Result<std::vector<std::string>> ListSubdirectories(const std::string& path) {
  return ListEntries(path, [&](const dirent& entry) {
    if (entry.d_type != DT_UNKNOWN) return entry.d_type == DT_DIR;
    struct stat info;
    return ::lstat((path + "/" + entry.d_name).c_str(), &info) == 0 && S_ISDIR(info.st_mode);
  });
}

bool PathExists(const std::string& path) {
  struct stat info;
  return ::lstat(path.c_str(), &info) == 0;
}

Result<TempDir> TempDir::Make(std::string_view prefix) {
  const char* base = std::getenv("TMPDIR");
  std::string path =
      std::string(base != nullptr ? base : "/tmp") + "/" + std::string(prefix) + ".XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) return Error::Sys(errno, "mkdtemp", path);
  return TempDir(std::move(path));
}

TempDir::~TempDir() {
  if (!path_.empty()) (void)RemoveTree(path_);  // best effort: scratch space
}

}  // namespace skiff
