// FlowLink: keeps the short way of pods' TCP connections (cni/flow_table.h) in force on this node's
// links, where the kernel can do it.
#pragma once

#include <memory>
#include <vector>

#include "base/async/executor.h"
#include "base/net/ip.h"

namespace skiff::net {
class Nft;
}

namespace skiff::agent {

// Thread-safe. The executor and nft must outlive it. What it made stays when it ends.
class FlowLink {
 public:
  // allowed: whether there is to be one at all; what an earlier process made goes where not.
  FlowLink(Executor& blocking, net::Nft& nft, bool allowed);
  ~FlowLink();

  // The cluster's ranges of pods. Nothing is done before they are known.
  void SetRanges(std::vector<net::IpPrefix> ranges);
  // Whether pods have the built-in network; the short way is taken away otherwise. True until
  // something else is said.
  void SetWanted(bool wanted);
  // Links that carry pods' packets may have come or gone. They are looked at from time to time
  // anyway.
  void LinksChanged();

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace skiff::agent
