// Cache of other servers' answers: by what was asked, for as long as its records say, with names
// that do not exist (RFC 2308) and failures kept for a short while, and answers past their time
// kept for when no server can be reached (RFC 8767).
//
// Bounded in bytes: the least recently used goes. Not thread-safe.
#pragma once

#include <chrono>
#include <list>
#include <string>
#include <unordered_map>

#include "agent/dns/message.h"
#include "base/clock.h"

namespace skiff::agent::dns {

// What makes two questions the same one for other servers.
struct Question {
  Name name;
  uint16_t type = 0;
  bool dnssec_ok = false;
  bool checking_disabled = false;
  bool operator==(const Question&) const = default;
};
struct QuestionHash {
  size_t operator()(const Question& question) const {
    return std::hash<std::string>()(question.name) ^ (size_t{question.type} << 2) ^
           (size_t{question.dnssec_ok} << 1) ^ size_t { question.checking_disabled };
  }
};

class Cache {
 public:
  explicit Cache(size_t max_bytes) : max_bytes_(max_bytes) {}

  // The TTLs of what is given are counted down. Null: nothing is known, or it is past its time.
  const Answer* Find(const Question& question, SteadyTime now);
  // An answer past its time that is better than none, with short TTLs; also one that is not.
  const Answer* FindStale(const Question& question, SteadyTime now);
  // Answers that must not be kept (no time given) are not.
  void Store(const Question& question, Answer answer, SteadyTime now);
  void Clear();
  size_t entries() const { return index_.size(); }
  size_t bytes() const { return bytes_; }

 private:
  struct Entry {
    Question question;
    Answer answer;
    SteadyTime stored, fresh_until;
    size_t bytes;
  };
  using Entries = std::list<Entry>;
  Entry* Touch(const Question& question);
  void Erase(Entries::iterator entry);
  const Answer* WithTtl(const Answer& answer, uint32_t age, uint32_t floor);

  const size_t max_bytes_;
  size_t bytes_ = 0;
  Entries entries_;  // most recently used first
  std::unordered_map<Question, Entries::iterator, QuestionHash> index_;
  Answer given_;  // what Find pointed to last
};

// For how long an answer may be kept; 0: not at all. Pure.
std::chrono::seconds KeepFor(const Answer& answer);

}  // namespace skiff::agent::dns
