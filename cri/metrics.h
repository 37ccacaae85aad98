// The metrics of pods and containers (ListPodSandboxMetrics), by cAdvisor's names and labels: what
// a kubelet that takes its metrics from the runtime serves at /metrics/cadvisor.
//
// One table in metrics.cc holds a metric's name, its meaning, its labels and where its values come
// from, so descriptors and values cannot disagree. CRI carries whole numbers only: seconds are
// rounded down.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/net/rtnl.h"
#include "cri/disk_usage.h"
#include "proto/cri/runtime/v1/api.pb.h"
#include "runtime/usage.h"

namespace skiff::cri {

namespace api = ::runtime::v1;

// The file system that a writable layer lies on.
struct FileSystemFigures {
  std::string device;  // "/dev/vda1"; "8:1" where there is no such node
  uint64_t size_bytes = 0;
  uint64_t inodes = 0;
  uint64_t inodes_free = 0;
};

// What there is to tell of one container, or of a pod as a whole.
struct MetricSource {
  // Labels. Of a pod as a whole, container and image are empty.
  std::string cgroup_path;
  std::string id;
  std::string image;
  std::string container;
  std::string pod;
  std::string name_space;

  WallTime now;
  bool is_pod = false;
  std::optional<WallTime> started;
  runtime::CgroupMetrics usage;
  std::vector<net::Link> links;            // of a pod with a network of its own
  api::LinuxContainerResources resources;  // as asked for
  DiskUsage::Figures disk;                 // of a container's writable layer
  std::optional<FileSystemFigures> file_system;
};

google::protobuf::RepeatedPtrField<api::MetricDescriptor> MetricDescriptors();
// "/dev/vda1" by the kernel's name of the device; "253:1" where it has none.
std::string BlockDeviceName(uint32_t major, uint32_t minor);
google::protobuf::RepeatedPtrField<api::Metric> RenderMetrics(const MetricSource& source);

}  // namespace skiff::cri
