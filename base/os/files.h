// Whole-file and directory operations with the guarantees that records on disk need.
//
// All calls block; none follows a relative path from anything but the working directory.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/os/unique_fd.h"
#include "base/result.h"

namespace skiff {

// open(2) with O_CLOEXEC added.
Result<UniqueFd> OpenFile(const std::string& path, int flags, mode_t mode = 0644);

// Reads the whole file. ResourceExhausted when it holds more than limit_bytes.
Result<std::string> ReadFile(const std::string& path, size_t limit_bytes = 64 << 20);
// Writes all of data to the descriptor, across short writes and EINTR.
Result<> WriteAll(int fd, std::string_view data);
// write(2) to an existing file such as a cgroup or proc control: one call, no truncation, no
// rename.
Result<> WriteControlFile(const std::string& path, std::string_view value);

enum class Durability {
  kNone,   // survives a crash of this process
  kPower,  // survives a power cut: the file and its directory are synced
};
struct FileOwner {
  uid_t user = 0;
  gid_t group = 0;
};
// Writes the file where it is, made or emptied before: for what nobody reads before something else
// says that it is whole.
Result<> WriteFileInPlace(const std::string& path, std::string_view data, mode_t mode = 0600,
                          std::optional<FileOwner> owner = std::nullopt);
// Replaces the file in one step (temporary file, rename): readers see the old or the new content,
// and never the new one with another owner than the one given, which is this process where none is.
Result<> WriteFileAtomic(const std::string& path, std::string_view data,
                         Durability durability = Durability::kPower, mode_t mode = 0600,
                         std::optional<FileOwner> owner = std::nullopt);

// mkdir -p; directories that exist are left as they are.
Result<> MakeDirectories(const std::string& path, mode_t mode = 0755);
// Removes a file; one that is not there is a success.
Result<> RemoveFile(const std::string& path);
// Removes a tree without ever crossing a mount point (FailedPrecondition where it meets one) or
// following a symlink. A tree that is not there is a success.
Result<> RemoveTree(const std::string& path);
// The names in a directory, sorted, without "." and "..".
Result<std::vector<std::string>> ListDirectory(const std::string& path);
// Those of them that are directories, symbolic links to some not among them.
Result<std::vector<std::string>> ListSubdirectories(const std::string& path);
// Whether something is there (symlinks are not followed).
bool PathExists(const std::string& path);
// fsync(2) of a directory, so that names made in it survive a power cut.
Result<> SyncDirectory(const std::string& path);

// A directory under $TMPDIR that is removed with its owner. For tests and scratch work.
class TempDir {
 public:
  static Result<TempDir> Make(std::string_view prefix = "skiff");
  TempDir(TempDir&& other) noexcept : path_(std::move(other.path_)) { other.path_.clear(); }
  TempDir& operator=(TempDir&&) = delete;
  ~TempDir();
  const std::string& path() const { return path_; }

 private:
  explicit TempDir(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

}  // namespace skiff
