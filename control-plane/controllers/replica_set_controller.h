// Keeps as many pods running as each ReplicaSet, or each ReplicationController, asks for.
#pragma once

#include <memory>

#include "control-plane/controllers/framework/controller.h"

namespace skiff::cp {

std::shared_ptr<Controller> MakeReplicaSetController(Client& client, Executor& executor);
std::shared_ptr<Controller> MakeReplicationController(Client& client, Executor& executor);

}  // namespace skiff::cp
