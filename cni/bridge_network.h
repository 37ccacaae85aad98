// BridgeNetwork: pods on a bridge of the node, each with a veth pair and addresses of the node's
// pod CIDRs.
//
// A pod has a /32 (/128) address and routes everything through the node, so that traffic between
// pods of one node passes the node's rules whether or not bridges call iptables (br_netfilter).
// Leases are files under state_dir, written before the address is used (cni/leases.h).
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "cni/network.h"
#include "cni/pod_links.h"

namespace skiff::net {
class Conntrack;
class Iptables;
}  // namespace skiff::net

namespace skiff::cni {

struct BridgeConfig {
  std::string bridge = "skiff0";
  std::string pod_interface = "eth0";
  // What the packet filter's chains are named after (cni/rules.h); at most 8 characters. Networks
  // of one node differ in it, and in the bridge.
  std::string chains = "SKIFF";
  // Leases live here; the directory is made.
  std::string state_dir;
  // Of the pods' interfaces; 0: that of the node's interface with the default route, less
  // encapsulation_bytes.
  uint32_t mtu = 0;
  uint32_t encapsulation_bytes = 0;       // where IPv4 is the pods' primary family
  uint32_t encapsulation_bytes_ipv6 = 0;  // where IPv6 is
  // Masquerade what pods send to addresses outside the cluster's CIDRs.
  bool masquerade = true;
  // Which boot this is: leases of another one are void. Empty: the running kernel's.
  std::string boot_id;
  // Told of pods; null: nobody.
  std::shared_ptr<PodLinks> links;
  // The longest a single call may take in the kernel before it fails.
  std::chrono::milliseconds deadline = std::chrono::seconds(10);
};

class BridgeNetwork : public PodNetwork {
 public:
  // Reads the leases. The network namespace of the node is that of the thread that calls; all
  // calls must come from threads of the same namespace. iptables and conntrack must outlive the
  // network.
  static Result<std::unique_ptr<BridgeNetwork>> Open(BridgeConfig config, net::Iptables& iptables,
                                                     net::Conntrack& conntrack);
  ~BridgeNetwork() override;

  Result<Attachment> Attach(const AttachRequest& request) override;
  Result<> Detach(const std::string& sandbox_id) override;
  Result<> Check(const std::string& sandbox_id) override;
  Result<Attachment> Get(const std::string& sandbox_id) const override;
  Result<> Recover(const std::vector<std::string>& live_sandbox_ids) override;
  Result<> SetPodCidrs(const std::vector<net::IpPrefix>& pod_cidrs,
                       const std::vector<net::IpPrefix>& cluster_cidrs) override;
  Result<> Reconcile() override;
  std::string Unready() const override;

  // Instead of SetPodCidrs: another process has made the node's side, for these CIDRs and this MTU,
  // and it is there still. (Where the bridge is not, Attach makes it all again.)
  void AdoptPodCidrs(const std::vector<net::IpPrefix>& pod_cidrs,
                     const std::vector<net::IpPrefix>& cluster_cidrs, uint32_t mtu);
  // Of pods' interfaces; 0 before CIDRs are set.
  uint32_t mtu() const;

  // Whether sandboxes are attached.
  bool InUse() const;

  // Removes bridge and rules; for taking the node down for good. FailedPrecondition while sandboxes
  // are attached.
  Result<> RemoveAll();

  // The interface of a detached sandbox is cut off at once and deleted some time later, mostly by
  // the kernel, with the sandbox's namespace. This deletes now what is left.
  Result<> FinishRemovals();

 private:
  class Impl;
  explicit BridgeNetwork(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace skiff::cni
