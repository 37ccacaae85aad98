// The cgroups of pods and of their QoS classes, which hold the containers' own: by CRI's division
// of labour they are the node agent's, not the runtime's.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace skiff::agent {

struct PodLimits {
  int64_t cpu_shares = 2;          // as cgroup v1 counts
  int64_t cpu_quota_us = 0;        // per 100 ms; 0: none
  int64_t memory_limit_bytes = 0;  // 0: none
};

// Thread-safe; calls block briefly. Paths are from the root of the hierarchies.
class PodCgroups {
 public:
  virtual ~PodCgroups() = default;
  // Makes the cgroup with its parents, or gives the present one these limits.
  virtual Result<> Create(const std::string& path, const PodLimits& limits) = 0;
  // Kills what is left in it and removes it with those below. Gone is a success.
  virtual Result<> Remove(const std::string& path) = 0;
  // The names directly below; empty where there is no such cgroup.
  virtual std::vector<std::string> Children(const std::string& path) = 0;
};

}  // namespace skiff::agent
