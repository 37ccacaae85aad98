// Spawn: start another program from a threaded process.
//
// Between the clone and the exec nothing is allocated, logged or locked (vfork semantics), and the
// child gets exactly the descriptors named here and no other.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/os/pidref.h"
#include "base/os/unique_fd.h"
#include "base/result.h"

namespace skiff {

struct SpawnRequest {
  std::string path;               // the program; no search in PATH
  std::vector<std::string> argv;  // argv[0] included
  std::vector<std::string> env;   // "NAME=value"; the whole environment
  // (descriptor here, number in the child). 0, 1 and 2 are /dev/null unless named.
  std::vector<std::pair<int, int>> fds;
  std::string working_directory;  // empty: as the caller
  bool new_session = false;       // setsid(2)
};

// Starts the program; an exec that fails is this call's error, not an exit code.
Result<PidRef> Spawn(const SpawnRequest& request);

struct ProgramOutput {
  ExitStatus status;
  std::string out;
  std::string err;
};
// Runs a program to its end with input on its standard input, collecting at most 16 MiB of each
// output. Past the deadline the program is killed, one in a session of its own with all that it has
// started there: DeadlineExceeded.
Result<ProgramOutput> RunProgram(SpawnRequest request, std::string_view input = {},
                                 std::chrono::milliseconds deadline = std::chrono::seconds(30));

}  // namespace skiff
