// A directory of files that changes in one step: readers see the old set or the new one.
//
// Kubernetes' layout: the files are in a directory of its own, "..data" is a symlink to it, and
// each name at the top is a symlink through "..data"; an update makes a new directory and renames
// the link.
#pragma once

#include <sys/types.h>

#include <map>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/result.h"

namespace skiff::agent {

struct PayloadFile {
  std::string content;
  mode_t mode = 0644;
  bool operator==(const PayloadFile&) const = default;
};
// By path below the directory, e.g. "conf/app.yaml".
using Payload = std::map<std::string, PayloadFile>;

// True when the directory changed. group: the pod's fsGroup, which then owns the files and may read
// them. InvalidArgument for paths that leave the directory or begin with "..".
Result<bool> WritePayload(const std::string& directory, const Payload& payload,
                          std::optional<gid_t> group, WallTime now);

}  // namespace skiff::agent
