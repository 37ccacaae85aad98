// RecentAnswers: finished answers of the cluster's names, by the very bytes of their questions.
//
// Programs ask for the same few names again and again, each in the same words but for the id. So an
// answer is found by comparing bytes, without reading the question, without an allocation. It holds
// until the names change.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace skiff::agent::dns {

class RecentAnswers {
 public:
  // slots: how many answers are remembered at most; a power of two. Two questions for one slot take
  // it from each other.
  explicit RecentAnswers(size_t slots = 1024) : slots_(slots) {}

  // The answer to that question, under its id; empty: unknown. Valid until the next call.
  std::string_view Recall(std::string_view message);
  // addresses: how many records at the front of the answer section are alike and take turns in
  // being first (0, 1: none). What is too long to be worth it is not remembered.
  void Learn(std::string_view message, std::string_view response, size_t addresses);
  // The names have changed: every answer may be another one.
  void Forget() { ++generation_; }

 private:
  struct Slot {
    uint64_t generation = 0;
    std::string question;  // the message without its id
    std::string response;
    size_t first = 0;         // where the records that take turns begin
    size_t record_bytes = 0;  // of one of them; 0: none do
    size_t records = 0;
  };
  Slot& SlotOf(std::string_view question);

  std::vector<Slot> slots_;
  uint64_t generation_ = 1;
};

}  // namespace skiff::agent::dns
