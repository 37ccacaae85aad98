// skiff-shim: the supervisor of one pod (shim.h), or the seed that those are copies of (seed.h).
// The daemon starts the seed; takes no arguments.

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/os/files.h"
#include "runtime/shim/seed.h"
#include "runtime/shim/shim.h"

namespace {

using skiff::Result;

Result<> Run() {
  ::prctl(PR_SET_DUMPABLE, 0);
  ::signal(SIGPIPE, SIG_IGN);
  // The last to go when memory is short. Not every machine allows it.
  (void)skiff::WriteControlFile("/proc/self/oom_score_adj", "-998");
  for (int fd : {skiff::runtime::kShimControlFd, skiff::runtime::kShimListenFd,
                 skiff::runtime::kShimPauseFd}) {
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) return skiff::Error::Sys(errno, "descriptor");
  }
  if (!TRY(skiff::runtime::GrowShims())) return {};
  ::prctl(PR_SET_NAME, "skiff-shim");
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return skiff::Error::Sys(errno, "subreaper");
  skiff::runtime::EventLoop loop = TRY(skiff::runtime::EventLoop::Open());
  auto shim = TRY(skiff::runtime::Shim::Open(loop));
  loop.Run();
  return {};
}

}  // namespace

int main() { return Run().ok() ? 0 : 1; }
