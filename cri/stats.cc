#include "cri/stats.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <charconv>
#include <memory>

#include "base/os/files.h"
#include "cri/render.h"

namespace skiff::cri {
namespace {

// Two readings closer than this give no rate worth telling.
constexpr std::chrono::milliseconds kMinCpuInterval{100};
// How long what a container wrote is remembered, and how many entries are looked at to find out.
constexpr std::chrono::seconds kDiskLife{30};
constexpr size_t kMaxDiskEntries = 100'000;

struct DirCloser {
  void operator()(DIR* directory) const { closedir(directory); }
};

// Adds up one directory tree, on one file system, up to the bound.
void AddTree(int parent, const char* name, size_t* entries, uint64_t* bytes, uint64_t* inodes) {
  UniqueFd fd(openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) return;
  const std::unique_ptr<DIR, DirCloser> directory(fdopendir(fd.get()));
  if (directory == nullptr) return;
  const int here = fd.Release();  // the DIR owns it
  while (const dirent* entry = readdir(directory.get())) {
    const std::string_view child = entry->d_name;
    if (child == "." || child == ".." || ++*entries > kMaxDiskEntries) continue;
    struct stat info {};
    if (fstatat(here, entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0) continue;
    *bytes += static_cast<uint64_t>(info.st_blocks) * 512;
    ++*inodes;
    if (S_ISDIR(info.st_mode)) AddTree(here, entry->d_name, entries, bytes, inodes);
  }
}

uint64_t ReadCounter(const std::string& interface, const char* counter) {
  const auto text = ReadFile("/sys/class/net/" + interface + "/statistics/" + counter, 64);
  uint64_t value = 0;
  if (text.ok()) std::from_chars(text->data(), text->data() + text->size(), value);
  return value;
}

// The node's end of the pair sees the pod's traffic the other way round.
void FillNetwork(const SandboxView& view, api::NetworkUsage* usage) {
  usage->set_timestamp(Nanoseconds(Clock::Real().WallNow()));
  api::NetworkInterfaceUsage* pod = usage->mutable_default_interface();
  pod->set_name("eth0");
  pod->mutable_rx_bytes()->set_value(ReadCounter(view.host_interface, "tx_bytes"));
  pod->mutable_rx_errors()->set_value(ReadCounter(view.host_interface, "tx_errors"));
  pod->mutable_tx_bytes()->set_value(ReadCounter(view.host_interface, "rx_bytes"));
  pod->mutable_tx_errors()->set_value(ReadCounter(view.host_interface, "rx_errors"));
  *usage->add_interfaces() = *pod;
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
  }
}

void StatsReader::FillWritableLayer(const Container& container, api::FilesystemUsage* usage) {
  const SteadyTime now = Clock::Real().Now();
  DiskSample sample;
  {
    const std::lock_guard lock(mutex_);
    const auto it = disk_.find(container.id);
    if (it != disk_.end()) sample = it->second;
  }
  if (sample.time == SteadyTime() || now - sample.time > kDiskLife) {
    sample = {now, 0, 0};
    size_t entries = 0;
    AddTree(AT_FDCWD, container.writable_dir.c_str(), &entries, &sample.bytes, &sample.inodes);
    const std::lock_guard lock(mutex_);
    disk_[container.id] = sample;
  }
  usage->set_timestamp(Nanoseconds(Clock::Real().WallNow()));
  usage->mutable_fs_id()->set_mountpoint(container.writable_dir);
  usage->mutable_used_bytes()->set_value(sample.bytes);
  usage->mutable_inodes_used()->set_value(sample.inodes);
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
    }
  }
  FillWritableLayer(container, stats.mutable_writable_layer());
  return stats;
}

api::PodSandboxStats StatsReader::ReadSandbox(const Sandbox& sandbox,
                                              const std::vector<ContainerPtr>& containers) {
  const api::PodSandboxConfig& config = sandbox.request.config();
  const SandboxView view = sandbox.view();
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
  if (!view.host_interface.empty()) FillNetwork(view, pod->mutable_network());
  for (const ContainerPtr& container : containers) {
    *pod->add_containers() = ReadContainer(*container);
  }
  return stats;
}

void StatsReader::Forget(const std::string& id) {
  const std::lock_guard lock(mutex_);
  cpu_.erase(id);
  disk_.erase(id);
}

}  // namespace skiff::cri
