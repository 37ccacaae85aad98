#include "runtime/linux/kill.h"

#include <signal.h>

#include <cerrno>
#include <charconv>
#include <string_view>

#include "base/os/files.h"

namespace skiff::runtime {
namespace {

constexpr int kRounds = 1000;  // each outruns a generation of forks

// Signals all processes in the file; how many there were.
Result<int> KillListed(const std::string& procs_file) {
  std::string list = TRY(ReadFile(procs_file));
  int count = 0;
  const char* at = list.data();
  const char* end = at + list.size();
  while (at < end) {
    pid_t pid = 0;
    auto [rest, error] = std::from_chars(at, end, pid);
    // 0 stands for a process of another pid namespace; kill(2) would take it for our own group.
    if (error == std::errc() && pid > 1) {
      (void)::kill(pid, SIGKILL);  // it may have ended meanwhile
      ++count;
    }
    at = rest + 1;
  }
  return count;
}

}  // namespace

Result<> KillCgroup(const std::string& kill_file, const std::string& procs_file) {
  if (!kill_file.empty()) {
    Result<> killed = WriteControlFile(kill_file, "1");
    if (!killed.ok()) {
      int cause = killed.error().sys_errno();
      if (cause == ENOENT || cause == ENODEV) return {};
    }
    return killed;
  }
  for (int round = 0; round < kRounds && !procs_file.empty(); ++round) {
    Result<int> count = KillListed(procs_file);
    if (!count.ok()) {
      int cause = count.error().sys_errno();
      if (cause == ENOENT || cause == ENODEV) return {};
      return std::move(count).error();
    }
    if (*count == 0) return {};
  }
  return {};
}

}  // namespace skiff::runtime
