// Keep the EndpointSlices and the Endpoints of Services that select pods.
#pragma once

#include <memory>

#include "control-plane/controllers/framework/controller.h"

namespace skiff::cp {

std::shared_ptr<Controller> MakeEndpointSliceController(Client& client, Executor& executor);
std::shared_ptr<Controller> MakeEndpointsController(Client& client, Executor& executor);

}  // namespace skiff::cp
