// Shared by the two implementations of Cgroups.
#pragma once

#include <atomic>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/os/files.h"
#include "runtime/linux/cgroup.h"

namespace skiff::runtime {

// What is mounted: where v2 is, and where each v1 controller is.
struct CgroupMounts {
  std::string unified;                             // empty: not mounted
  std::vector<std::string> unified_controllers;    // that v2 carries
  std::map<std::string, std::string> controllers;  // v1: "memory" -> "/sys/fs/cgroup/memory"
  std::vector<std::string> v1;  // all v1 hierarchies, also those without a controller
};
// By libcgroup, and mountinfo(5) for hierarchies without controllers, which libcgroup does not
// list.
Result<CgroupMounts> FindCgroupMounts();

// A controller that the agent uses where there is one.
struct WantedController {
  const char* controller;
  const char* without;  // what is lost where it is missing
};

std::unique_ptr<Cgroups> MakeCgroupsV1(CgroupMounts mounts);
std::unique_ptr<Cgroups> MakeCgroupsV2(CgroupMounts mounts);

// (controller, file, value), written in this order.
struct CgroupSetting {
  std::string controller;
  std::string file;
  std::string value;
};
// Sets them through libcgroup.
Result<> ApplyCgroupSettings(const std::string& path, const std::vector<std::string>& controllers,
                             const std::vector<CgroupSetting>& settings);

// One number, or the one behind a key, of a control file.
std::optional<uint64_t> ReadCgroupNumber(const std::string& file);
std::map<std::string, uint64_t> ReadCgroupKeys(const std::string& file);

// A file of pressure stall information; nothing where the kernel keeps none (ENOENT, EOPNOTSUPP).
std::optional<Pressure> ReadPressure(const std::string& file);
std::optional<Pressure> ParsePressure(std::string_view text);
// io.stat of v2: "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0".
std::vector<BlockDeviceUsage> ParseIoStat(std::string_view text);
// hugetlb.<size>.<usage> and .<peak> of a cgroup, for each size that it has files for.
std::vector<HugepageUsage> ReadHugepages(const std::string& directory, const char* usage,
                                         const char* peak);
// The processes of a cgroup.procs file; at most so many are looked at that it takes milliseconds.
std::optional<ProcessUsage> ReadProcessUsage(const std::string& members);

// cgroup.kill, of kernels since 5.14. Every cgroup but the root has it or none has, so it is looked
// for until it has been seen once.
class KillFile {
 public:
  // Empty where there is none.
  std::string PathIn(const std::string& directory) const {
    std::string path = directory + "/cgroup.kill";
    if (!seen_.load(std::memory_order_relaxed)) {
      if (!PathExists(path)) return "";
      seen_.store(true, std::memory_order_relaxed);
    }
    return path;
  }

 private:
  mutable std::atomic<bool> seen_{false};
};

// rmdir of a directory and those below, which must be empty of processes soon: EBUSY is waited
// for, by cgroup.events where the hierarchy has it.
Result<> RemoveCgroupDirectory(const std::string& directory);

// Attaches a program that denies all devices but these to a v2 cgroup (device_program.cc).
Result<> AttachDeviceProgram(const std::string& directory, const std::vector<DeviceRule>& allowed);

}  // namespace skiff::runtime
