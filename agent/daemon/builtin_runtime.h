// The built-in CRI runtime and pod network of this process.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/cri_client/cri_client.h"
#include "agent/daemon/config.h"
#include "base/result.h"

namespace skiff::net {
class Iptables;
class Conntrack;
}  // namespace skiff::net

namespace skiff::cni {
class PodLinks;
}

namespace skiff::agent {

class BuiltinRuntime {
 public:
  // Adopts what runs and serves the CRI socket. iptables and conntrack must outlive it.
  // links: told of pods of the built-in network; null: nobody.
  static Result<std::unique_ptr<BuiltinRuntime>> Start(
      const AgentConfig& config, net::Iptables& iptables, net::Conntrack& conntrack,
      std::shared_ptr<cni::PodLinks> links = nullptr);
  // Leaves pods running. Its stubs must be gone.
  ~BuiltinRuntime();

  std::shared_ptr<CriStubs> MakeStubs();
  // The pods' ranges, as text ("10.244.1.0/24").
  Result<> SetPodCidrs(const std::vector<std::string>& pod_cidrs,
                       const std::vector<std::string>& cluster_cidrs);
  // Called with whether pods that come now get the built-in pod network (otherwise CNI plugins make
  // theirs): once now, and when that changes, from any thread. Null: no more.
  void OnNetworkChange(std::function<void(bool built_in)> changed);
  // Removes all pods, and the network.
  Result<> RemoveAll();

 private:
  struct Parts;
  explicit BuiltinRuntime(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

// The built-in runtime and network as all there is: `skiff-agent --runtime-only`, for another
// kubelet or for crictl. Pods get addresses from the configuration's podCidr, or from the ranges
// that the kubelet hands over (UpdateRuntimeConfig).
class StandaloneRuntime {
 public:
  static Result<std::unique_ptr<StandaloneRuntime>> Start(const AgentConfig& config);
  ~StandaloneRuntime();  // leaves pods running

 private:
  struct Parts;
  explicit StandaloneRuntime(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace skiff::agent
