#include "tests/support/leak_check.h"

#include <net/if.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <thread>

#include "base/os/files.h"

namespace skiff::test {
namespace {

namespace fs = std::filesystem;
using Names = std::multiset<std::string>;

// Fields 2 (name) and 4 (parent) of proc_pid_stat(5).
struct ProcessLine {
  std::string name;
  int parent = 0;
};

std::map<int, ProcessLine> AllProcesses() {
  std::map<int, ProcessLine> processes;
  for (const std::string& entry : ListDirectory("/proc").value_or({})) {
    int pid = 0;
    auto [end, error] = std::from_chars(entry.data(), entry.data() + entry.size(), pid);
    if (error != std::errc() || end != entry.data() + entry.size()) continue;
    std::string text = ReadFile("/proc/" + entry + "/stat").value_or("");
    size_t open = text.find('(');
    size_t close = text.rfind(')');
    if (open == std::string::npos || close == std::string::npos || close + 4 > text.size()) {
      continue;
    }
    ProcessLine line{.name = text.substr(open + 1, close - open - 1)};
    std::from_chars(text.data() + close + 4, text.data() + text.size(), line.parent);
    processes[pid] = line;
  }
  return processes;
}

Names Descendants(const std::set<std::string>& ignored) {
  // Orphans that ended wait here for somebody to ask.
  while (::waitpid(-1, nullptr, WNOHANG) > 0) {
  }
  std::map<int, ProcessLine> all = AllProcesses();
  Names names;
  for (const auto& [pid, line] : all) {
    if (ignored.contains(line.name)) continue;
    int ancestor = line.parent;
    for (int depth = 0; depth < 64 && ancestor > 1 && ancestor != ::getpid(); ++depth) {
      auto parent = all.find(ancestor);
      ancestor = parent == all.end() ? 0 : parent->second.parent;
    }
    if (ancestor == ::getpid()) names.insert(line.name + " " + std::to_string(pid));
  }
  return names;
}

Names Descriptors() {
  Names names;
  std::error_code ignored;
  for (const std::string& entry : ListDirectory("/proc/self/fd").value_or({})) {
    std::string target = fs::read_symlink("/proc/self/fd/" + entry, ignored).string();
    // Numbers of pipes and sockets differ from run to run; that there is one counts.
    names.insert(target.substr(0, target.find(":[")));
  }
  return names;
}

Names Mounts() {
  Names names;
  std::string text = ReadFile("/proc/self/mountinfo").value_or("");
  std::string_view rest = text;
  while (!rest.empty()) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    for (int field = 0; field < 4; ++field) line.remove_prefix(line.find(' ') + 1);
    names.emplace(line.substr(0, line.find(' ')));
  }
  return names;
}

Names Links() {
  Names names;
  struct if_nameindex* links = ::if_nameindex();
  for (struct if_nameindex* link = links; link != nullptr && link->if_index != 0; ++link) {
    names.insert(link->if_name);
  }
  if (links != nullptr) ::if_freenameindex(links);
  return names;
}

void AddTree(const std::string& directory, bool only_directories, Names& names) {
  for (const std::string& name : ListDirectory(directory).value_or({})) {
    std::string path = directory + "/" + name;
    struct stat info;
    if (::lstat(path.c_str(), &info) != 0) continue;
    bool is_directory = S_ISDIR(info.st_mode);
    if (is_directory || !only_directories) names.insert(path);
    if (is_directory) AddTree(path, only_directories, names);
  }
}

Names Cgroups(const std::vector<std::string>& roots) {
  Names names;
  std::vector<std::string> hierarchies = {"/sys/fs/cgroup"};
  for (const std::string& name : ListDirectory("/sys/fs/cgroup").value_or({})) {
    hierarchies.push_back("/sys/fs/cgroup/" + name);
  }
  for (const std::string& hierarchy : hierarchies) {
    for (const std::string& root : roots) AddTree(hierarchy + root, true, names);
  }
  return names;
}

}  // namespace

LeakCheck::LeakCheck(LeakScope scope) : scope_(std::move(scope)) {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  before_ = Take();
}

LeakCheck::Snapshot LeakCheck::Take() const {
  Snapshot snapshot;
  snapshot["process"] = Descendants(scope_.ignored_processes);
  if (scope_.descriptors) snapshot["descriptor"] = Descriptors();
  snapshot["mount"] = Mounts();
  snapshot["link"] = Links();
  snapshot["cgroup"] = Cgroups(scope_.cgroups);
  for (const std::string& directory : scope_.directories) {
    AddTree(directory, false, snapshot["file"]);
  }
  return snapshot;
}

std::vector<std::string> LeakCheck::Differences(std::chrono::milliseconds patience) const {
  auto deadline = std::chrono::steady_clock::now() + patience;
  for (;;) {
    Snapshot after = Take();
    std::vector<std::string> differences;
    for (auto& [kind, names] : after) {
      auto found = before_.find(kind);
      const Names old = found == before_.end() ? Names() : found->second;
      std::vector<std::string> more, less;
      std::set_difference(names.begin(), names.end(), old.begin(), old.end(),
                          std::back_inserter(more));
      std::set_difference(old.begin(), old.end(), names.begin(), names.end(),
                          std::back_inserter(less));
      for (const std::string& name : more) differences.push_back("+ " + kind + ": " + name);
      for (const std::string& name : less) differences.push_back("- " + kind + ": " + name);
    }
    if (differences.empty() || std::chrono::steady_clock::now() >= deadline) return differences;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // tidy: the kernel removes late
  }
}

}  // namespace skiff::test
