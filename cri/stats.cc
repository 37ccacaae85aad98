#include "cri/stats.h"

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include "base/net/netns.h"
#include "base/net/rtnl.h"
#include "cri/metrics.h"
#include "cri/render.h"

namespace skiff::cri {
namespace {

// Two readings closer than this give no rate worth telling.
constexpr std::chrono::milliseconds kMinCpuInterval{100};
// The kernel answers from memory; a list must not wait longer for it.
constexpr std::chrono::seconds kNetlinkPatience{1};

// The interfaces of the pod, without its loopback, the one that the network made first. None of a
// pod with the node's network: its traffic is not told from the node's.
std::vector<net::Link> PodLinks(const Sandbox& sandbox) {
  std::vector<net::Link> links;
  const std::string path = sandbox.view().netns_path;
  if (!sandbox.has_network || path.empty()) return links;
  const auto netns = net::Netns::Open(path);
  if (!netns.ok()) return links;  // stopped meanwhile
  auto rtnl = net::Rtnl::OpenIn(*netns, kNetlinkPatience);
  if (!rtnl.ok()) return links;
  links = rtnl->ListLinks().value_or({});
  std::erase_if(links, [](const net::Link& link) { return link.name == "lo"; });
  return links;
}

void FillNetwork(const std::vector<net::Link>& links, api::NetworkUsage* usage) {
  usage->set_timestamp(Nanoseconds(Clock::Real().WallNow()));
  for (const net::Link& link : links) {
    api::NetworkInterfaceUsage* interface = usage->add_interfaces();
    interface->set_name(link.name);
    interface->mutable_rx_bytes()->set_value(link.counters.rx_bytes);
    interface->mutable_rx_errors()->set_value(link.counters.rx_errors);
    interface->mutable_tx_bytes()->set_value(link.counters.tx_bytes);
    interface->mutable_tx_errors()->set_value(link.counters.tx_errors);
  }
  *usage->mutable_default_interface() = usage->interfaces(0);
}

void FillPressure(const runtime::Pressure::Share& share, api::PsiData* data) {
  data->set_total(share.total_us * 1000);  // CRI counts nanoseconds
  data->set_avg10(share.avg10);
  data->set_avg60(share.avg60);
  data->set_avg300(share.avg300);
}

template <class Usage>
void FillPressure(const std::optional<runtime::Pressure>& pressure, Usage* usage) {
  if (!pressure) return;
  FillPressure(pressure->some, usage->mutable_psi()->mutable_some());
  FillPressure(pressure->full, usage->mutable_psi()->mutable_full());
}

std::optional<FileSystemFigures> ReadFileSystem(const std::string& directory) {
  struct stat info {};
  struct statvfs figures {};
  if (stat(directory.c_str(), &info) != 0 || statvfs(directory.c_str(), &figures) != 0) return {};
  return FileSystemFigures{.device = BlockDeviceName(major(info.st_dev), minor(info.st_dev)),
                           .size_bytes = figures.f_blocks * figures.f_frsize,
                           .inodes = figures.f_files,
                           .inodes_free = figures.f_ffree};
}

void SetIf(const std::optional<uint64_t>& value, api::UInt64Value* field) {
  field->set_value(value.value_or(0));
}

}  // namespace

uint64_t StatsReader::NanoCores(const std::string& id, WallTime time, uint64_t usage_nanos) {
  const std::lock_guard lock(mutex_);
  CpuSample& last = cpu_[id];
  const auto elapsed = std::chrono::duration_cast<std::chrono::nanoseconds>(time - last.time);
  if (last.time == WallTime() || usage_nanos < last.usage_nanos) {
    last = {time, usage_nanos, 0};
  } else if (elapsed >= kMinCpuInterval) {
    const double rate =
        static_cast<double>(usage_nanos - last.usage_nanos) / static_cast<double>(elapsed.count());
    last = {time, usage_nanos, static_cast<uint64_t>(rate * 1e9)};
  }
  return last.nano_cores;
}

template <class Stats>
void StatsReader::FillCgroup(const std::string& id, const runtime::CgroupStats& read,
                             Stats* stats) {
  const int64_t time = Nanoseconds(read.time);
  if (read.cpu_usage_nanos) {
    api::CpuUsage* cpu = stats->mutable_cpu();
    cpu->set_timestamp(time);
    cpu->mutable_usage_core_nano_seconds()->set_value(*read.cpu_usage_nanos);
    cpu->mutable_usage_nano_cores()->set_value(NanoCores(id, read.time, *read.cpu_usage_nanos));
    FillPressure(read.cpu_pressure, cpu);
  }
  if (read.memory_usage_bytes) {
    api::MemoryUsage* memory = stats->mutable_memory();
    memory->set_timestamp(time);
    SetIf(read.memory_usage_bytes, memory->mutable_usage_bytes());
    SetIf(read.memory_working_set_bytes, memory->mutable_working_set_bytes());
    SetIf(read.memory_rss_bytes, memory->mutable_rss_bytes());
    if (read.memory_available_bytes) {
      SetIf(read.memory_available_bytes, memory->mutable_available_bytes());
    }
    SetIf(read.page_faults, memory->mutable_page_faults());
    SetIf(read.major_page_faults, memory->mutable_major_page_faults());
    FillPressure(read.memory_pressure, memory);
  }
  if (read.io_pressure) {
    stats->mutable_io()->set_timestamp(time);
    FillPressure(read.io_pressure, stats->mutable_io());
  }
}

void StatsReader::FillWritableLayer(const Container& container, api::FilesystemUsage* usage) {
  const DiskUsage::Figures figures = disk_.Read(container.id, container.writable_dir);
  usage->set_timestamp(
      Nanoseconds(figures.measured == WallTime() ? Clock::Real().WallNow() : figures.measured));
  usage->mutable_fs_id()->set_mountpoint(container.writable_dir);
  usage->mutable_used_bytes()->set_value(figures.bytes);
  usage->mutable_inodes_used()->set_value(figures.inodes);
}

api::ContainerStats StatsReader::ReadContainer(const Container& container) {
  api::ContainerStats stats;
  api::ContainerAttributes* attributes = stats.mutable_attributes();
  attributes->set_id(container.id);
  *attributes->mutable_metadata() = container.fixed.metadata();
  *attributes->mutable_labels() = container.fixed.labels();
  *attributes->mutable_annotations() = container.fixed.annotations();
  if (const auto read = runtime_.ContainerStats(container.id); read.ok()) {
    FillCgroup(container.id, *read, &stats);
    if (read->swap_usage_bytes) {
      stats.mutable_swap()->set_timestamp(Nanoseconds(read->time));
      SetIf(read->swap_usage_bytes, stats.mutable_swap()->mutable_swap_usage_bytes());
      if (read->swap_available_bytes) {
        SetIf(read->swap_available_bytes, stats.mutable_swap()->mutable_swap_available_bytes());
      }
    }
  }
  FillWritableLayer(container, stats.mutable_writable_layer());
  return stats;
}

api::PodSandboxStats StatsReader::ReadSandbox(const Sandbox& sandbox,
                                              const std::vector<ContainerPtr>& containers) {
  const api::PodSandboxConfig& config = sandbox.request.config();
  api::PodSandboxStats stats;
  api::PodSandboxAttributes* attributes = stats.mutable_attributes();
  attributes->set_id(sandbox.id);
  *attributes->mutable_metadata() = config.metadata();
  *attributes->mutable_labels() = config.labels();
  *attributes->mutable_annotations() = config.annotations();
  api::LinuxPodSandboxStats* pod = stats.mutable_linux();
  if (const auto read = runtime_.SandboxStats(sandbox.id); read.ok()) {
    FillCgroup(sandbox.id, *read, pod);
    if (read->pids) {
      pod->mutable_process()->set_timestamp(Nanoseconds(read->time));
      SetIf(read->pids, pod->mutable_process()->mutable_process_count());
    }
  }
  const std::vector<net::Link> links = PodLinks(sandbox);
  if (!links.empty()) FillNetwork(links, pod->mutable_network());
  for (const ContainerPtr& container : containers) {
    *pod->add_containers() = ReadContainer(*container);
  }
  return stats;
}

api::PodSandboxMetrics StatsReader::ReadMetrics(const Sandbox& sandbox,
                                                const std::vector<ContainerPtr>& containers) {
  const api::PodSandboxMetadata& metadata = sandbox.request.config().metadata();
  const SandboxView view = sandbox.view();
  api::PodSandboxMetrics metrics;
  metrics.set_pod_sandbox_id(sandbox.id);
  MetricSource pod;
  pod.pod = metadata.name();
  pod.name_space = metadata.namespace_();
  pod.now = Clock::Real().WallNow();
  MetricSource shared = pod;
  pod.is_pod = true;
  pod.id = sandbox.id;
  pod.cgroup_path = view.cgroup_path;
  pod.started = view.created;
  pod.links = PodLinks(sandbox);
  if (auto usage = runtime_.SandboxMetrics(sandbox.id); usage.ok()) pod.usage = *std::move(usage);
  *metrics.mutable_metrics() = RenderMetrics(pod);
  for (const ContainerPtr& container : containers) {
    const ContainerView seen = container->view();
    auto usage = runtime_.ContainerMetrics(container->id);
    if (seen.state != runtime::ContainerState::kRunning || !usage.ok()) continue;
    MetricSource source = shared;
    source.cgroup_path = seen.cgroup_path;
    source.id = container->id;
    source.image = container->fixed.image().image();
    source.container = container->fixed.metadata().name();
    source.started = seen.started;
    source.usage = *std::move(usage);
    source.resources = seen.resources;
    source.disk = disk_.Read(container->id, container->writable_dir);
    source.file_system = ReadFileSystem(container->writable_dir);
    api::ContainerMetrics* of_container = metrics.add_container_metrics();
    of_container->set_container_id(container->id);
    *of_container->mutable_metrics() = RenderMetrics(source);
  }
  return metrics;
}

void StatsReader::Forget(const std::string& id) {
  disk_.Forget(id);
  const std::lock_guard lock(mutex_);
  cpu_.erase(id);
}

}  // namespace skiff::cri
