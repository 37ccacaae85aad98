// IdRanges: which host ids a pod with a user namespace of its own has (spec.hostUsers: false).
//
// A range is recorded in the pod's directory before it is used and is free once that directory is
// gone, which goes last of a pod. So the records are all there is to know, and a restart needs no
// recovery.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace skiff::agent {

struct IdSpan {
  uint64_t first = 0;
  uint64_t count = 0;
  bool operator==(const IdSpan&) const = default;
};

// Of /etc/subuid or /etc/subgid (subuid(5)): "name:first:count" lines; others are left out.
std::vector<IdSpan> ParseSubordinateIds(std::string_view text);

// Thread-safe.
class IdRanges {
 public:
  // As many as 16-bit ids need; what upstream's kubelet gives a pod.
  static constexpr uint32_t kLength = 65536;

  // others: ids that are somebody else's; no range has one of them.
  explicit IdRanges(std::vector<IdSpan> others) : others_(std::move(others)) {}

  // The first id of the pod's range, the same as long as its directory is there. pods_dir has a
  // directory for each pod, which is made where it is missing. DataLoss: a record that cannot be
  // read; ResourceExhausted: all ranges are taken.
  Result<uint32_t> Acquire(const std::string& pods_dir, const std::string& uid);

 private:
  bool IsOthers(uint64_t first) const;

  const std::vector<IdSpan> others_;
  std::mutex mutex_;  // of choosing and recording
};

}  // namespace skiff::agent
