#include "cni/fastpath/tracking.h"

#include <algorithm>
#include <charconv>
#include <sstream>
#include <utility>
#include <vector>

#include "base/net/netns.h"
#include "base/os/files.h"

namespace skiff::cni {
namespace {

constexpr std::string_view kLiberal = "nf_conntrack_tcp_be_liberal";
constexpr std::string_view kResets = "nf_conntrack_tcp_ignore_invalid_rst";  // since Linux 5.14
constexpr std::string_view kUnacknowledged = "nf_conntrack_tcp_timeout_unacknowledged";
constexpr std::string_view kEstablished = "nf_conntrack_tcp_timeout_established";
constexpr size_t kLongestRecord = 4096;

using Settings = std::vector<std::pair<std::string, std::string>>;  // name and value

std::string PathOf(std::string_view name) { return "netfilter/" + std::string(name); }

Result<uint64_t> ReadNumber(std::string_view name, const std::string& sysctl_root) {
  const std::string text = TRY(net::ReadNetSysctl(PathOf(name), sysctl_root));
  uint64_t number = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), number).ec != std::errc()) {
    return Error(Code::kDataLoss, std::string(name) + " is \"" + text + "\", which is no number");
  }
  return number;
}

bool Has(const Settings& settings, std::string_view name) {
  return std::any_of(settings.begin(), settings.end(),
                     [name](const auto& setting) { return setting.first == name; });
}

// "NAME VALUE" a line; what is neither of ours nor a number is left out.
Result<Settings> ReadRecord(const std::string& record) {
  Settings before;
  auto text = ReadFile(record, kLongestRecord);
  if (!text.ok()) {
    if (text.error().code() == Code::kNotFound) return before;
    return std::move(text).error();
  }
  std::istringstream words(*text);
  for (std::string name, value; words >> name >> value;) {
    const bool ours = name == kLiberal || name == kResets || name == kUnacknowledged;
    const bool number = value.find_first_not_of("0123456789") == std::string::npos;
    if (ours && number) before.emplace_back(name, value);
  }
  return before;
}

}  // namespace

Result<> LoosenTracking(const std::string& record, const std::string& sysctl_root) {
  auto liberal = net::ReadNetSysctl(PathOf(kLiberal), sysctl_root);
  if (!liberal.ok() && liberal.error().code() == Code::kNotFound) {
    return Error(Code::kUnimplemented,
                 "no settings of connection tracking (" + liberal.error().message() + ")");
  }
  Settings wanted = {{std::string(kLiberal), "1"}};
  if (net::ReadNetSysctl(PathOf(kResets), sysctl_root).ok()) wanted.emplace_back(kResets, "1");
  const uint64_t longest = TRY(ReadNumber(kEstablished, sysctl_root));
  const uint64_t unacknowledged = TRY(ReadNumber(kUnacknowledged, sysctl_root));
  wanted.emplace_back(kUnacknowledged, std::to_string(std::max(longest, unacknowledged)));
  const Settings before = TRY(ReadRecord(record));
  std::string text;
  for (const auto& [name, value] : before) text += name + " " + value + "\n";
  Settings changes;
  for (const auto& [name, value] : wanted) {
    const std::string now = TRY(net::ReadNetSysctl(PathOf(name), sysctl_root));
    if (now == value) continue;
    changes.emplace_back(name, value);
    if (!Has(before, name)) text += name + " " + now + "\n";
  }
  if (changes.empty()) return {};
  TRY(WriteFileAtomic(record, text));
  for (const auto& [name, value] : changes) {
    TRY(net::WriteNetSysctl(PathOf(name), value, sysctl_root));
  }
  return {};
}

Result<> RestoreTracking(const std::string& record, const std::string& sysctl_root) {
  if (!PathExists(record)) return {};
  for (const auto& [name, value] : TRY(ReadRecord(record))) {
    TRY(net::WriteNetSysctl(PathOf(name), value, sysctl_root));
  }
  return RemoveFile(record);
}

}  // namespace skiff::cni
