// A terminal for the process: taken from the container's own devpts.

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>

#include "runtime/init/launch.h"

namespace skiff::runtime {
namespace {

// A container may have put anything where devpts is expected.
Result<> CheckMultiplexer(int fd) {
  struct statfs filesystem;
  struct stat info;
  if (::fstatfs(fd, &filesystem) != 0 || ::fstat(fd, &info) != 0) {
    return Error::Sys(errno, "fstat", "ptmx");
  }
  if (filesystem.f_type != DEVPTS_SUPER_MAGIC || info.st_rdev != makedev(5, 2)) {
    return Error(Code::kFailedPrecondition, "/dev/pts/ptmx is no terminal multiplexer");
  }
  return {};
}

}  // namespace

Result<> TakeTerminal(Launch& launch, int devpts, uint16_t rows, uint16_t columns) {
  launch.terminal = UniqueFd(::openat(devpts, "ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NOFOLLOW));
  if (!launch.terminal) return Error::Sys(errno, "open", "ptmx");
  int master = launch.terminal.get();
  TRY(CheckMultiplexer(master));
  int unlocked = 0;
  if (::ioctl(master, TIOCSPTLCK, &unlocked) != 0) return Error::Sys(errno, "unlock", "ptmx");
  if (rows != 0 || columns != 0) {
    winsize size{.ws_row = rows, .ws_col = columns};
    if (::ioctl(master, TIOCSWINSZ, &size) != 0) return Error::Sys(errno, "resize", "terminal");
  }
  // By the master, not by a path that the container could have replaced (4.13).
  UniqueFd slave(::ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!slave) return Error::Sys(errno, "open", "terminal");
  if (::ioctl(slave.get(), TIOCSCTTY, 0) != 0) return Error::Sys(errno, "TIOCSCTTY");
  for (int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::dup2(slave.get(), stream) < 0) return Error::Sys(errno, "dup2", "terminal");
  }
  return {};
}

}  // namespace skiff::runtime
