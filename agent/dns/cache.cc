#include "agent/dns/cache.h"

#include <algorithm>
#include <iterator>

namespace skiff::agent::dns {
namespace {

using std::chrono::seconds;

constexpr seconds kLongest{3600};
constexpr seconds kLongestNegative{300};
// A server that fails is not asked the same question at once again (RFC 9520).
constexpr seconds kFailure{1};
constexpr seconds kStaleFor{3600};
constexpr uint32_t kStaleTtl = 30;

size_t BytesOf(const std::vector<Record>& records) {
  size_t bytes = 0;
  for (const Record& record : records) {
    bytes += sizeof(Record) + record.name.size() + record.data.size();
  }
  return bytes;
}

uint32_t Big32(std::string_view bytes) {
  uint32_t value = 0;
  for (char byte : bytes) value = value << 8 | static_cast<uint8_t>(byte);
  return value;
}

}  // namespace

seconds KeepFor(const Answer& answer) {
  if (answer.rcode != Rcode::kNoError && answer.rcode != Rcode::kNxDomain) return kFailure;
  seconds keep = kLongest;
  for (const Record& record : answer.answers) keep = std::min(keep, seconds(record.ttl));
  bool negative = answer.rcode == Rcode::kNxDomain || answer.answers.empty();
  if (!negative) return keep;
  // The zone's SOA says how long (RFC 2308, section 5); without one, nobody does.
  for (const Record& record : answer.authority) {
    if (record.type != kSoa || record.data.size() < 20) continue;
    uint32_t minimum = Big32(std::string_view(record.data).substr(record.data.size() - 4));
    return std::min({keep, kLongestNegative, seconds(record.ttl), seconds(minimum)});
  }
  return seconds(0);
}

Cache::Entry* Cache::Touch(const Question& question) {
  auto at = index_.find(question);
  if (at == index_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, at->second);
  return &*at->second;
}

const Answer* Cache::WithTtl(const Answer& answer, uint32_t age, uint32_t floor) {
  given_ = answer;
  for (auto* records : {&given_.answers, &given_.authority, &given_.additional}) {
    for (Record& record : *records) {
      record.ttl = std::max(record.ttl > age ? record.ttl - age : 0, floor);
    }
  }
  return &given_;
}

const Answer* Cache::Find(const Question& question, SteadyTime now) {
  Entry* entry = Touch(question);
  if (entry == nullptr || now >= entry->fresh_until) return nullptr;
  auto age = std::chrono::duration_cast<seconds>(now - entry->stored);
  return WithTtl(entry->answer, static_cast<uint32_t>(age.count()), 0);
}

const Answer* Cache::FindStale(const Question& question, SteadyTime now) {
  Entry* entry = Touch(question);
  if (entry == nullptr || now >= entry->fresh_until + kStaleFor) return nullptr;
  if (entry->answer.rcode != Rcode::kNoError && entry->answer.rcode != Rcode::kNxDomain) {
    return nullptr;
  }
  auto age = std::chrono::duration_cast<seconds>(now - entry->stored);
  return WithTtl(entry->answer, static_cast<uint32_t>(age.count()), kStaleTtl);
}

void Cache::Erase(Entries::iterator entry) {
  bytes_ -= entry->bytes;
  index_.erase(entry->question);
  entries_.erase(entry);
}

void Cache::Store(const Question& question, Answer answer, SteadyTime now) {
  seconds keep = KeepFor(answer);
  if (keep <= seconds(0)) return;
  if (auto at = index_.find(question); at != index_.end()) Erase(at->second);
  size_t bytes = 2 * sizeof(Entry) + 2 * question.name.size() + BytesOf(answer.answers) +
                 BytesOf(answer.authority) + BytesOf(answer.additional);
  if (bytes > max_bytes_) return;
  entries_.push_front({question, std::move(answer), now, now + keep, bytes});
  index_[question] = entries_.begin();
  bytes_ += bytes;
  while (bytes_ > max_bytes_) Erase(std::prev(entries_.end()));
}

void Cache::Clear() {
  entries_.clear();
  index_.clear();
  bytes_ = 0;
}

}  // namespace skiff::agent::dns
