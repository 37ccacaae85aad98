#include "control-plane/controllers/controllers.h"

#include "control-plane/controllers/deployment_controller.h"
#include "control-plane/controllers/endpoint_mirror_controller.h"
#include "control-plane/controllers/endpoints_controllers.h"
#include "control-plane/controllers/garbage_collector.h"
#include "control-plane/controllers/load_balancer_controller.h"
#include "control-plane/controllers/namespace_controllers.h"
#include "control-plane/controllers/node_cidrs.h"
#include "control-plane/controllers/node_lifecycle_controller.h"
#include "control-plane/controllers/pod_gc_controller.h"
#include "control-plane/controllers/replica_set_controller.h"
#include "control-plane/controllers/service_conflicts_controller.h"

namespace skiff::cp {

struct Controllers::State {
  std::vector<std::shared_ptr<Controller>> controllers;
};

Controllers::Controllers(std::unique_ptr<State> state) : state_(std::move(state)) {}
Controllers::~Controllers() { Stop(); }

Result<std::unique_ptr<Controllers>> Controllers::Create(ControllersDeps deps) {
  std::vector<CidrAllocator> allocators;
  for (const std::string& cidr : deps.cluster_cidrs) {
    const bool v6 = cidr.find(':') != std::string::npos;
    allocators.push_back(
        TRY(CidrAllocator::Make(cidr, v6 ? deps.node_cidr_bits_ipv6 : deps.node_cidr_bits_ipv4)));
  }
  LoadBalancerPool pool = TRY(LoadBalancerPool::Make(deps.load_balancer_pool));
  std::vector<net::IpPrefix> services;
  for (const std::string& cidr : deps.service_cidrs) {
    services.push_back(TRY(net::IpPrefix::Parse(cidr).With("range of services")));
  }
  Client& client = *deps.client;
  Executor& executor = *deps.executor;
  auto state = std::make_unique<State>();
  state->controllers = {
      MakeNamespaceDefaultsController(client, executor, std::move(deps.cluster_ca_pem)),
      MakeNamespaceDeletionController(client, executor),
      MakeNodeCidrController(client, executor, std::move(allocators)),
      MakeNodeLifecycleController(client, executor),
      MakeDeploymentController(client, executor),
      MakeReplicaSetController(client, executor),
      MakeReplicationController(client, executor),
      MakeEndpointSliceController(client, executor),
      MakeEndpointsController(client, executor),
      MakeEndpointMirrorController(client, executor),
      MakeGarbageCollector(client, executor),
      MakePodGcController(client, executor),
      MakeServiceConflictsController(client, executor, std::move(services)),
  };
  if (deps.load_balancers) {
    state->controllers.push_back(MakeLoadBalancerController(client, executor, std::move(pool)));
  }
  return std::unique_ptr<Controllers>(new Controllers(std::move(state)));
}

void Controllers::Start() {
  for (const auto& controller : state_->controllers) controller->Start();
}

void Controllers::Stop() {
  for (const auto& controller : state_->controllers) controller->Stop();
}

}  // namespace skiff::cp
