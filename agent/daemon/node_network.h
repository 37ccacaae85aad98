// NodeNetwork: what makes the cluster one network for this node's pods: the way to other nodes'
// pods, the service proxy, the cluster DNS and the network policies, fed from the desired state.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "agent/daemon/config.h"
#include "agent/desired/desired_state.h"
#include "agent/pods/traffic_rules.h"
#include "base/async/executor.h"
#include "base/result.h"

namespace skiff::net {
class Conntrack;
class Iptables;
class Nft;
}  // namespace skiff::net
namespace skiff::cni {
class PodLinks;
}
namespace skiff::node::v1 {
class Welcome;
}

namespace skiff::agent {

struct OverlayState;

// Null pointers: neither rules nor addresses are made (another program does the node's network).
struct NodeNetworkDeps {
  Executor& blocking;
  net::Iptables* iptables;
  net::Conntrack* conntrack;
  net::Nft* nft;
  // How the overlay is; on the blocking executor.
  std::function<void(const OverlayState&)> on_overlay;
  // What is wrong with a Service on this node, for an Event; on the blocking executor.
  std::function<void(const std::string& name_space, const std::string& name,
                     const std::string& reason, const std::string& message)>
      on_service_trouble;
};

// A number for Prometheus.
struct Metric {
  const char* name;
  const char* help;
  bool counter;  // else a gauge
  uint64_t value;
};

// Calls come from one thread at a time. All deps must outlive it.
class NodeNetwork {
 public:
  NodeNetwork(const AgentConfig& config, NodeNetworkDeps deps);
  ~NodeNetwork();

  // Starts what the cluster's settings ask for; what cannot start is logged and tried again at the
  // next Welcome.
  void ApplyWelcome(const skiff::node::v1::Welcome& welcome);
  void ApplyChange(const DesiredState& desired, const DesiredChange& change);
  // Whether pods have the built-in network; if not, CNI plugins make also the way to other nodes'
  // pods. Any thread.
  void SetBuiltInPodNetwork(bool built_in);
  // The node's own addresses, when they are known and when they change. Any thread.
  void SetNodeAddresses(const std::vector<std::string>& addresses);
  // How the rules of Services and of network policies are. Any thread.
  std::vector<Metric> ReadMetrics() const;
  // Null where there are none. Lives as long as this.
  TrafficRules* traffic();
  // To be told of the built-in network's pods; null: nobody.
  std::shared_ptr<cni::PodLinks> pod_links();

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

// Removes all rules, links and addresses that a NodeNetwork made here.
Result<> RemoveNodeNetwork(const AgentConfig& config, net::Iptables& iptables, net::Nft& nft);

}  // namespace skiff::agent
