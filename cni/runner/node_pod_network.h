// NodePodNetwork: the built-in pod network, or the one that CNI plugins make where the node has a
// configuration for them. Which of the two may change while pods run: each sandbox is detached by
// what attached it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cni/bridge_network.h"
#include "cni/network.h"
#include "cni/runner/plugin_network.h"

namespace skiff::cni {

class NodePodNetwork : public PodNetwork {
 public:
  // plugins: none where the node is never to run any.
  // iptables and conntrack must outlive the network. The node's network namespace is that of the
  // thread that calls.
  static Result<std::unique_ptr<NodePodNetwork>> Open(BridgeConfig bridge,
                                                      std::optional<PluginNetworkConfig> plugins,
                                                      net::Iptables& iptables,
                                                      net::Conntrack& conntrack);
  ~NodePodNetwork() override;

  // Whether pods that come now get the built-in network.
  bool BuiltIn() const;
  // Called with BuiltIn's new answer when it changes, from any thread; and once now. Null: no more,
  // from when this returns.
  void OnChange(std::function<void(bool built_in)> changed);

  Result<Attachment> Attach(const AttachRequest& request) override;
  Result<> Detach(const std::string& sandbox_id) override;
  Result<> Check(const std::string& sandbox_id) override;
  Result<Attachment> Get(const std::string& sandbox_id) const override;
  Result<> Recover(const std::vector<std::string>& live_sandbox_ids) override;
  Result<> SetPodCidrs(const std::vector<net::IpPrefix>& pod_cidrs,
                       const std::vector<net::IpPrefix>& cluster_cidrs) override;
  Result<> Reconcile() override;
  std::string Unready() const override;

  // As BridgeNetwork::RemoveAll.
  Result<> RemoveAll();

 private:
  class Impl;
  explicit NodePodNetwork(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace skiff::cni
