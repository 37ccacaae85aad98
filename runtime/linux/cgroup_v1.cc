// Cgroups over version 1 controllers, with an empty version 2 hierarchy beside them where there is
// one.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "base/os/files.h"
#include "runtime/linux/cgroup_internal.h"
#include "runtime/linux/kill.h"

namespace skiff::runtime {
namespace {

constexpr WantedController kWantedV1[] = {
    {"cpu", "CPU shares and quota have no effect"},
    {"cpuacct", "CPU usage is not known"},
    {"cpuset", "CPU sets have no effect"},
    {"memory", "memory limits have no effect and usage is not known"},
    {"pids", "pids limits have no effect"},
    {"devices", "access to device nodes is not restricted"},
    {"hugetlb", "huge page limits have no effect"},
};

// "No limit" is the largest multiple of the page size.
constexpr uint64_t kUnlimited = uint64_t{1} << 62;

// Of the text of /proc/PID/cgroup, a line "N:freezer:/path"; empty without one.
std::string FreezerPath(const std::string& text) {
  constexpr std::string_view kKey = ":freezer:";
  size_t at = text.find(kKey);
  if (at == std::string::npos) return "";
  at += kKey.size();
  return text.substr(at, text.find('\n', at) - at);
}

class CgroupsV1 : public Cgroups {
 public:
  explicit CgroupsV1(CgroupMounts mounts) : mounts_(std::move(mounts)) {
    for (const WantedController& wanted : kWantedV1) {
      auto found = mounts_.controllers.find(wanted.controller);
      if (found == mounts_.controllers.end()) {
        degradations_.push_back(std::string("cgroup controller ") + wanted.controller +
                                " is missing: " + wanted.without);
        continue;
      }
      controllers_.emplace_back(wanted.controller);
      // "cpu,cpuacct" is one directory.
      hierarchies_.insert(found->second);
    }
  }

  bool v2() const override { return false; }
  std::vector<std::string> Degradations() const override { return degradations_; }

  std::vector<std::string> MountableHierarchies() const override {
    std::vector<std::string> names;
    for (const std::string& mount : hierarchies_) {
      std::string joined;
      for (const auto& [name, path] : mounts_.controllers) {
        if (path == mount) joined += (joined.empty() ? "" : ",") + name;
      }
      names.push_back(joined);
    }
    if (!mounts_.unified.empty()) names.emplace_back();
    return names;
  }

  Result<> Create(const std::string& path, const ResourceSpec& limits) override {
    TRY(CheckCgroupPath(path));
    TRY(CheckUnified(limits));
    TRY(CreateLeaf(path));
    // Not by libcgroup, which makes every directory from the root on, in each hierarchy.
    for (const std::string& mount : hierarchies_) TRY(MakeDirectories(mount + path));
    if (Has("cpuset")) TRY(InitialiseCpuset(path));
    return ApplyCgroupSettings(path, controllers_, Settings(path, limits));
  }

  Result<> CreateLeaf(const std::string& path) override {
    TRY(CheckCgroupPath(path));
    if (!mounts_.unified.empty()) return MakeDirectories(mounts_.unified + path);
    if (Has("pids")) return MakeDirectories(Directory("pids", path));
    return {};
  }

  Result<> RestrictDevices(const std::string& path,
                           const std::vector<DeviceRule>& allowed) override {
    if (!Has("devices")) return {};
    std::string directory = Directory("devices", path);
    TRY(WriteControlFile(directory + "/devices.deny", "a"));
    // Each rule is a write of its own.
    UniqueFd file = TRY(OpenFile(directory + "/devices.allow", O_WRONLY));
    for (const DeviceRule& rule : allowed) {
      auto number = [](int64_t n) { return n < 0 ? std::string("*") : std::to_string(n); };
      for (char type : {'c', 'b'}) {
        if (rule.type != 'a' && rule.type != type) continue;
        std::string text = std::string(1, type) + " " + number(rule.major) + ":" +
                           number(rule.minor) + " " + rule.access;
        if (::write(file.get(), text.data(), text.size()) < 0) {
          return Error::Sys(errno, "write", directory + "/devices.allow \"" + text + "\"");
        }
      }
    }
    return {};
  }

  Result<> Update(const std::string& path, const ResourceSpec& limits) override {
    TRY(CheckUnified(limits));
    return ApplyCgroupSettings(path, controllers_, Settings(path, limits));
  }

  CgroupFiles Files(const std::string& path) const override {
    CgroupFiles files = LeafFiles(path);
    files.tasks.clear();
    for (const std::string& mount : hierarchies_) files.tasks.push_back(mount + path + "/tasks");
    if (Has("memory")) files.oom_counter = Directory("memory", path) + "/memory.oom_control";
    return files;
  }

  // By name alone: to look whether a cgroup is there costs as much as to use it.
  CgroupFiles LeafFiles(const std::string& path) const override {
    CgroupFiles files;
    if (!mounts_.unified.empty()) {
      files.unified = mounts_.unified + path;
      files.members = files.unified + "/cgroup.procs";
      files.kill = kill_file_.PathIn(files.unified);
    } else if (Has("pids")) {
      files.tasks = {Directory("pids", path) + "/tasks"};
      files.members = Directory("pids", path) + "/cgroup.procs";
    }
    return files;
  }

  Result<CgroupStats> Stats(const std::string& path) const override {
    CgroupStats stats;
    stats.time = Clock::Real().WallNow();
    if (Has("cpuacct")) {
      stats.cpu_usage_nanos = ReadCgroupNumber(Directory("cpuacct", path) + "/cpuacct.usage");
    }
    if (Has("pids")) {
      stats.pids = ReadCgroupNumber(Directory("pids", path) + "/pids.current");
    }
    if (Has("memory")) AddMemory(Directory("memory", path), stats);
    AddPressure(path, stats);
    return stats;
  }

  Result<CgroupMetrics> Metrics(const std::string& path) const override {
    CgroupMetrics metrics;
    metrics.stats = TRY(Stats(path));
    AddCpuMetrics(path, metrics);
    if (Has("memory")) AddMemoryMetrics(Directory("memory", path), metrics);
    if (metrics.stats.pids) {
      metrics.pids_limit =
          ReadCgroupNumber(Directory("pids", path) + "/pids.max").value_or(0);  // "max"
    }
    CgroupFiles files = Files(path);
    if (!files.members.empty()) metrics.processes = ReadProcessUsage(files.members);
    if (Has("hugetlb")) {
      metrics.hugepages =
          ReadHugepages(Directory("hugetlb", path), "usage_in_bytes", "max_usage_in_bytes");
    }
    return metrics;
  }

  void Thaw(const std::string& path) override {
    auto freezer = mounts_.controllers.find("freezer");
    if (freezer == mounts_.controllers.end()) return;
    Result<std::string> pids = ReadFile(LeafFiles(path).members);
    for (size_t at = 0; pids.ok() && at < pids->size();) {
      size_t end = std::min(pids->find('\n', at), pids->size());
      std::string held =
          FreezerPath(ReadFile("/proc/" + pids->substr(at, end - at) + "/cgroup").value_or(""));
      at = end + 1;
      if (held.empty() || held == "/") continue;
      std::string state = freezer->second + held + "/freezer.state";
      if (ReadFile(state).value_or("").starts_with("THAWED")) continue;
      (void)WriteControlFile(state, "THAWED");  // whoever waits for the end sees that it fails
    }
  }

  bool RemoveIfEmpty(const std::string& path) override {
    bool gone = true;
    auto remove = [&](const std::string& mount) {
      if (::rmdir((mount + path).c_str()) != 0 && errno != ENOENT) gone = false;
    };
    if (!mounts_.unified.empty()) remove(mounts_.unified);
    for (const std::string& mount : hierarchies_) remove(mount);
    return gone;
  }

  void RemoveElsewhere(const std::string& path) override {
    for (const std::string& mount : mounts_.v1) {
      if (!hierarchies_.contains(mount)) (void)::rmdir((mount + path).c_str());
    }
  }

  bool Exists(const std::string& path) const override {
    return std::any_of(hierarchies_.begin(), hierarchies_.end(),
                       [&](const std::string& mount) { return PathExists(mount + path); });
  }

  std::vector<std::string> Children(const std::string& path) const override {
    std::set<std::string> children;
    auto list = [&](const std::string& directory) {
      for (std::string& name : ListSubdirectories(directory).value_or({})) {
        children.insert(std::move(name));
      }
    };
    for (const std::string& mount : hierarchies_) list(mount + path);
    if (!mounts_.unified.empty()) list(mounts_.unified + path);
    return {children.begin(), children.end()};
  }

  bool Has(std::string_view controller) const override {
    return std::find(controllers_.begin(), controllers_.end(), controller) != controllers_.end();
  }

 private:
  Result<> KillAndRemove(const std::string& path) override {
    CgroupFiles files = LeafFiles(path);
    TRY(KillCgroup(files.kill, files.members));
    Thaw(path);
    // The unified one first: it can be waited for, and the others are empty when it is.
    if (!mounts_.unified.empty()) TRY(RemoveCgroupDirectory(mounts_.unified + path));
    for (const std::string& mount : hierarchies_) TRY(RemoveCgroupDirectory(mount + path));
    return {};
  }

  // Files of cgroup v2 are not there; of pids.max there is ResourceSpec::pids_limit, too.
  static Result<> CheckUnified(const ResourceSpec& limits) {
    for (const auto& [file, value] : limits.unified) {
      if (file == "pids.max") continue;
      return Error(Code::kInvalidArgument,
                   "unified resource " + file + " needs cgroup v2, and this node has v1");
    }
    return {};
  }
  std::string Directory(const char* controller, const std::string& path) const {
    return mounts_.controllers.at(controller) + path;
  }

  // cpuset(7): a new cpuset is empty and takes no process before it has CPUs and memory nodes.
  Result<> InitialiseCpuset(const std::string& path) {
    const std::string directory = Directory("cpuset", path);
    const std::string parent = path.substr(0, path.rfind('/'));
    auto empty = [](const std::string& value) {
      return value.find_first_not_of('\n') == std::string::npos;
    };
    TRY(MakeDirectories(directory));
    for (const char* file : {"/cpuset.cpus", "/cpuset.mems"}) {
      if (!empty(TRY(ReadFile(directory + file)))) continue;
      std::string inherited = TRY(ReadFile(Directory("cpuset", parent) + file));
      if (empty(inherited) && !parent.empty()) {
        TRY(InitialiseCpuset(parent));
        inherited = TRY(ReadFile(Directory("cpuset", parent) + file));
      }
      TRY(WriteControlFile(directory + file, inherited));
    }
    return {};
  }

  std::vector<CgroupSetting> Settings(const std::string& path, const ResourceSpec& limits) const {
    std::vector<CgroupSetting> settings;
    auto set = [&](const char* controller, const std::string& file, const std::string& value) {
      if (Has(controller)) settings.push_back({controller, file, value});
    };
    if (limits.cpu_shares) set("cpu", "cpu.shares", std::to_string(*limits.cpu_shares));
    if (limits.cpu_period_us) {
      set("cpu", "cpu.cfs_period_us", std::to_string(*limits.cpu_period_us));
    }
    if (limits.cpu_quota_us) set("cpu", "cpu.cfs_quota_us", std::to_string(*limits.cpu_quota_us));
    if (limits.cpuset_cpus) set("cpuset", "cpuset.cpus", *limits.cpuset_cpus);
    if (limits.cpuset_mems) set("cpuset", "cpuset.mems", *limits.cpuset_mems);
    if (Has("memory")) AddMemorySettings(Directory("memory", path), limits, settings);
    if (limits.pids_limit) {
      set("pids", "pids.max", *limits.pids_limit < 0 ? "max" : std::to_string(*limits.pids_limit));
    }
    for (const auto& [size, bytes] : limits.hugepage_limits_bytes) {
      set("hugetlb", "hugetlb." + size + ".limit_in_bytes", std::to_string(bytes));
    }
    return settings;
  }

  // The kernel keeps memory at or below memory plus swap at all times, so the order depends on
  // which way they go.
  static void AddMemorySettings(const std::string& directory, const ResourceSpec& limits,
                                std::vector<CgroupSetting>& settings) {
    CgroupSetting memory{"memory", "memory.limit_in_bytes", ""};
    CgroupSetting swap{"memory", "memory.memsw.limit_in_bytes", ""};
    if (limits.memory_limit_bytes) memory.value = std::to_string(*limits.memory_limit_bytes);
    bool has_swap = PathExists("/sys/fs/cgroup/memory/" + swap.file) ||
                    PathExists(directory.substr(0, directory.rfind('/')) + "/" + swap.file);
    if (limits.memory_swap_limit_bytes && has_swap) {
      swap.value = std::to_string(*limits.memory_swap_limit_bytes);
    }
    std::optional<uint64_t> current = ReadCgroupNumber(directory + "/" + swap.file);
    bool grows = current && limits.memory_limit_bytes &&
                 (*limits.memory_limit_bytes < 0 ||
                  static_cast<uint64_t>(*limits.memory_limit_bytes) > *current);
    const CgroupSetting* ordered[] = {grows ? &swap : &memory, grows ? &memory : &swap};
    for (const CgroupSetting* setting : ordered) {
      if (!setting->value.empty()) settings.push_back(*setting);
    }
  }

  // Kept by the empty unified hierarchy, where the kernel keeps it.
  void AddPressure(const std::string& path, CgroupStats& stats) const {
    if (mounts_.unified.empty()) return;
    stats.cpu_pressure = ReadPressure(mounts_.unified + path + "/cpu.pressure");
    stats.memory_pressure = ReadPressure(mounts_.unified + path + "/memory.pressure");
    stats.io_pressure = ReadPressure(mounts_.unified + path + "/io.pressure");
  }

  void AddCpuMetrics(const std::string& path, CgroupMetrics& metrics) const {
    if (Has("cpuacct")) {
      std::map<std::string, uint64_t> usage =
          ReadCgroupKeys(Directory("cpuacct", path) + "/cpuacct.stat");
      const auto tick_nanos = 1'000'000'000 / static_cast<uint64_t>(::sysconf(_SC_CLK_TCK));
      if (usage.contains("user")) metrics.cpu_user_nanos = usage["user"] * tick_nanos;
      if (usage.contains("system")) metrics.cpu_system_nanos = usage["system"] * tick_nanos;
    }
    if (!Has("cpu")) return;
    std::map<std::string, uint64_t> cpu = ReadCgroupKeys(Directory("cpu", path) + "/cpu.stat");
    if (!cpu.contains("nr_periods")) return;  // a kernel without CPU quotas
    metrics.cfs_periods = cpu["nr_periods"];
    metrics.cfs_throttled_periods = cpu["nr_throttled"];
    metrics.cfs_throttled_nanos = cpu["throttled_time"];
  }

  static void AddMemoryMetrics(const std::string& directory, CgroupMetrics& metrics) {
    std::map<std::string, uint64_t> memory = ReadCgroupKeys(directory + "/memory.stat");
    metrics.memory_cache_bytes = memory["total_cache"];
    metrics.memory_mapped_file_bytes = memory["total_mapped_file"];
    metrics.memory_kernel_bytes = ReadCgroupNumber(directory + "/memory.kmem.usage_in_bytes");
    metrics.memory_max_usage_bytes = ReadCgroupNumber(directory + "/memory.max_usage_in_bytes");
    metrics.memory_limit_hits = ReadCgroupNumber(directory + "/memory.failcnt");
    std::optional<uint64_t> soft = ReadCgroupNumber(directory + "/memory.soft_limit_in_bytes");
    if (soft) metrics.memory_low_bytes = *soft < kUnlimited ? *soft : 0;
    std::map<std::string, uint64_t> oom = ReadCgroupKeys(directory + "/memory.oom_control");
    if (oom.contains("oom_kill")) metrics.oom_kills = oom["oom_kill"];
  }

  static void AddMemory(const std::string& directory, CgroupStats& stats) {
    std::map<std::string, uint64_t> keys = ReadCgroupKeys(directory + "/memory.stat");
    stats.memory_usage_bytes = ReadCgroupNumber(directory + "/memory.usage_in_bytes");
    if (!stats.memory_usage_bytes) return;
    uint64_t inactive = keys["total_inactive_file"];
    uint64_t usage = *stats.memory_usage_bytes;
    stats.memory_working_set_bytes = usage > inactive ? usage - inactive : 0;
    stats.memory_rss_bytes = keys["total_rss"];
    stats.page_faults = keys["total_pgfault"];
    stats.major_page_faults = keys["total_pgmajfault"];
    stats.swap_usage_bytes = keys["total_swap"];
    std::optional<uint64_t> limit = ReadCgroupNumber(directory + "/memory.limit_in_bytes");
    if (limit && *limit < kUnlimited) {
      uint64_t used = *stats.memory_working_set_bytes;
      stats.memory_available_bytes = *limit > used ? *limit - used : 0;
    }
  }

  const CgroupMounts mounts_;
  const KillFile kill_file_;
  std::vector<std::string> controllers_;  // wanted and there
  std::set<std::string> hierarchies_;     // their mount points
  std::vector<std::string> degradations_;
};

}  // namespace

std::unique_ptr<Cgroups> MakeCgroupsV1(CgroupMounts mounts) {
  return std::make_unique<CgroupsV1>(std::move(mounts));
}

}  // namespace skiff::runtime
