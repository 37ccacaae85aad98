#include "agent/pods/backoff.h"

#include <algorithm>

namespace skiff::agent {

std::optional<WallTime> BackOff::BlockedUntil(const std::string& key, WallTime failed_at) const {
  auto found = entries_.find(key);
  // A container that ran for ten minutes before it failed starts over.
  if (found == entries_.end() || Stale(found->second, failed_at)) return std::nullopt;
  return failed_at + found->second.delay;
}

std::chrono::seconds BackOff::Delay(const std::string& key) const {
  auto found = entries_.find(key);
  return found == entries_.end() ? std::chrono::seconds(0) : found->second.delay;
}

void BackOff::Advance(const std::string& key, WallTime now) {
  auto [found, fresh] = entries_.try_emplace(key);
  Entry& entry = found->second;
  if (fresh || Stale(entry, now)) {
    entry.delay = kInitial;
  } else {
    entry.delay = std::min(entry.delay * 2, kMax);
  }
  entry.advanced_at = now;
}

}  // namespace skiff::agent
