// Exponential back-off for restarts and image pulls, with Kubernetes' numbers.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>

#include "base/clock.h"

namespace skiff::agent {

// Delays by key: 10 s, doubled at each further attempt up to 5 minutes, forgotten when a key was
// left alone for 10 minutes. Not thread-safe: part of a pod's state.
class BackOff {
 public:
  static constexpr std::chrono::seconds kInitial{10};
  static constexpr std::chrono::seconds kMax{300};

  // When the next attempt after a failure at `failed_at` is allowed; nothing when it is allowed at
  // once.
  std::optional<WallTime> BlockedUntil(const std::string& key, WallTime failed_at) const;
  // The present delay; zero for an unknown key.
  std::chrono::seconds Delay(const std::string& key) const;
  // An attempt is made now: the delay after its failure is the next longer one.
  void Advance(const std::string& key, WallTime now);
  void Forget(const std::string& key) { entries_.erase(key); }

 private:
  struct Entry {
    std::chrono::seconds delay{0};
    WallTime advanced_at;
  };
  static bool Stale(const Entry& entry, WallTime now) { return now - entry.advanced_at > 2 * kMax; }
  std::map<std::string, Entry> entries_;
};

}  // namespace skiff::agent
