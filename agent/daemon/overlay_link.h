// OverlayLink: keeps this node's way to the pods of other nodes in step with what the control plane
// says of them.
#pragma once

#include <memory>
#include <vector>

#include "base/async/executor.h"
#include "cni/overlay.h"

namespace skiff::agent {

// Thread-safe: calls return at once, the work is done on the blocking executor, which must outlive
// it. What fails is tried again after some seconds.
class OverlayLink {
 public:
  OverlayLink(cni::OverlayConfig config, Executor& blocking);
  // Waits for nothing; the way stays.
  ~OverlayLink();

  // This node's addresses and pod CIDRs. Nothing is done before both are known.
  void SetAddresses(std::vector<net::IpAddress> addresses);
  void SetPodCidrs(std::vector<net::IpPrefix> pod_cidrs);
  // All other nodes.
  void SetPeers(std::vector<cni::OverlayNode> peers);

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace skiff::agent
