// Rolls Deployments out: makes a ReplicaSet for each pod template and moves replicas to it.
#pragma once

#include <memory>

#include "control-plane/controllers/framework/controller.h"

namespace skiff::cp {

std::shared_ptr<Controller> MakeDeploymentController(Client& client, Executor& executor);

}  // namespace skiff::cp
