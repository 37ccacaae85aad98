#include "runtime/linux/cgroup.h"

#include <fcntl.h>
#include <libcgroup.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cmath>
#include <mutex>

#include "base/failpoint.h"
#include "base/os/files.h"
#include "runtime/linux/cgroup_internal.h"

namespace skiff::runtime {
namespace {

constexpr std::chrono::seconds kEmptyWait{5};

Error LibcgroupError(int code, const std::string& what) {
  if (code == ECGOTHER) return Error::Sys(cgroup_get_last_errno(), "cgroup", what);
  return Error(Code::kInternal, "cgroup " + what + ": " + cgroup_strerror(code));
}

struct CgroupDeleter {
  void operator()(cgroup* group) const { cgroup_free(&group); }
};
using CgroupPtr = std::unique_ptr<cgroup, CgroupDeleter>;

// The mount points of filesystems of that type: mountinfo(5), fields 5 and, after the dash, 1.
Result<std::vector<std::string>> FindMounts(const std::string& type) {
  std::vector<std::string> mounts;
  std::string text = TRY(ReadFile("/proc/self/mountinfo"));
  std::string_view rest = text;
  while (!rest.empty()) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (line.find(" - " + type + " ") == std::string_view::npos) continue;
    for (int field = 0; field < 4; ++field) line.remove_prefix(line.find(' ') + 1);
    mounts.emplace_back(line.substr(0, line.find(' ')));
  }
  return mounts;
}

std::vector<std::string> Words(std::string_view text) {
  std::vector<std::string> words;
  while (!text.empty()) {
    size_t end = std::min(text.find_first_of(" \n"), text.size());
    if (end > 0) words.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return words;
}

bool IsPopulated(const std::string& events_file) {
  auto keys = ReadCgroupKeys(events_file);
  auto populated = keys.find("populated");
  return populated != keys.end() && populated->second != 0;
}

// Waits until the cgroup's last process has ended. cgroup.events polls as changed (POLLPRI).
void WaitUntilEmpty(const std::string& directory, std::chrono::steady_clock::time_point deadline) {
  std::string events_file = directory + "/cgroup.events";
  Result<UniqueFd> events = OpenFile(events_file, O_RDONLY);
  pollfd wait{.fd = events.ok() ? events->get() : -1, .events = POLLPRI, .revents = 0};
  for (;;) {
    auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return;
    if (events.ok() && !IsPopulated(events_file)) return;
    // Version 1 has no such event: then the caller tries again after a moment.
    (void)::poll(&wait, 1, events.ok() ? static_cast<int>(left.count()) : 2);
    if (!events.ok()) return;
  }
}

}  // namespace

uint64_t WeightFromShares(uint64_t shares) {
  if (shares <= 2) return 1;
  if (shares >= 262144) return 10000;
  double log = std::log2(static_cast<double>(shares));
  double exponent = (log * log + 125 * log) / 612.0 - 7.0 / 34.0;
  return static_cast<uint64_t>(std::ceil(std::pow(10, exponent)));
}

Result<> CheckCgroupPath(const std::string& path) {
  auto bad = [&] { return Error(Code::kInvalidArgument, "invalid cgroup path \"" + path + "\""); };
  if (path.size() < 2 || path[0] != '/' || path.size() > 2048) return bad();
  std::string_view rest = std::string_view(path).substr(1);
  while (true) {
    std::string_view part = rest.substr(0, rest.find('/'));
    if (part.empty() || part == "." || part == "..") return bad();
    bool clean = std::none_of(part.begin(), part.end(),
                              [](unsigned char c) { return c < 0x20 || c == 0x7f; });
    if (!clean) return bad();
    if (part.size() == rest.size()) return {};
    rest.remove_prefix(part.size() + 1);
  }
}

Result<CgroupMounts> FindCgroupMounts() {
  // libcgroup keeps one table of mounts for the process.
  static std::once_flag once;
  static int initialised = 0;
  std::call_once(once, [] { initialised = cgroup_init(); });
  CgroupMounts mounts;
  std::vector<std::string> unified = TRY(FindMounts("cgroup2"));
  if (!unified.empty()) mounts.unified = unified.front();
  mounts.v1 = TRY(FindMounts("cgroup"));
  if (!mounts.unified.empty()) {
    mounts.unified_controllers = Words(TRY(ReadFile(mounts.unified + "/cgroup.controllers")));
  }
  // ECGROUPNOTMOUNTED where there is nothing but an empty v2.
  if (initialised != 0) return mounts;
  void* handle = nullptr;
  cgroup_mount_point info;
  for (int more = cgroup_get_controller_begin(&handle, &info); more == 0;
       more = cgroup_get_controller_next(&handle, &info)) {
    if (mounts.unified != info.path) mounts.controllers.emplace(info.name, info.path);
  }
  cgroup_get_controller_end(&handle);
  return mounts;
}

Result<std::unique_ptr<Cgroups>> Cgroups::Open() {
  CgroupMounts mounts = TRY(FindCgroupMounts());
  auto carries = [&](const char* name) {
    const auto& list = mounts.unified_controllers;
    return std::find(list.begin(), list.end(), name) != list.end();
  };
  if (carries("memory") || carries("cpu") || mounts.controllers.empty()) {
    if (mounts.unified.empty()) {
      return Error(Code::kFailedPrecondition, "no cgroup hierarchy is mounted");
    }
    return MakeCgroupsV2(std::move(mounts));
  }
  return MakeCgroupsV1(std::move(mounts));
}

Result<> Cgroups::Remove(const std::string& path) {
  TRY(CheckCgroupPath(path));
  TRY(failpoint::Reach("remove cgroup", path));
  // As most times: all in it has ended.
  return RemoveIfEmpty(path) ? Result<>() : KillAndRemove(path);
}

Result<> ApplyCgroupSettings(const std::string& path, const std::vector<std::string>& controllers,
                             const std::vector<CgroupSetting>& settings) {
  TRY(failpoint::Reach("set up cgroup", path));
  if (settings.empty()) return {};
  CgroupPtr group(cgroup_new_cgroup(path.c_str() + 1));
  if (!group) return Error::Sys(ENOMEM, "cgroup_new_cgroup");
  std::map<std::string, cgroup_controller*> added;
  for (const std::string& name : controllers) {
    added[name] = cgroup_add_controller(group.get(), name.c_str());
    if (added[name] == nullptr) return Error(Code::kInternal, "cgroup controller " + name);
  }
  for (const CgroupSetting& setting : settings) {
    int code = cgroup_add_value_string(added[setting.controller], setting.file.c_str(),
                                       setting.value.c_str());
    if (code != 0) return LibcgroupError(code, setting.file);
  }
  int code = cgroup_modify_cgroup(group.get());
  if (code == 0) return {};
  // libcgroup does not say which file the kernel refused: the list helps.
  std::string what = path;
  for (const CgroupSetting& setting : settings) what += " " + setting.file + "=" + setting.value;
  return LibcgroupError(code, what);
}

std::optional<uint64_t> ReadCgroupNumber(const std::string& file) {
  Result<std::string> text = ReadFile(file, 4096);
  if (!text.ok()) return {};
  uint64_t value = 0;
  auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc()) return {};
  return value;
}

std::map<std::string, uint64_t> ReadCgroupKeys(const std::string& file) {
  std::map<std::string, uint64_t> keys;
  Result<std::string> text = ReadFile(file, 64 << 10);
  if (!text.ok()) return keys;
  std::string_view rest = *text;
  while (!rest.empty()) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    size_t space = line.find(' ');
    if (space == std::string_view::npos) continue;
    uint64_t value = 0;
    auto [end, error] = std::from_chars(line.data() + space + 1, line.data() + line.size(), value);
    if (error == std::errc()) keys[std::string(line.substr(0, space))] = value;
  }
  return keys;
}

namespace {

Result<> RemoveCgroupChildren(const std::string& directory) {
  Result<std::vector<std::string>> names = ListSubdirectories(directory);
  if (!names.ok()) {
    if (names.error().code() == Code::kNotFound) return {};
    return std::move(names).error();
  }
  for (const std::string& name : *names) TRY(RemoveCgroupDirectory(directory + "/" + name));
  return {};
}

}  // namespace

Result<> RemoveCgroupDirectory(const std::string& directory) {
  auto deadline = std::chrono::steady_clock::now() + kEmptyWait;
  bool children_removed = false;
  // At once, most times: to list a cgroup costs more than to remove it.
  while (::rmdir(directory.c_str()) != 0) {
    if (errno == ENOENT) return {};
    if (errno != EBUSY || std::chrono::steady_clock::now() >= deadline) {
      return Error::Sys(errno, "rmdir", directory);
    }
    if (children_removed) WaitUntilEmpty(directory, deadline);
    TRY(RemoveCgroupChildren(directory));
    children_removed = true;
  }
  return {};
}

}  // namespace skiff::runtime
