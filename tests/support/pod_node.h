// PodNode: what a node of a cluster is to the tests of its network: a TestNode with pods on a
// BridgeNetwork, and what rules are made with.
//
//   PodNode pods(*machine, {prefix4, prefix6}, cluster_prefixes);
//   AttachedPod web = pods.Attach("web");
//   ...
//   pods.Close([] { ... });  // takes away what is left; the test fails where rules stay
//
// As on every node, connections between pods take the fast path where the kernel can do it, here
// from the first moment.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/async/executor.h"
#include "base/net/conntrack.h"
#include "base/net/iptables.h"
#include "base/net/nft.h"
#include "base/os/files.h"
#include "cni/bridge_network.h"
#include "cni/fastpath/fast_path.h"
#include "tests/support/netns.h"

namespace skiff::test {

struct AttachedPod {
  std::string name;
  std::unique_ptr<TestNetns> netns;
  std::string v4, v6;
};

class PodNode {
 public:
  // The machine must outlive it; its links are there.
  PodNode(TestNode& machine, const std::vector<net::IpPrefix>& pod_cidrs,
          const std::vector<net::IpPrefix>& cluster_cidrs);

  // A pod with an address of each family: these, or the next free ones.
  AttachedPod Attach(const std::string& name, cni::Bandwidth bandwidth = {},
                     const std::vector<net::IpAddress>& addresses = {});
  void Detach(const std::string& name);
  // As after a SIGKILL of the agent. fast_path: whether it is to be on from here on.
  void Restart(bool fast_path = true);
  // Once nothing uses the blocking executor any more. others: takes away, in the machine, what is
  // not the pod network's.
  void Close(const std::function<void()>& others);

  // iptables rules and tables of ours.
  std::string Rules() const;

  net::Iptables& iptables() { return *iptables_; }
  net::Conntrack& conntrack() { return conntrack_; }
  net::Nft& nft() { return nft_; }
  Executor& blocking() { return *blocking_; }
  cni::FastPath& fast_path() { return *fast_path_; }

 private:
  void Open();
  TestNode& machine_;
  const std::string rules_before_;
  TempDir state_ = TempDir::Make().value();
  net::SystemConntrack conntrack_;
  net::SystemNft nft_;
  const std::vector<net::IpPrefix> pod_cidrs_, cluster_cidrs_;
  cni::FastPathConfig fast_path_config_;
  std::unique_ptr<net::SystemIptables> iptables_;
  std::unique_ptr<ThreadPool> blocking_;
  std::shared_ptr<cni::FastPath> fast_path_;
  std::unique_ptr<cni::BridgeNetwork> network_;
  std::vector<std::string> attached_;
};

}  // namespace skiff::test
