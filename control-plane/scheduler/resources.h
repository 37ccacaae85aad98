// Amounts of CPU, memory and what else pods ask for and nodes have. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "proto/k8s/fwd.h"

namespace skiff::cp {

struct Resources {
  int64_t milli_cpu = 0;
  int64_t memory_bytes = 0;
  int64_t ephemeral_bytes = 0;
  std::map<std::string, int64_t> others;  // extended resources, huge pages

  Resources& operator+=(const Resources& more);
  Resources& operator-=(const Resources& less);
  // Each amount the larger of the two.
  void RaiseTo(const Resources& other);
  bool IsZero() const;
};

// What a pod occupies on its node: its containers together with its sidecars, or the most that its
// init containers take at once, whichever is more; and its overhead.
Resources PodRequests(const k8s::core::v1::Pod& pod);
// The same for scoring: a container without a request counts 100m of CPU and 200 MB of memory, so
// that pods without requests are spread as well.
Resources PodRequestsForScore(const k8s::core::v1::Pod& pod);

struct Allocatable {
  Resources resources;
  int64_t pods = 0;
};
Allocatable NodeAllocatable(const k8s::core::v1::Node& node);

}  // namespace skiff::cp
