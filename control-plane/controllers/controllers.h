// The controllers of the control plane, all of them in this process.
//
// Deployments, ReplicaSets, ReplicationControllers, Endpoints and EndpointSlices (from pods and
// mirrored), namespaces, garbage collection by owner references, node lifecycle with eviction by
// taints, pod garbage collection, pod CIDRs of nodes, addresses of load balancers. Each is a strand
// on the executor with caches and a work queue of its own; none knows the others.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/async/executor.h"
#include "base/result.h"
#include "control-plane/api/client.h"

namespace skiff::cp {

struct ControllersDeps {
  Client* client = nullptr;
  // For work that blocks on the store: a few threads. Its clock is the controllers' clock.
  Executor* executor = nullptr;
  // Published in every namespace as the ConfigMap kube-root-ca.crt.
  std::string cluster_ca_pem;
  // Where nodes get their pod CIDRs from, at most one of each family: "10.244.0.0/16". Empty: nodes
  // get none.
  std::vector<std::string> cluster_cidrs = {};
  int node_cidr_bits_ipv4 = 24;
  int node_cidr_bits_ipv6 = 64;
  // The ranges of Services' addresses; those outside are told of.
  std::vector<std::string> service_cidrs = {};
  // Whether Services of type LoadBalancer get addresses here, and from which ranges (as
  // LoadBalancerPool); the nodes' own where there are none.
  bool load_balancers = true;
  std::vector<std::string> load_balancer_pool = {};
};

// Thread-safe.
class Controllers {
 public:
  // kInvalidArgument when a CIDR is malformed or too small, or a range of the pool is none.
  static Result<std::unique_ptr<Controllers>> Create(ControllersDeps deps);
  // Stops.
  ~Controllers();

  // Starts them; they begin to act when their caches are filled.
  void Start();
  // No new work begins after it has returned. What is running ends with the executor, which is to
  // be stopped before the client goes away.
  void Stop();

 private:
  struct State;
  explicit Controllers(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace skiff::cp
