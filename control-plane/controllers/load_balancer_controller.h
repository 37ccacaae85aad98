// Gives Services of type LoadBalancer their addresses: from a pool, with a node that answers for
// each Service on the nodes' network, or, where the pool is empty, the Ready nodes' own addresses.
#pragma once

#include <memory>

#include "control-plane/controllers/framework/controller.h"
#include "control-plane/controllers/load_balancer_pool.h"

namespace skiff::cp {

std::shared_ptr<Controller> MakeLoadBalancerController(Client& client, Executor& executor,
                                                       LoadBalancerPool pool);

}  // namespace skiff::cp
