#include "cri/metrics.h"

#include <unistd.h>

#include "cri/render.h"

namespace skiff::cri {
namespace {

constexpr uint64_t kNanosPerSecond = 1'000'000'000;
constexpr uint64_t kMicrosPerSecond = 1'000'000;
constexpr api::MetricType kCounter = api::COUNTER;
constexpr api::MetricType kGauge = api::GAUGE;
// In front of each metric's own labels.
constexpr const char* kLabels[] = {"id", "name", "image", "container", "pod", "namespace"};

// Takes the values of one metric.
class Output {
 public:
  Output(const MetricSource& source, const char* name, api::MetricType type,
         google::protobuf::RepeatedPtrField<api::Metric>& metrics)
      : source_(source), name_(name), type_(type), metrics_(metrics) {}

  // labels: the metric's own, in the order of its descriptor.
  void Add(uint64_t value, const std::vector<std::string>& labels = {}) {
    api::Metric& metric = *metrics_.Add();
    metric.set_name(name_);
    metric.set_timestamp(Nanoseconds(source_.now));
    metric.set_metric_type(type_);
    for (const std::string* label : {&source_.cgroup_path, &source_.id, &source_.image,
                                     &source_.container, &source_.pod, &source_.name_space}) {
      metric.add_label_values(*label);
    }
    for (const std::string& label : labels) metric.add_label_values(label);
    metric.mutable_value()->set_value(value);
  }
  // What this machine does not tell has no value.
  void AddIf(const std::optional<uint64_t>& value, uint64_t divisor = 1,
             const std::vector<std::string>& labels = {}) {
    if (value) Add(*value / divisor, labels);
  }

 private:
  const MetricSource& source_;
  const char* const name_;
  const api::MetricType type_;
  google::protobuf::RepeatedPtrField<api::Metric>& metrics_;
};

void AddDevices(const MetricSource& s, uint64_t runtime::BlockDeviceUsage::*figure, Output& out) {
  for (const runtime::BlockDeviceUsage& device : s.usage.devices) {
    out.Add(device.*figure, {BlockDeviceName(device.major, device.minor)});
  }
}

void AddDeviceBytes(const MetricSource& s, Output& out) {
  for (const runtime::BlockDeviceUsage& device : s.usage.devices) {
    const std::string major = std::to_string(device.major);
    const std::string minor = std::to_string(device.minor);
    const std::string name = BlockDeviceName(device.major, device.minor);
    out.Add(device.read_bytes, {name, major, minor, "Read"});
    out.Add(device.write_bytes, {name, major, minor, "Write"});
  }
}

void AddFileSystem(const MetricSource& s, uint64_t FileSystemFigures::*figure, Output& out) {
  if (s.file_system) out.Add((*s.file_system).*figure, {s.file_system->device});
}

void AddHugepages(const MetricSource& s, Output& out) {
  for (const runtime::HugepageUsage& page : s.usage.hugepages) {
    out.Add(page.usage_bytes, {page.page_size});
  }
}

void AddHugepagePeaks(const MetricSource& s, Output& out) {
  for (const runtime::HugepageUsage& page : s.usage.hugepages) {
    out.AddIf(page.max_usage_bytes, 1, {page.page_size});
  }
}

void AddOpenFilesLimit(const MetricSource& s, Output& out) {
  if (s.usage.processes) out.AddIf(s.usage.processes->open_files_limit, 1, {"max_open_files"});
}

void AddLinks(const MetricSource& s, uint64_t net::LinkCounters::*counter, Output& out) {
  for (const net::Link& link : s.links) out.Add(link.counters.*counter, {link.name});
}

void AddPageFaults(const MetricSource& s, Output& out) {
  out.AddIf(s.usage.stats.page_faults, 1, {"pgfault", "hierarchy"});
  out.AddIf(s.usage.stats.major_page_faults, 1, {"pgmajfault", "hierarchy"});
}

void AddPressure(const std::optional<runtime::Pressure>& pressure,
                 runtime::Pressure::Share runtime::Pressure::*share, Output& out) {
  if (pressure) out.Add(((*pressure).*share).total_us / kMicrosPerSecond);
}

void AddProcesses(const MetricSource& s, uint64_t runtime::ProcessUsage::*figure, Output& out) {
  if (s.usage.processes) out.Add((*s.usage.processes).*figure);
}

// A resource that was asked for; CRI has 0 for one that was not, and -1 for no limit.
std::optional<uint64_t> Asked(int64_t value) {
  if (value <= 0) return {};
  return static_cast<uint64_t>(value);
}

uint64_t Seconds(WallTime time) {
  return static_cast<uint64_t>(Nanoseconds(time)) / kNanosPerSecond;
}

enum Scope : uint8_t { kAny, kContainer, kPod };

struct MetricKind {
  const char* name;
  api::MetricType type;
  Scope scope;
  const char* labels[4];
  const char* help;
  void (*emit)(const MetricSource& s, Output& out);
};

using S = const MetricSource&;
using O = Output&;
using Device = runtime::BlockDeviceUsage;
using Pressure = runtime::Pressure;
using Processes = runtime::ProcessUsage;

// clang-format off
constexpr MetricKind kKinds[] = {
    {"container_blkio_device_usage_total", kCounter, kAny,
     {"device", "major", "minor", "operation"}, "Bytes moved, by device and direction.",
     [](S s, O out) { AddDeviceBytes(s, out); }},
    {"container_cpu_cfs_periods_total", kCounter, kAny,
     {}, "Elapsed periods in which a CPU quota was enforced.",
     [](S s, O out) { out.AddIf(s.usage.cfs_periods); }},
    {"container_cpu_cfs_throttled_periods_total", kCounter, kAny,
     {}, "Periods in which the CPU quota was used up.",
     [](S s, O out) { out.AddIf(s.usage.cfs_throttled_periods); }},
    {"container_cpu_cfs_throttled_seconds_total", kCounter, kAny,
     {}, "Seconds for which tasks waited for a new CPU quota.",
     [](S s, O out) { out.AddIf(s.usage.cfs_throttled_nanos, kNanosPerSecond); }},
    {"container_cpu_system_seconds_total", kCounter, kAny,
     {}, "Seconds of CPU time spent in the kernel.",
     [](S s, O out) { out.AddIf(s.usage.cpu_system_nanos, kNanosPerSecond); }},
    {"container_cpu_usage_seconds_total", kCounter, kAny,
     {"cpu"}, "Seconds of CPU time.",
     [](S s, O out) { out.AddIf(s.usage.stats.cpu_usage_nanos, kNanosPerSecond, {"total"}); }},
    {"container_cpu_user_seconds_total", kCounter, kAny,
     {}, "Seconds of CPU time spent in user space.",
     [](S s, O out) { out.AddIf(s.usage.cpu_user_nanos, kNanosPerSecond); }},
    {"container_file_descriptors", kGauge, kContainer,
     {}, "Open file descriptors of all processes.",
     [](S s, O out) { AddProcesses(s, &Processes::file_descriptors, out); }},
    {"container_fs_inodes_free", kGauge, kContainer,
     {"device"}, "Free inodes of the file system of the writable layer.",
     [](S s, O out) { AddFileSystem(s, &FileSystemFigures::inodes_free, out); }},
    {"container_fs_inodes_total", kGauge, kContainer,
     {"device"}, "Inodes of the file system of the writable layer.",
     [](S s, O out) { AddFileSystem(s, &FileSystemFigures::inodes, out); }},
    {"container_fs_limit_bytes", kGauge, kContainer,
     {"device"}, "Size of the file system of the writable layer.",
     [](S s, O out) { AddFileSystem(s, &FileSystemFigures::size_bytes, out); }},
    {"container_fs_reads_bytes_total", kCounter, kAny,
     {"device"}, "Bytes read from the device.",
     [](S s, O out) { AddDevices(s, &Device::read_bytes, out); }},
    {"container_fs_reads_total", kCounter, kAny,
     {"device"}, "Reads that the device completed.",
     [](S s, O out) { AddDevices(s, &Device::reads, out); }},
    {"container_fs_usage_bytes", kGauge, kContainer,
     {"device"}, "Bytes that the writable layer holds.",
     [](S s, O out) { if (s.file_system) out.Add(s.disk.bytes, {s.file_system->device}); }},
    {"container_fs_writes_bytes_total", kCounter, kAny,
     {"device"}, "Bytes written to the device.",
     [](S s, O out) { AddDevices(s, &Device::write_bytes, out); }},
    {"container_fs_writes_total", kCounter, kAny,
     {"device"}, "Writes that the device completed.",
     [](S s, O out) { AddDevices(s, &Device::writes, out); }},
    {"container_hugetlb_max_usage_bytes", kGauge, kAny,
     {"pagesize"}, "Most huge page memory that was in use.",
     [](S s, O out) { AddHugepagePeaks(s, out); }},
    {"container_hugetlb_usage_bytes", kGauge, kAny,
     {"pagesize"}, "Huge page memory in use.",
     [](S s, O out) { AddHugepages(s, out); }},
    {"container_last_seen", kGauge, kAny,
     {}, "When these figures were read, in seconds since the epoch.",
     [](S s, O out) { out.Add(Seconds(s.now)); }},
    {"container_memory_cache", kGauge, kAny,
     {}, "Page cache in bytes.",
     [](S s, O out) { out.AddIf(s.usage.memory_cache_bytes); }},
    {"container_memory_failcnt", kCounter, kAny,
     {}, "How often the memory limit was hit.",
     [](S s, O out) { out.AddIf(s.usage.memory_limit_hits); }},
    {"container_memory_failures_total", kCounter, kAny,
     {"failure_type", "scope"}, "Page faults.",
     [](S s, O out) { AddPageFaults(s, out); }},
    {"container_memory_kernel_usage", kGauge, kAny,
     {}, "Kernel memory in bytes.",
     [](S s, O out) { out.AddIf(s.usage.memory_kernel_bytes); }},
    {"container_memory_mapped_file", kGauge, kAny,
     {}, "Mapped files in bytes.",
     [](S s, O out) { out.AddIf(s.usage.memory_mapped_file_bytes); }},
    {"container_memory_max_usage_bytes", kGauge, kAny,
     {}, "Most memory that was in use, in bytes.",
     [](S s, O out) { out.AddIf(s.usage.memory_max_usage_bytes); }},
    {"container_memory_rss", kGauge, kAny,
     {}, "Anonymous memory in bytes.",
     [](S s, O out) { out.AddIf(s.usage.stats.memory_rss_bytes); }},
    {"container_memory_swap", kGauge, kAny,
     {}, "Swap in use in bytes.",
     [](S s, O out) { out.AddIf(s.usage.stats.swap_usage_bytes); }},
    {"container_memory_usage_bytes", kGauge, kAny,
     {}, "Memory in use in bytes, page cache included.",
     [](S s, O out) { out.AddIf(s.usage.stats.memory_usage_bytes); }},
    {"container_memory_working_set_bytes", kGauge, kAny,
     {}, "Memory in use in bytes, less page cache that is idle.",
     [](S s, O out) { out.AddIf(s.usage.stats.memory_working_set_bytes); }},
    {"container_network_receive_bytes_total", kCounter, kPod,
     {"interface"}, "Bytes received.",
     [](S s, O out) { AddLinks(s, &net::LinkCounters::rx_bytes, out); }},
    {"container_network_receive_errors_total", kCounter, kPod,
     {"interface"}, "Packets that were not received for an error.",
     [](S s, O out) { AddLinks(s, &net::LinkCounters::rx_errors, out); }},
    {"container_network_receive_packets_dropped_total", kCounter, kPod,
     {"interface"}, "Packets that were dropped instead of received.",
     [](S s, O out) { AddLinks(s, &net::LinkCounters::rx_dropped, out); }},
    {"container_network_receive_packets_total", kCounter, kPod,
     {"interface"}, "Packets received.",
     [](S s, O out) { AddLinks(s, &net::LinkCounters::rx_packets, out); }},
    {"container_network_transmit_bytes_total", kCounter, kPod,
     {"interface"}, "Bytes sent.",
     [](S s, O out) { AddLinks(s, &net::LinkCounters::tx_bytes, out); }},
    {"container_network_transmit_errors_total", kCounter, kPod,
     {"interface"}, "Packets that were not sent for an error.",
     [](S s, O out) { AddLinks(s, &net::LinkCounters::tx_errors, out); }},
    {"container_network_transmit_packets_dropped_total", kCounter, kPod,
     {"interface"}, "Packets that were dropped instead of sent.",
     [](S s, O out) { AddLinks(s, &net::LinkCounters::tx_dropped, out); }},
    {"container_network_transmit_packets_total", kCounter, kPod,
     {"interface"}, "Packets sent.",
     [](S s, O out) { AddLinks(s, &net::LinkCounters::tx_packets, out); }},
    {"container_oom_events_total", kCounter, kAny,
     {}, "Processes that were killed for want of memory.",
     [](S s, O out) { out.AddIf(s.usage.oom_kills); }},
    {"container_pressure_cpu_stalled_seconds_total", kCounter, kAny,
     {}, "Seconds in which all tasks waited for the CPU.",
     [](S s, O out) { AddPressure(s.usage.stats.cpu_pressure, &Pressure::full, out); }},
    {"container_pressure_cpu_waiting_seconds_total", kCounter, kAny,
     {}, "Seconds in which some task waited for the CPU.",
     [](S s, O out) { AddPressure(s.usage.stats.cpu_pressure, &Pressure::some, out); }},
    {"container_pressure_io_stalled_seconds_total", kCounter, kAny,
     {}, "Seconds in which all tasks waited for I/O.",
     [](S s, O out) { AddPressure(s.usage.stats.io_pressure, &Pressure::full, out); }},
    {"container_pressure_io_waiting_seconds_total", kCounter, kAny,
     {}, "Seconds in which some task waited for I/O.",
     [](S s, O out) { AddPressure(s.usage.stats.io_pressure, &Pressure::some, out); }},
    {"container_pressure_memory_stalled_seconds_total", kCounter, kAny,
     {}, "Seconds in which all tasks waited for memory.",
     [](S s, O out) { AddPressure(s.usage.stats.memory_pressure, &Pressure::full, out); }},
    {"container_pressure_memory_waiting_seconds_total", kCounter, kAny,
     {}, "Seconds in which some task waited for memory.",
     [](S s, O out) { AddPressure(s.usage.stats.memory_pressure, &Pressure::some, out); }},
    {"container_processes", kGauge, kContainer,
     {}, "Processes.",
     [](S s, O out) { AddProcesses(s, &Processes::processes, out); }},
    {"container_sockets", kGauge, kContainer,
     {}, "Open sockets of all processes.",
     [](S s, O out) { AddProcesses(s, &Processes::sockets, out); }},
    {"container_spec_cpu_period", kGauge, kContainer,
     {}, "The period of the CPU quota in microseconds.",
     [](S s, O out) { out.AddIf(Asked(s.resources.cpu_period())); }},
    {"container_spec_cpu_quota", kGauge, kContainer,
     {}, "The CPU quota of a period in microseconds.",
     [](S s, O out) { out.AddIf(Asked(s.resources.cpu_quota())); }},
    {"container_spec_cpu_shares", kGauge, kContainer,
     {}, "The weight by which CPU time is shared out.",
     [](S s, O out) { out.AddIf(Asked(s.resources.cpu_shares())); }},
    {"container_spec_memory_limit_bytes", kGauge, kContainer,
     {}, "The memory limit in bytes; 0: none.",
     [](S s, O out) { out.Add(Asked(s.resources.memory_limit_in_bytes()).value_or(0)); }},
    {"container_spec_memory_reservation_limit_bytes", kGauge, kContainer,
     {}, "Memory in bytes that is reclaimed last; 0: none.",
     [](S s, O out) { out.AddIf(s.usage.memory_low_bytes); }},
    {"container_spec_memory_swap_limit_bytes", kGauge, kContainer,
     {}, "The limit in bytes of memory and swap together; 0: none.",
     [](S s, O out) { out.Add(Asked(s.resources.memory_swap_limit_in_bytes()).value_or(0)); }},
    {"container_start_time_seconds", kGauge, kAny,
     {}, "When it was started, in seconds since the epoch.",
     [](S s, O out) { if (s.started) out.Add(Seconds(*s.started)); }},
    {"container_threads", kGauge, kAny,
     {}, "Tasks: threads count.",
     [](S s, O out) { out.AddIf(s.usage.stats.pids); }},
    {"container_threads_max", kGauge, kAny,
     {}, "The limit of tasks; 0: none.",
     [](S s, O out) { out.AddIf(s.usage.pids_limit); }},
    {"container_ulimits_soft", kGauge, kContainer,
     {"ulimit"}, "Soft limits of the first process.",
     [](S s, O out) { AddOpenFilesLimit(s, out); }},
};
// clang-format on

}  // namespace

google::protobuf::RepeatedPtrField<api::MetricDescriptor> MetricDescriptors() {
  google::protobuf::RepeatedPtrField<api::MetricDescriptor> descriptors;
  for (const MetricKind& kind : kKinds) {
    api::MetricDescriptor& descriptor = *descriptors.Add();
    descriptor.set_name(kind.name);
    descriptor.set_help(kind.help);
    for (const char* label : kLabels) descriptor.add_label_keys(label);
    for (const char* label : kind.labels) {
      if (label != nullptr) descriptor.add_label_keys(label);
    }
  }
  return descriptors;
}

google::protobuf::RepeatedPtrField<api::Metric> RenderMetrics(const MetricSource& source) {
  google::protobuf::RepeatedPtrField<api::Metric> metrics;
  for (const MetricKind& kind : kKinds) {
    if (kind.scope == (source.is_pod ? kContainer : kPod)) continue;
    Output out(source, kind.name, kind.type, metrics);
    kind.emit(source, out);
  }
  return metrics;
}

std::string BlockDeviceName(uint32_t major, uint32_t minor) {
  std::string number = std::to_string(major) + ":" + std::to_string(minor);
  char target[256];
  const ssize_t length = readlink(("/sys/dev/block/" + number).c_str(), target, sizeof target);
  if (length <= 0) return number;
  const std::string_view path(target, static_cast<size_t>(length));
  return "/dev/" + std::string(path.substr(path.rfind('/') + 1));
}

}  // namespace skiff::cri
