// What containers and pods use, as the files of cgroups and processes say. A value whose controller
// or file this machine lacks stays unset.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"

namespace skiff::runtime {

// Pressure stall information (Documentation/accounting/psi.rst of the kernel): the share of time in
// percent, and the time in all, in which some or all tasks waited.
struct Pressure {
  struct Share {
    double avg10 = 0;
    double avg60 = 0;
    double avg300 = 0;
    uint64_t total_us = 0;
  };
  Share some;
  Share full;
};

struct CgroupStats {
  WallTime time;
  std::optional<uint64_t> cpu_usage_nanos;
  std::optional<uint64_t> memory_usage_bytes;
  std::optional<uint64_t> memory_working_set_bytes;  // usage less inactive file cache
  std::optional<uint64_t> memory_rss_bytes;
  std::optional<uint64_t> memory_available_bytes;  // limit less working set; unset: no limit
  std::optional<uint64_t> page_faults;
  std::optional<uint64_t> major_page_faults;
  std::optional<uint64_t> swap_usage_bytes;
  std::optional<uint64_t> swap_available_bytes;  // limit less usage; unset: no limit
  std::optional<uint64_t> pids;                  // tasks: threads count
  std::optional<Pressure> cpu_pressure;
  std::optional<Pressure> memory_pressure;
  std::optional<Pressure> io_pressure;
};

struct BlockDeviceUsage {
  uint32_t major = 0;
  uint32_t minor = 0;
  uint64_t read_bytes = 0;
  uint64_t write_bytes = 0;
  uint64_t reads = 0;
  uint64_t writes = 0;
};

struct HugepageUsage {
  std::string page_size;  // "2MB"
  uint64_t usage_bytes = 0;
  std::optional<uint64_t> max_usage_bytes;
};

// Of the processes of a container, from /proc.
struct ProcessUsage {
  uint64_t processes = 0;
  uint64_t file_descriptors = 0;
  uint64_t sockets = 0;
  std::optional<uint64_t> open_files_limit;  // the soft one of the first process; unset: none
};

struct CgroupMetrics {
  CgroupStats stats;
  std::optional<uint64_t> cpu_user_nanos;
  std::optional<uint64_t> cpu_system_nanos;
  std::optional<uint64_t> cfs_periods;
  std::optional<uint64_t> cfs_throttled_periods;
  std::optional<uint64_t> cfs_throttled_nanos;
  std::optional<uint64_t> memory_cache_bytes;
  std::optional<uint64_t> memory_mapped_file_bytes;
  std::optional<uint64_t> memory_kernel_bytes;
  std::optional<uint64_t> memory_max_usage_bytes;
  std::optional<uint64_t> memory_limit_hits;
  std::optional<uint64_t> memory_low_bytes;  // protected from reclaim as far as can be; 0: nothing
  std::optional<uint64_t> oom_kills;
  std::optional<uint64_t> pids_limit;  // 0: none
  std::optional<ProcessUsage> processes;
  std::vector<BlockDeviceUsage> devices;
  std::vector<HugepageUsage> hugepages;
};

}  // namespace skiff::runtime
