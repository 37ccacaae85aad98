#include "base/os/unique_fd.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "base/failpoint.h"

namespace skiff {

void UniqueFd::Reset(int fd) {
  if (fd_ >= 0 && fd_ != fd) {
    int saved = errno;
    ::close(fd_);
    errno = saved;
  }
  fd_ = fd;
}

Result<> UniqueFd::Close() {
  int fd = Release();
  if (fd >= 0 && ::close(fd) != 0) return Error::Sys(errno, "close");
  return {};
}

Result<UniqueFd> UniqueFd::Duplicate() const {
  int fd = ::fcntl(fd_, F_DUPFD_CLOEXEC, 0);
  if (fd < 0) return Error::Sys(errno, "fcntl F_DUPFD_CLOEXEC");
  return UniqueFd(fd);
}

Result<Pipe> MakePipe(int flags) {
  TRY(failpoint::Reach("make pipe"));
  int fds[2];
  if (::pipe2(fds, flags | O_CLOEXEC) != 0) return Error::Sys(errno, "pipe2");
  return Pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

}  // namespace skiff
