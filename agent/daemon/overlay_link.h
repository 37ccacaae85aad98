// OverlayLink: keeps this node's way to the pods of other nodes in step with what the control plane
// says of them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/async/executor.h"
#include "cni/overlay_check.h"

namespace skiff::agent {

// What it tells of itself.
struct OverlayState {
  uint32_t mtu = 0;           // what peers may send this node's pods
  std::string wireguard_key;  // public; empty: the mode is another
  cni::OverlayHealth health;
  auto operator<=>(const OverlayState&) const = default;
};

// Probes each peer that joins or returns (cni/path_probe.h); where checksums arrive damaged, it has
// the overlay's computed by the processor.
//
// Thread-safe: calls return at once, the work is done on the blocking executor, which must outlive
// it. What fails is tried again after some seconds.
class OverlayLink {
 public:
  using OnState = std::function<void(const OverlayState&)>;
  // key_file: where the node's private WireGuard key is kept; it is made where there is none, and
  // removing the file (and a restart) gives the node a new one.
  // on_state: when it is known and when it changes. on_links: links to other nodes' pods may have
  // come or gone. Both on the blocking executor.
  OverlayLink(cni::OverlayConfig config, std::string key_file, Executor& blocking, OnState on_state,
              std::function<void()> on_links);
  // Waits for nothing; the way stays.
  ~OverlayLink();

  // This node's addresses and pod CIDRs. Nothing is done before both are known.
  void SetAddresses(std::vector<net::IpAddress> addresses);
  void SetPodCidrs(std::vector<net::IpPrefix> pod_cidrs);
  // Whether pods have the built-in network, which the way is for: it is taken away otherwise. True
  // until something else is said.
  void SetWanted(bool wanted);
  // All other nodes.
  void SetPeers(std::vector<cni::OverlayNode> peers);

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace skiff::agent
