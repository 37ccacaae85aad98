#include "agent/volumes/subpath.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/os/files.h"

namespace skiff::agent {
namespace {

// openat2(2) has no wrapper in glibc 2.36. RESOLVE_BENEATH refuses absolute symlinks and ".." out
// of the directory, however they come about, with EXDEV.
int OpenBeneath(int directory, const std::string& path, int flags) {
  struct open_how how = {};
  how.flags = static_cast<uint64_t>(flags) | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  return static_cast<int>(::syscall(SYS_openat2, directory, path.c_str(), &how, sizeof how));
}

Error Failed(int sys_errno, const std::string& sub_path) {
  if (sys_errno == EXDEV) {
    return Error(Code::kPermissionDenied, "subPath \"" + sub_path + "\" leads out of the volume");
  }
  return Error::Sys(sys_errno, "open subPath", sub_path);
}

}  // namespace

Result<UniqueFd> OpenSubPath(const std::string& volume, const std::string& sub_path) {
  UniqueFd root = TRY(OpenFile(volume, O_PATH | O_DIRECTORY));
  UniqueFd whole(OpenBeneath(root.get(), sub_path, O_PATH));
  if (whole.valid()) return whole;
  if (errno != ENOENT) return Failed(errno, sub_path);
  // Step by step: each directory is opened beneath the root before the next is made in it.
  UniqueFd current = TRY(root.Duplicate());
  std::string walked;
  for (size_t start = 0; start < sub_path.size();) {
    size_t end = std::min(sub_path.find('/', start), sub_path.size());
    std::string part = sub_path.substr(start, end - start);
    start = end + 1;
    if (part.empty() || part == ".") continue;
    walked += (walked.empty() ? "" : "/") + part;
    UniqueFd next(OpenBeneath(root.get(), walked, O_PATH | O_DIRECTORY));
    if (!next.valid() && errno == ENOENT) {
      if (::mkdirat(current.get(), part.c_str(), 0755) != 0 && errno != EEXIST) {
        return Error::Sys(errno, "mkdir", walked);
      }
      next = UniqueFd(OpenBeneath(root.get(), walked, O_PATH | O_DIRECTORY));
    }
    if (!next.valid()) return Failed(errno, sub_path);
    current = std::move(next);
  }
  return current;
}

}  // namespace skiff::agent
