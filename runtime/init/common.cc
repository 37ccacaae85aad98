// Steps that sandbox, container and exec have in common.

#include <fcntl.h>
#include <sys/resource.h>

#include <cerrno>

#include "base/os/files.h"
#include "runtime/init/launch.h"

namespace skiff::runtime {
namespace {

// Without CAP_SYS_RESOURCE the score cannot go below what it was: then it stays there.
Result<> SetOomScore(int file, int score) {
  std::string text = std::to_string(score);
  if (::write(file, text.data(), text.size()) >= 0) return {};
  if (errno == EACCES || errno == EPERM) return {};
  return Error::Sys(errno, "write oom_score_adj", text);
}

}  // namespace

Result<> JoinCgroups(Launch& launch) {
  // "0" into tasks, not into cgroup.procs: for a thread that moves itself the kernel need not stop
  // all forks of the machine; and this one thread is the process.
  for (const std::string& path : launch.spec.cgroup_task_files) {
    TRY(WriteControlFile(path, "0"));
  }
  launch.oom_score_file = TRY(OpenFile("/proc/self/oom_score_adj", O_WRONLY));
  return {};
}

Result<> SetLimits(Launch& launch) {
  if (launch.limits_set) return {};
  launch.limits_set = true;
  const LaunchSpec& spec = launch.spec;
  int score = spec.kind == LaunchKind::kSandbox ? spec.sandbox.oom_score_adj
                                                : spec.container.oom_score_adj.value_or(0);
  TRY(SetOomScore(launch.oom_score_file.get(), score));
  for (const RlimitSpec& limit : spec.container.rlimits) {
    rlimit value{.rlim_cur = limit.soft, .rlim_max = limit.hard};
    if (::setrlimit(static_cast<__rlimit_resource>(limit.resource), &value) != 0) {
      return Error::Sys(errno, "setrlimit", std::to_string(limit.resource));
    }
  }
  return {};
}

}  // namespace skiff::runtime
