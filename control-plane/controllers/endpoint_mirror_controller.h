// Shows Endpoints that users write by hand, for Services without a selector, as EndpointSlices.
#pragma once

#include <memory>

#include "control-plane/controllers/framework/controller.h"

namespace skiff::cp {

std::shared_ptr<Controller> MakeEndpointMirrorController(Client& client, Executor& executor);

}  // namespace skiff::cp
