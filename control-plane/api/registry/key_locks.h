// KeyLocks: writers of one object take turns.
//
// Optimistic concurrency is what keeps the store right; but of many writers that read, change and
// write the same object at once only one wins each commit, and an unlucky one could lose for ever.
// Inside one process a queue costs less than those retries.
#pragma once

#include <array>
#include <functional>
#include <mutex>
#include <string_view>

namespace skiff::cp {

// Thread-safe. Held over one read and one commit, never over another lock of the same kind.
class KeyLocks {
 public:
  // Objects share stripes: two keys may wait for each other, never deadlock.
  std::unique_lock<std::mutex> Lock(std::string_view prefix, std::string_view key) {
    size_t hash = std::hash<std::string_view>()(prefix) * 31 + std::hash<std::string_view>()(key);
    return std::unique_lock(stripes_[hash % stripes_.size()]);
  }

 private:
  std::array<std::mutex, 256> stripes_;
};

}  // namespace skiff::cp
