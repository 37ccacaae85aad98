// Watches over nodes: marks those that stopped reporting, taints them, evicts their pods.
#pragma once

#include <memory>

#include "control-plane/controllers/framework/controller.h"

namespace skiff::cp {

std::shared_ptr<Controller> MakeNodeLifecycleController(Client& client, Executor& executor);

}  // namespace skiff::cp
