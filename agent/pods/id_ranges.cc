#include "agent/pods/id_ranges.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>

#include "base/os/files.h"

namespace skiff::agent {
namespace {

constexpr const char* kRecordName = "/user-namespace";
constexpr size_t kRecordLimitBytes = 64;
constexpr uint64_t kEnd = uint64_t{1} << 32;

template <class Number>
std::optional<Number> WholeNumber(std::string_view text) {
  Number number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// Nothing where the pod has no range.
Result<std::optional<uint32_t>> ReadRange(const std::string& pod_dir) {
  const std::string path = pod_dir + kRecordName;
  auto text = ReadFile(path, kRecordLimitBytes);
  if (!text.ok() && text.error().code() == Code::kNotFound) return std::optional<uint32_t>();
  std::string record = TRY(std::move(text));
  if (record.ends_with('\n')) record.pop_back();
  const auto first = WholeNumber<uint32_t>(record);
  if (!first || *first == 0 || *first % IdRanges::kLength != 0) {
    return Error(Code::kDataLoss, "damaged record of a pod's user ids: " + path);
  }
  return first;
}

}  // namespace

std::vector<IdSpan> ParseSubordinateIds(std::string_view text) {
  std::vector<IdSpan> spans;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const size_t count_at = line.rfind(':');
    if (count_at == std::string_view::npos) continue;
    const size_t first_at = line.substr(0, count_at).rfind(':');
    if (first_at == std::string_view::npos) continue;
    const auto first = WholeNumber<uint32_t>(line.substr(first_at + 1, count_at - first_at - 1));
    const auto count = WholeNumber<uint32_t>(line.substr(count_at + 1));
    if (first && count && *count > 0) spans.push_back({*first, *count});
  }
  return spans;
}

bool IdRanges::IsOthers(uint64_t first) const {
  return std::any_of(others_.begin(), others_.end(), [first](const IdSpan& span) {
    return span.first < first + kLength && first < span.first + span.count;
  });
}

Result<uint32_t> IdRanges::Acquire(const std::string& pods_dir, const std::string& uid) {
  const std::string pod_dir = pods_dir + "/" + uid;
  const std::lock_guard lock(mutex_);
  if (auto known = TRY(ReadRange(pod_dir))) return *known;
  TRY(MakeDirectories(pod_dir, 0750));
  std::set<uint32_t> taken;
  const std::vector<std::string> pods = TRY(ListDirectory(pods_dir));
  for (const std::string& pod : pods) {
    if (auto range = TRY(ReadRange(pods_dir + "/" + pod))) taken.insert(*range);
  }
  // The first ids are the node's own; the last is none (-1).
  for (uint64_t first = kLength; first + kLength < kEnd; first += kLength) {
    const auto candidate = static_cast<uint32_t>(first);
    if (taken.contains(candidate) || IsOthers(first)) continue;
    TRY(WriteFileAtomic(pod_dir + kRecordName, std::to_string(candidate) + "\n"));
    return candidate;
  }
  return Error(Code::kResourceExhausted, "no user ids are left for pods with hostUsers: false");
}

}  // namespace skiff::agent
