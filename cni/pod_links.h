// PodLinks: who is told of the pods of the built-in network as they come and go.
#pragma once

#include <string>
#include <vector>

#include "base/net/ip.h"

namespace skiff::cni {

struct PodLink {
  std::string host_interface;  // the node's end of the pod's pair
  std::vector<net::IpAddress> addresses;
  bool limited = false;  // its bandwidth
};

// Calls come from any thread and must return at once; those for one pod come one after another.
class PodLinks {
 public:
  virtual ~PodLinks() = default;
  // The pod is connected. Said again of those that are still there when the daemon starts.
  virtual void Joined(const PodLink& pod) = 0;
  // All that were there when the daemon started have been said.
  virtual void Recovered() = 0;
  // From when this returns nothing may reach the pod, nor come from it, by what the callee made:
  // its addresses are about to be free. Said also of pods that did not come about.
  virtual void Leaves(const PodLink& pod) = 0;
};

}  // namespace skiff::cni
