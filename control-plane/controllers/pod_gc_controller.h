// Removes pods that no node will ever report on again.
#pragma once

#include <memory>

#include "control-plane/controllers/framework/controller.h"

namespace skiff::cp {

std::shared_ptr<Controller> MakePodGcController(Client& client, Executor& executor);

}  // namespace skiff::cp
