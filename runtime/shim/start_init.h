// Starting skiff-init in the pid namespace that it is to live in.
#pragma once

#include <sys/types.h>

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

struct PidNamespace {
  bool create = false;
  int join = -1;  // a pidfd of a process in it; -1: that of the shim
};

struct StartedProcess {
  pid_t pid = 0;
  UniqueFd pidfd;
};

// Forks (this process has one thread) and executes the program init_program is open on.
Result<StartedProcess> StartInit(int init_program, const InitFds& fds, PidNamespace pid_namespace);

}  // namespace skiff::runtime
