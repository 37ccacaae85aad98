#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <set>

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

// Interfaces with a default route (proc(5), net/route: destination 00000000, flags with RTF_UP;
// net/ipv6_route: a destination prefix of length 00).
std::set<std::string> DefaultInterfaces() {
  std::set<std::string> names;
  auto text = ReadFile("/proc/net/route", 1 << 20);
  std::string lines = text.ok() ? *text : "";
  for (size_t start = 0; start < lines.size();) {
    size_t end = std::min(lines.find('\n', start), lines.size());
    std::string line = lines.substr(start, end - start);
    start = end + 1;
    size_t tab = line.find('\t');
    if (tab != std::string::npos && line.compare(tab + 1, 8, "00000000") == 0) {
      names.insert(line.substr(0, tab));
    }
  }
  return names;
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

std::vector<std::string> FindNodeIps() {
  std::set<std::string> preferred = DefaultInterfaces();
  std::string best_v4, best_v6;
  bool v4_preferred = false, v6_preferred = false;
  struct ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return {"127.0.0.1"};
  for (const struct ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || (entry->ifa_flags & IFF_UP) == 0 ||
        (entry->ifa_flags & IFF_LOOPBACK) != 0) {
      continue;
    }
    bool prefer = preferred.contains(entry->ifa_name);
    char text[INET6_ADDRSTRLEN];
    if (entry->ifa_addr->sa_family == AF_INET) {
      const auto* address = reinterpret_cast<const struct sockaddr_in*>(entry->ifa_addr);
      ::inet_ntop(AF_INET, &address->sin_addr, text, sizeof text);
      if (best_v4.empty() || (prefer && !v4_preferred)) best_v4 = text;
      v4_preferred = v4_preferred || prefer;
    } else if (entry->ifa_addr->sa_family == AF_INET6) {
      const auto* address = reinterpret_cast<const struct sockaddr_in6*>(entry->ifa_addr);
      if (IN6_IS_ADDR_LINKLOCAL(&address->sin6_addr)) continue;
      ::inet_ntop(AF_INET6, &address->sin6_addr, text, sizeof text);
      if (prefer && !v6_preferred) {
        best_v6 = text;
        v6_preferred = true;
      }
    }
  }
  ::freeifaddrs(list);
  std::vector<std::string> ips;
  if (!best_v4.empty()) ips.push_back(best_v4);
  if (!best_v6.empty()) ips.push_back(best_v6);
  if (ips.empty()) ips.push_back("127.0.0.1");
  return ips;
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
