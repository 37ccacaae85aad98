// The usage files that both kinds of cgroups have, and /proc of the processes in them.
#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <memory>

#include "base/os/files.h"
#include "runtime/linux/cgroup_internal.h"

namespace skiff::runtime {
namespace {

constexpr size_t kMaxProcesses = 512;
constexpr uint64_t kMaxDescriptors = 65536;

struct DirectoryCloser {
  void operator()(DIR* directory) const { ::closedir(directory); }
};
using Directory = std::unique_ptr<DIR, DirectoryCloser>;

// The next piece of text up to a separator, which goes with it.
std::string_view Cut(std::string_view& rest, char separator) {
  std::string_view piece = rest.substr(0, rest.find(separator));
  rest.remove_prefix(std::min(rest.size(), piece.size() + 1));
  return piece;
}

template <class Number>
Number ParseNumber(std::string_view text) {
  Number value{};
  (void)std::from_chars(text.data(), text.data() + text.size(), value);  // else it stays 0
  return value;
}

void CountDescriptors(const std::string& process, ProcessUsage& usage) {
  Directory directory(::opendir((process + "/fd").c_str()));
  if (directory == nullptr) return;  // it has ended
  while (const dirent* entry = ::readdir(directory.get())) {
    if (entry->d_name[0] == '.') continue;
    if (++usage.file_descriptors >= kMaxDescriptors) return;
    char target[16];
    ssize_t length = ::readlinkat(::dirfd(directory.get()), entry->d_name, target, sizeof target);
    if (length > 0 &&
        std::string_view(target, static_cast<size_t>(length)).starts_with("socket:")) {
      ++usage.sockets;
    }
  }
}

std::optional<uint64_t> OpenFilesLimit(pid_t pid) {
  rlimit limit{};
  if (::prlimit(pid, RLIMIT_NOFILE, nullptr, &limit) != 0) return {};  // it has ended
  if (limit.rlim_cur == RLIM_INFINITY) return {};
  return limit.rlim_cur;
}

}  // namespace

std::optional<Pressure> ParsePressure(std::string_view text) {
  Pressure pressure;
  bool found = false;
  while (!text.empty()) {
    std::string_view line = Cut(text, '\n');
    std::string_view kind = Cut(line, ' ');
    if (kind != "some" && kind != "full") continue;
    found = true;
    Pressure::Share& share = kind == "some" ? pressure.some : pressure.full;
    while (!line.empty()) {
      std::string_view value = Cut(line, ' ');
      std::string_view key = Cut(value, '=');
      if (key == "avg10") share.avg10 = ParseNumber<double>(value);
      if (key == "avg60") share.avg60 = ParseNumber<double>(value);
      if (key == "avg300") share.avg300 = ParseNumber<double>(value);
      if (key == "total") share.total_us = ParseNumber<uint64_t>(value);
    }
  }
  if (!found) return {};
  return pressure;
}

std::optional<Pressure> ReadPressure(const std::string& file) {
  Result<std::string> text = ReadFile(file, 4096);
  if (!text.ok()) return {};
  return ParsePressure(*text);
}

std::vector<BlockDeviceUsage> ParseIoStat(std::string_view text) {
  std::vector<BlockDeviceUsage> devices;
  while (!text.empty()) {
    std::string_view line = Cut(text, '\n');
    std::string_view minor = Cut(line, ' ');
    BlockDeviceUsage device;
    device.major = ParseNumber<uint32_t>(Cut(minor, ':'));
    device.minor = ParseNumber<uint32_t>(minor);
    bool any = false;
    while (!line.empty()) {
      std::string_view value = Cut(line, ' ');
      std::string_view key = Cut(value, '=');
      uint64_t* field = key == "rbytes"   ? &device.read_bytes
                        : key == "wbytes" ? &device.write_bytes
                        : key == "rios"   ? &device.reads
                        : key == "wios"   ? &device.writes
                                          : nullptr;
      if (field == nullptr) continue;
      *field = ParseNumber<uint64_t>(value);
      any = true;
    }
    if (any) devices.push_back(device);
  }
  return devices;
}

std::vector<HugepageUsage> ReadHugepages(const std::string& directory, const char* usage,
                                         const char* peak) {
  constexpr std::string_view kPrefix = "hugetlb.";
  std::vector<HugepageUsage> pages;
  for (const std::string& name : ListDirectory(directory).value_or({})) {
    if (!name.starts_with(kPrefix)) continue;
    std::string_view rest = std::string_view(name).substr(kPrefix.size());
    std::string size(Cut(rest, '.'));
    if (rest != usage) continue;
    const std::string stem = directory + "/" + std::string(kPrefix) + size + ".";
    std::optional<uint64_t> used = ReadCgroupNumber(stem + usage);
    if (used) pages.push_back({size, *used, ReadCgroupNumber(stem + peak)});
  }
  return pages;
}

std::optional<ProcessUsage> ReadProcessUsage(const std::string& members) {
  Result<std::string> text = ReadFile(members, 1 << 20);
  if (!text.ok()) return {};
  ProcessUsage usage;
  std::string_view rest = *text;
  while (!rest.empty()) {
    std::string_view pid = Cut(rest, '\n');
    if (pid.empty()) continue;
    if (++usage.processes == 1) usage.open_files_limit = OpenFilesLimit(ParseNumber<pid_t>(pid));
    if (usage.processes <= kMaxProcesses) CountDescriptors("/proc/" + std::string(pid), usage);
  }
  return usage;
}

}  // namespace skiff::runtime
