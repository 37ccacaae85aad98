#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/volumes/volumes.h"

namespace skiff::agent {
namespace {

class KernelMounter : public Mounter {
 public:
  Result<> MountTmpfs(const std::string& path, uint64_t size_bytes) override {
    std::string options = "mode=0777";
    if (size_bytes > 0) options += ",size=" + std::to_string(size_bytes);
    constexpr unsigned long kFlags = MS_NOSUID | MS_NODEV;
    // noswap came with Linux 6.4; what is kept in memory should stay there where it can.
    std::string no_swap = options + ",noswap";
    if (::mount("tmpfs", path.c_str(), "tmpfs", kFlags, no_swap.c_str()) == 0) return {};
    if (errno == EINVAL && ::mount("tmpfs", path.c_str(), "tmpfs", kFlags, options.c_str()) == 0) {
      return {};
    }
    return Error::Sys(errno, "mount tmpfs", path);
  }

  Result<> BindFd(int fd, const std::string& path) override {
    std::string source = "/proc/self/fd/" + std::to_string(fd);
    if (::mount(source.c_str(), path.c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0) {
      return Error::Sys(errno, "bind mount", path);
    }
    return {};
  }

  Result<> Unmount(const std::string& path) override {
    while (IsMounted(path)) {
      if (::umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0) {
        return Error::Sys(errno, "umount", path);
      }
    }
    return {};
  }

  bool IsMounted(const std::string& path) override {
    struct statx status;
    if (::statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW, 0, &status) != 0) return false;
    return (status.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
  }
};

}  // namespace

Mounter& Mounter::Kernel() {
  static KernelMounter mounter;
  return mounter;
}

}  // namespace skiff::agent
