// skiff-shim: the supervisor of one pod (shim.h). Started by the daemon with the descriptors of
// wire/messages.h; takes no arguments.

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/os/files.h"
#include "runtime/shim/shim.h"

namespace {

using skiff::Result;

Result<> Run() {
  ::prctl(PR_SET_NAME, "skiff-shim");
  ::prctl(PR_SET_DUMPABLE, 0);
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return skiff::Error::Sys(errno, "subreaper");
  ::signal(SIGPIPE, SIG_IGN);
  // The last to go when memory is short. Not every machine allows it.
  (void)skiff::WriteControlFile("/proc/self/oom_score_adj", "-998");
  for (int fd : {skiff::runtime::kShimControlFd, skiff::runtime::kShimListenFd,
                 skiff::runtime::kShimPauseFd}) {
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) return skiff::Error::Sys(errno, "descriptor");
  }
  skiff::runtime::EventLoop loop = TRY(skiff::runtime::EventLoop::Open());
  auto shim = TRY(skiff::runtime::Shim::Open(loop));
  loop.Run();
  return {};
}

}  // namespace

int main() { return Run().ok() ? 0 : 1; }
