// A process that goes on as skiff-init (init/init.h), in the pid namespace that it is to live in.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/os/unique_fd.h"
#include "base/result.h"

namespace skiff::runtime {

// The descriptors that become 0 to 6 of skiff-init (launch/launch_spec.h); -1 is /dev/null.
struct InitFds {
  int in = -1;
  int out = -1;
  int err = -1;
  int spec = -1;
  int socket = -1;
  int namespaces = -1;
  int pause_program = -1;
};

// Where the process is born.
struct Birthplace {
  bool new_pid_namespace = false;
  int pid_namespace_of = -1;  // a pidfd of a process in it; -1: the shim's own
  std::string cgroup;         // directory of cgroup v2; empty: the shim's own
};

struct StartedProcess {
  pid_t pid = 0;
  UniqueFd pidfd;
};

// Forks; this process has one thread.
Result<StartedProcess> StartInit(const InitFds& fds, const Birthplace& birthplace);

}  // namespace skiff::runtime
