#include "agent/dns/recent_answers.h"

#include <algorithm>
#include <functional>

#include "agent/dns/message.h"

namespace skiff::agent::dns {
namespace {

constexpr size_t kIdBytes = 2;
// Longer than a name with its EDNS option: a rare question.
constexpr size_t kMaxQuestionBytes = 320;
constexpr size_t kMaxResponseBytes = kMaxUdpBytes;
// Of a record before its data, where the owner's name is a pointer to the question.
constexpr size_t kRecordHeadBytes = 12;
constexpr size_t kTypeOffset = 2, kLengthOffset = 10;

size_t At16(std::string_view bytes, size_t at) {
  return size_t{static_cast<uint8_t>(bytes[at])} << 8 | static_cast<uint8_t>(bytes[at + 1]);
}

// Behind the one question of a response; its size where there is none.
size_t EndOfQuestion(std::string_view response) {
  size_t at = kHeaderBytes;
  while (at < response.size() && response[at] != 0) at += 1 + static_cast<uint8_t>(response[at]);
  return std::min(at + 1 + 4, response.size());
}

// How many bytes each of the records at `first` takes; 0 when they are not all alike.
size_t BytesOfEach(std::string_view response, size_t first, size_t records) {
  if (first + kRecordHeadBytes > response.size()) return 0;
  const size_t each = kRecordHeadBytes + At16(response, first + kLengthOffset);
  if (records < 2 || first + records * each > response.size()) return 0;
  std::string_view head = response.substr(first, kRecordHeadBytes);
  const size_t type = At16(head, kTypeOffset);
  if (type != kA && type != kAaaa) return 0;
  for (size_t i = 1; i < records; ++i) {
    if (response.substr(first + i * each, kRecordHeadBytes) != head) return 0;
  }
  return each;
}

}  // namespace

RecentAnswers::Slot& RecentAnswers::SlotOf(std::string_view question) {
  return slots_[std::hash<std::string_view>()(question) & (slots_.size() - 1)];
}

std::string_view RecentAnswers::Recall(std::string_view message) {
  if (message.size() < kHeaderBytes || message.size() > kMaxQuestionBytes) return {};
  std::string_view question = message.substr(kIdBytes);
  Slot& slot = SlotOf(question);
  if (slot.generation != generation_ || slot.question != question) return {};
  std::copy_n(message.begin(), kIdBytes, slot.response.begin());
  if (slot.record_bytes != 0) {
    auto first = slot.response.begin() + static_cast<ptrdiff_t>(slot.first);
    std::rotate(first, first + static_cast<ptrdiff_t>(slot.record_bytes),
                first + static_cast<ptrdiff_t>(slot.record_bytes * slot.records));
  }
  return slot.response;
}

void RecentAnswers::Learn(std::string_view message, std::string_view response, size_t addresses) {
  if (message.size() < kHeaderBytes || message.size() > kMaxQuestionBytes ||
      response.size() < kHeaderBytes || response.size() > kMaxResponseBytes) {
    return;
  }
  std::string_view question = message.substr(kIdBytes);
  Slot& slot = SlotOf(question);
  slot.generation = generation_;
  slot.question = question;
  slot.response = response;
  slot.first = EndOfQuestion(response);
  slot.records = addresses;
  slot.record_bytes = BytesOfEach(response, slot.first, addresses);
}

}  // namespace skiff::agent::dns
