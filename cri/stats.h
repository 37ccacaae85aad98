// StatsReader: usage figures of containers and pods, read from cgroup files and interface counters
// when asked for, never by polling. One entry's trouble leaves its figures out and no list fails.
// Thread-safe.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "cri/table.h"
#include "proto/cri/runtime/v1/api.pb.h"
#include "runtime/runtime.h"

namespace skiff::cri {

class StatsReader {
 public:
  explicit StatsReader(runtime::Runtime& runtime) : runtime_(runtime) {}

  api::ContainerStats ReadContainer(const Container& container);
  api::PodSandboxStats ReadSandbox(const Sandbox& sandbox,
                                   const std::vector<ContainerPtr>& containers);
  // The container is gone: so is what was remembered of it.
  void Forget(const std::string& id);

 private:
  struct CpuSample {
    WallTime time;
    uint64_t usage_nanos = 0;
    uint64_t nano_cores = 0;  // between the two samples before
  };
  struct DiskSample {
    SteadyTime time;
    uint64_t bytes = 0;
    uint64_t inodes = 0;
  };
  uint64_t NanoCores(const std::string& id, WallTime time, uint64_t usage_nanos);
  void FillWritableLayer(const Container& container, api::FilesystemUsage* usage);
  template <class Stats>
  void FillCgroup(const std::string& id, const runtime::CgroupStats& read, Stats* stats);

  runtime::Runtime& runtime_;
  std::mutex mutex_;  // guards the two below
  std::map<std::string, CpuSample> cpu_;
  std::map<std::string, DiskSample> disk_;
};

}  // namespace skiff::cri
