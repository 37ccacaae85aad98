// SystemNft's watches among each other.
#pragma once

#include <cstdint>

namespace skiff::net::nft {

// While it lives, this process listens to no events of nftables in the network namespace: with a
// listener the kernel makes a message of every element, which takes thrice the time of adding it.
// Afterwards every watch calls, as it may have missed something.
class PausedWatches {
 public:
  explicit PausedWatches(uint64_t netns);
  ~PausedWatches();
  PausedWatches(const PausedWatches&) = delete;

 private:
  const uint64_t netns_;
};

}  // namespace skiff::net::nft
