// LeakCheck: what a test left behind.
//
//   LeakCheck leaks({.cgroups = {"/skiff-test"}, .directories = {state.path()}});
//   ...
//   EXPECT_THAT(leaks.Differences(), IsEmpty());
//
// Compares processes (descendants of this one), its descriptors, mounts of its mount namespace,
// links of its network namespace, cgroups below the named ones in every hierarchy, and files below
// the named directories, before and after. Nothing else on the machine counts, so tests of others
// may run beside it.
#pragma once

#include <chrono>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace skiff::test {

struct LeakScope {
  std::vector<std::string> cgroups;
  std::vector<std::string> directories;
  // By name: a daemon that is killed and started again is nobody's leak, nor are its own.
  std::set<std::string> ignored_processes;
  // This process's own, which only tests without a daemon of their own care for.
  bool descriptors = true;
};

class LeakCheck {
 public:
  // Makes this process the one that orphans fall to (PR_SET_CHILD_SUBREAPER), so that a process
  // whose parent died still counts.
  explicit LeakCheck(LeakScope scope);

  // "+ mount: /x" for what is new, "- link: eth0" for what is gone. What is on its way out (a
  // killed process) gets `patience` to go.
  std::vector<std::string> Differences(
      std::chrono::milliseconds patience = std::chrono::seconds(20)) const;

 private:
  // Kind -> names.
  using Snapshot = std::map<std::string, std::multiset<std::string>>;
  Snapshot Take() const;

  const LeakScope scope_;
  Snapshot before_;
};

}  // namespace skiff::test
