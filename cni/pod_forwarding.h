// PodForwarding: lets pods whose network CNI plugins make, and what Services send them, pass a node
// whose packet filter forwards nothing by itself (a host with docker: policy DROP of FORWARD).
//
// The built-in network does so for its own pods (cni/rules.h). An accept of the service proxy's
// nftables mode, in a table of its own, does not overrule what iptables' tables drop; and not all
// plugins see to it. The rules are those of the built-in network, for the cluster's pods, in the
// chain SKIFF-PODS; it is the last in FORWARD, so that others' refusals stand.
#pragma once

#include <memory>
#include <vector>

#include "base/async/executor.h"
#include "base/net/ip.h"
#include "base/result.h"

namespace skiff::net {
class Iptables;
}

namespace skiff::cni {

// Thread-safe: calls return at once, the work is done on the blocking executor. What fails is tried
// again, and what somebody else removes is written again within half a minute. iptables and the
// executor must outlive it.
class PodForwarding {
 public:
  PodForwarding(net::Iptables& iptables, Executor& blocking);
  // Waits for a write that is under way. The rules stay.
  ~PodForwarding();

  // Where the cluster's pods are, and whether CNI plugins make the network of this node's: if not,
  // the rules are taken away. Nothing is done before both are known.
  void SetClusterCidrs(std::vector<net::IpPrefix> cidrs);
  void SetWanted(bool wanted);

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

// Succeeds where there are none.
Result<> RemovePodForwarding(net::Iptables& iptables);

}  // namespace skiff::cni
