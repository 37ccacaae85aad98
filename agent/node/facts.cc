#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "agent/node/node_object.h"
#include "base/os/files.h"

namespace skiff::agent {
namespace {

std::string ReadWord(const std::string& path) {
  auto text = ReadFile(path, 4096);
  if (!text.ok()) return {};
  return text->substr(0, text->find_first_of("\n"));
}

// PRETTY_NAME of os-release(5).
std::string OsImage() {
  for (const char* path : {"/etc/os-release", "/usr/lib/os-release"}) {
    auto text = ReadFile(path, 64 << 10);
    if (!text.ok()) continue;
    size_t at = text->find("PRETTY_NAME=");
    if (at == std::string::npos) continue;
    std::string value = text->substr(at + 12, text->find('\n', at) - at - 12);
    std::erase(value, '"');
    return value;
  }
  return "Linux";
}

std::string GoArchitecture(const std::string& machine) {
  if (machine == "x86_64") return "amd64";
  if (machine == "aarch64") return "arm64";
  if (machine.starts_with("armv")) return "arm";
  return machine;
}

// "MemAvailable:   123 kB" of /proc/meminfo, in bytes.
uint64_t MemInfo(const std::string& text, const char* key) {
  size_t at = text.find(std::string(key) + ":");
  if (at == std::string::npos) return 0;
  size_t digits = text.find_first_of("0123456789", at);
  uint64_t kilobytes = 0;
  if (digits != std::string::npos) {
    (void)std::from_chars(text.data() + digits, text.data() + text.size(), kilobytes);
  }
  return kilobytes * 1024;
}

}  // namespace

MachineFacts ReadMachineFacts() {
  MachineFacts facts;
  struct utsname names = {};
  (void)::uname(&names);
  facts.kernel_version = names.release;
  facts.architecture = GoArchitecture(names.machine);
  facts.hostname = names.nodename;
  facts.machine_id = ReadWord("/etc/machine-id");
  facts.system_uuid = ReadWord("/sys/class/dmi/id/product_uuid");
  if (facts.system_uuid.empty()) facts.system_uuid = facts.machine_id;
  facts.boot_id = ReadWord("/proc/sys/kernel/random/boot_id");
  facts.os_image = OsImage();
  facts.milli_cpu = 1000 * std::max<int64_t>(::sysconf(_SC_NPROCESSORS_ONLN), 1);
  auto memory = ReadFile("/proc/meminfo", 64 << 10);
  if (memory.ok()) {
    facts.memory_bytes = static_cast<int64_t>(MemInfo(*memory, "MemTotal"));
    facts.swap_bytes = static_cast<int64_t>(MemInfo(*memory, "SwapTotal"));
  }
  return facts;
}

NodeHealth ObserveHealth(CriClient& cri, const std::string& state_dir) {
  NodeHealth health;
  auto status = cri.Status();
  if (!status.ok()) {
    health.runtime_message = "container runtime is down: " + status.error().message();
  } else {
    health.handlers = std::move(status->handlers);
    health.supplemental_groups_policy = status->supplemental_groups_policy;
    for (const RuntimeCondition& condition : status->conditions) {
      std::string why = condition.reason + ": " + condition.message;
      if (condition.type == "RuntimeReady") {
        health.runtime_ready = condition.status;
        if (!condition.status) health.runtime_message = "container runtime not ready: " + why;
      } else if (condition.type == "NetworkReady") {
        health.network_ready = condition.status;
        if (!condition.status) {
          health.network_message = "container runtime network not ready: " + why;
        }
      }
    }
  }
  if (auto version = cri.Version(); version.ok()) health.runtime = *version;
  if (auto images = cri.ListImages(); images.ok()) health.images = *std::move(images);
  auto memory = ReadFile("/proc/meminfo", 64 << 10);
  if (memory.ok()) health.available_memory_bytes = MemInfo(*memory, "MemAvailable");
  struct statvfs disk = {};
  if (::statvfs(state_dir.c_str(), &disk) == 0) {
    health.disk_bytes = static_cast<uint64_t>(disk.f_blocks) * disk.f_frsize;
    health.available_disk_bytes = static_cast<uint64_t>(disk.f_bavail) * disk.f_frsize;
    health.disk_inodes = disk.f_files;
    health.available_inodes = disk.f_favail;
  }
  std::string max_pids = ReadWord("/proc/sys/kernel/pid_max");
  (void)std::from_chars(max_pids.data(), max_pids.data() + max_pids.size(), health.max_pids);
  struct sysinfo info = {};
  if (::sysinfo(&info) == 0) health.used_pids = info.procs;
  return health;
}

}  // namespace skiff::agent
