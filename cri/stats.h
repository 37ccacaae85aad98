// StatsReader: usage figures of containers and pods, read from cgroup files and interface counters
// when asked for, never by polling and never by a call to a supervisor. One entry's trouble leaves
// its figures out and no list fails. Thread-safe.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "base/async/executor.h"
#include "cri/disk_usage.h"
#include "cri/table.h"
#include "proto/cri/runtime/v1/api.pb.h"
#include "runtime/runtime.h"

namespace skiff::cri {

class StatsReader {
 public:
  // background: for walks through large writable layers.
  StatsReader(runtime::Runtime& runtime, Executor& background)
      : runtime_(runtime), disk_(background) {}

  api::ContainerStats ReadContainer(const Container& container);
  api::PodSandboxStats ReadSandbox(const Sandbox& sandbox,
                                   const std::vector<ContainerPtr>& containers);
  api::PodSandboxMetrics ReadMetrics(const Sandbox& sandbox,
                                     const std::vector<ContainerPtr>& containers);
  // The container or sandbox is gone: so is what was remembered of it.
  void Forget(const std::string& id);

 private:
  struct CpuSample {
    WallTime time;
    uint64_t usage_nanos = 0;
    uint64_t nano_cores = 0;  // between the two samples before
  };
  uint64_t NanoCores(const std::string& id, WallTime time, uint64_t usage_nanos);
  void FillWritableLayer(const Container& container, api::FilesystemUsage* usage);
  template <class Stats>
  void FillCgroup(const std::string& id, const runtime::CgroupStats& read, Stats* stats);

  runtime::Runtime& runtime_;
  DiskUsage disk_;
  std::mutex mutex_;  // guards the samples
  std::map<std::string, CpuSample> cpu_;
};

}  // namespace skiff::cri
