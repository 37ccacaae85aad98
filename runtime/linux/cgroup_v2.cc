// Cgroups over the unified hierarchy (cgroups(7), Documentation/admin-guide/cgroup-v2.rst).

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/os/files.h"
#include "runtime/linux/cgroup_internal.h"
#include "runtime/linux/kill.h"

namespace skiff::runtime {
namespace {

constexpr WantedController kWantedV2[] = {
    {"cpu", "CPU shares and quota have no effect"},
    {"cpuset", "CPU sets have no effect"},
    {"io", "I/O usage is not known"},
    {"memory", "memory limits have no effect and usage is not known"},
    {"pids", "pids limits have no effect"},
    {"hugetlb", "huge page limits have no effect"},
};

class CgroupsV2 : public Cgroups {
 public:
  explicit CgroupsV2(CgroupMounts mounts) : root_(mounts.unified) {
    const auto& there = mounts.unified_controllers;
    for (const WantedController& wanted : kWantedV2) {
      if (std::find(there.begin(), there.end(), wanted.controller) == there.end()) {
        degradations_.push_back(std::string("cgroup controller ") + wanted.controller +
                                " is missing: " + wanted.without);
        continue;
      }
      controllers_.emplace_back(wanted.controller);
    }
  }

  bool v2() const override { return true; }
  std::vector<std::string> Degradations() const override { return degradations_; }
  std::vector<std::string> MountableHierarchies() const override { return {""}; }

  Result<> Create(const std::string& path, const ResourceSpec& limits) override {
    TRY(CheckCgroupPath(path));
    TRY(EnableControllers(path));
    TRY(MakeDirectories(root_ + path));
    return Update(path, limits);
  }

  Result<> CreateLeaf(const std::string& path) override {
    TRY(CheckCgroupPath(path));
    return MakeDirectories(root_ + path);
  }

  Result<> RestrictDevices(const std::string& path,
                           const std::vector<DeviceRule>& allowed) override {
    return AttachDeviceProgram(root_ + path, allowed);
  }

  Result<> Update(const std::string& path, const ResourceSpec& limits) override {
    std::vector<CgroupSetting> settings = Settings(path, limits);
    if (!settings.empty()) TRY(ApplyCgroupSettings(path, controllers_, settings));
    for (const auto& [file, value] : limits.unified) {
      // The caller names files freely, but only of this cgroup.
      if (file.find('/') != std::string::npos) {
        return Error(Code::kInvalidArgument, "invalid cgroup file \"" + file + "\"");
      }
      TRY(WriteControlFile(root_ + path + "/" + file, value));
    }
    return {};
  }

  CgroupFiles Files(const std::string& path) const override {
    std::string directory = root_ + path;
    CgroupFiles files;
    files.unified = directory;
    files.members = directory + "/cgroup.procs";
    files.kill = kill_file_.PathIn(directory);
    if (Has("memory")) files.oom_counter = directory + "/memory.events";
    return files;
  }
  CgroupFiles LeafFiles(const std::string& path) const override { return Files(path); }

  Result<CgroupStats> Stats(const std::string& path) const override {
    std::string directory = root_ + path;
    CgroupStats stats;
    stats.time = Clock::Real().WallNow();
    std::map<std::string, uint64_t> cpu = ReadCgroupKeys(directory + "/cpu.stat");
    if (cpu.contains("usage_usec")) stats.cpu_usage_nanos = cpu["usage_usec"] * 1000;
    stats.pids = ReadCgroupNumber(directory + "/pids.current");
    stats.cpu_pressure = ReadPressure(directory + "/cpu.pressure");
    stats.memory_pressure = ReadPressure(directory + "/memory.pressure");
    stats.io_pressure = ReadPressure(directory + "/io.pressure");
    stats.memory_usage_bytes = ReadCgroupNumber(directory + "/memory.current");
    if (!stats.memory_usage_bytes) return stats;
    std::map<std::string, uint64_t> memory = ReadCgroupKeys(directory + "/memory.stat");
    uint64_t inactive = memory["inactive_file"];
    uint64_t usage = *stats.memory_usage_bytes;
    uint64_t working_set = usage > inactive ? usage - inactive : 0;
    stats.memory_working_set_bytes = working_set;
    stats.memory_rss_bytes = memory["anon"];
    stats.page_faults = memory["pgfault"];
    stats.major_page_faults = memory["pgmajfault"];
    stats.swap_usage_bytes = ReadCgroupNumber(directory + "/memory.swap.current");
    // "max" is no number.
    if (auto limit = ReadCgroupNumber(directory + "/memory.max")) {
      stats.memory_available_bytes = *limit > working_set ? *limit - working_set : 0;
    }
    if (auto limit = ReadCgroupNumber(directory + "/memory.swap.max")) {
      uint64_t swapped = stats.swap_usage_bytes.value_or(0);
      stats.swap_available_bytes = *limit > swapped ? *limit - swapped : 0;
    }
    return stats;
  }

  Result<CgroupMetrics> Metrics(const std::string& path) const override {
    std::string directory = root_ + path;
    CgroupMetrics metrics;
    metrics.stats = TRY(Stats(path));
    AddCpuMetrics(directory, metrics);
    if (metrics.stats.memory_usage_bytes) AddMemoryMetrics(directory, metrics);
    if (metrics.stats.pids) {
      metrics.pids_limit = ReadCgroupNumber(directory + "/pids.max").value_or(0);  // "max"
    }
    metrics.processes = ReadProcessUsage(directory + "/cgroup.procs");
    if (Result<std::string> io = ReadFile(directory + "/io.stat", 1 << 20); io.ok()) {
      metrics.devices = ParseIoStat(*io);
    }
    metrics.hugepages = ReadHugepages(directory, "current", "max_usage");
    return metrics;
  }

  bool RemoveIfEmpty(const std::string& path) override {
    return ::rmdir((root_ + path).c_str()) == 0 || errno == ENOENT;
  }

  void RemoveElsewhere(const std::string&) override {}

  bool Exists(const std::string& path) const override { return PathExists(root_ + path); }

  std::vector<std::string> Children(const std::string& path) const override {
    return ListSubdirectories(root_ + path).value_or({});
  }

  bool Has(std::string_view controller) const override {
    return std::find(controllers_.begin(), controllers_.end(), controller) != controllers_.end();
  }

 private:
  Result<> KillAndRemove(const std::string& path) override {
    CgroupFiles files = Files(path);
    TRY(KillCgroup(files.kill, files.members));
    return RemoveCgroupDirectory(root_ + path);
  }

  static void AddCpuMetrics(const std::string& directory, CgroupMetrics& metrics) {
    std::map<std::string, uint64_t> cpu = ReadCgroupKeys(directory + "/cpu.stat");
    auto take = [&](const char* key, uint64_t factor) -> std::optional<uint64_t> {
      auto found = cpu.find(key);
      if (found == cpu.end()) return {};
      return found->second * factor;
    };
    metrics.cpu_user_nanos = take("user_usec", 1000);
    metrics.cpu_system_nanos = take("system_usec", 1000);
    metrics.cfs_periods = take("nr_periods", 1);
    metrics.cfs_throttled_periods = take("nr_throttled", 1);
    metrics.cfs_throttled_nanos = take("throttled_usec", 1000);
  }

  static void AddMemoryMetrics(const std::string& directory, CgroupMetrics& metrics) {
    std::map<std::string, uint64_t> memory = ReadCgroupKeys(directory + "/memory.stat");
    metrics.memory_cache_bytes = memory["file"];
    metrics.memory_mapped_file_bytes = memory["file_mapped"];
    // "kernel" has been there since Linux 5.18; before, its larger parts were.
    metrics.memory_kernel_bytes = memory.contains("kernel")
                                      ? memory["kernel"]
                                      : memory["kernel_stack"] + memory["slab"] + memory["sock"];
    // Since Linux 5.19; before, what it is now is the most that is known.
    metrics.memory_max_usage_bytes = ReadCgroupNumber(directory + "/memory.peak");
    if (!metrics.memory_max_usage_bytes) {
      metrics.memory_max_usage_bytes = metrics.stats.memory_usage_bytes;
    }
    std::map<std::string, uint64_t> events = ReadCgroupKeys(directory + "/memory.events");
    metrics.memory_limit_hits = events["max"];
    metrics.oom_kills = events["oom_kill"];
    metrics.memory_low_bytes = ReadCgroupNumber(directory + "/memory.low");
  }

  // Controllers come into a cgroup by its parent's cgroup.subtree_control, from the root down.
  Result<> EnableControllers(const std::string& path) {
    std::string words;
    for (const std::string& name : controllers_) words += (words.empty() ? "+" : " +") + name;
    for (size_t slash = 0; slash != std::string::npos; slash = path.find('/', slash + 1)) {
      std::string parent = root_ + path.substr(0, slash);
      TRY(MakeDirectories(parent));
      if (WriteControlFile(parent + "/cgroup.subtree_control", words).ok()) continue;
      // Not all of them: one may be in the hands of somebody else. A limit that needs one that
      // stays away fails by its missing file.
      for (const std::string& name : controllers_) {
        (void)WriteControlFile(parent + "/cgroup.subtree_control", "+" + name);
      }
    }
    return {};
  }

  std::vector<CgroupSetting> Settings(const std::string& path, const ResourceSpec& limits) const {
    std::vector<CgroupSetting> settings;
    auto set = [&](const char* controller, const std::string& file, const std::string& value) {
      if (Has(controller)) settings.push_back({controller, file, value});
    };
    auto limit = [](int64_t value) { return value < 0 ? "max" : std::to_string(value); };
    if (limits.cpu_shares) {
      set("cpu", "cpu.weight", std::to_string(WeightFromShares(*limits.cpu_shares)));
    }
    if (limits.cpu_quota_us || limits.cpu_period_us) {
      // Quota and period are one file: what is not given stays as it is.
      std::string current = ReadFile(root_ + path + "/cpu.max").value_or("max 100000");
      size_t space = std::min(current.find(' '), current.size());
      std::string quota =
          limits.cpu_quota_us ? limit(*limits.cpu_quota_us) : current.substr(0, space);
      std::string period = limits.cpu_period_us ? " " + std::to_string(*limits.cpu_period_us) : "";
      set("cpu", "cpu.max", quota + period);
    }
    if (limits.cpuset_cpus) set("cpuset", "cpuset.cpus", *limits.cpuset_cpus);
    if (limits.cpuset_mems) set("cpuset", "cpuset.mems", *limits.cpuset_mems);
    if (limits.memory_limit_bytes) {
      set("memory", "memory.max", limit(*limits.memory_limit_bytes));
    }
    if (limits.memory_swap_limit_bytes) {
      // v1 counts memory and swap together.
      int64_t both = *limits.memory_swap_limit_bytes;
      int64_t memory = limits.memory_limit_bytes.value_or(0);
      if (!limits.memory_limit_bytes) {
        // On an update of the one alone; "max" is no number.
        auto current = ReadCgroupNumber(root_ + path + "/memory.max");
        memory = current ? static_cast<int64_t>(*current) : -1;
      }
      bool has_swap = PathExists(root_ + path + "/memory.swap.max");
      // Without a limit of memory there is none of both together.
      if (has_swap && both < 0) {
        set("memory", "memory.swap.max", "max");
      } else if (has_swap && memory >= 0 && both >= memory) {
        set("memory", "memory.swap.max", std::to_string(both - memory));
      }
    }
    if (limits.pids_limit) set("pids", "pids.max", limit(*limits.pids_limit));
    for (const auto& [size, bytes] : limits.hugepage_limits_bytes) {
      set("hugetlb", "hugetlb." + size + ".max", std::to_string(bytes));
    }
    return settings;
  }

  const std::string root_;
  const KillFile kill_file_;
  std::vector<std::string> controllers_;
  std::vector<std::string> degradations_;
};

}  // namespace

std::unique_ptr<Cgroups> MakeCgroupsV2(CgroupMounts mounts) {
  return std::make_unique<CgroupsV2>(std::move(mounts));
}

}  // namespace skiff::runtime
