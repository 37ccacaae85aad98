// Garbage collection by owner references: what no living owner wants any more is deleted.
//
// Background: dependents go after their owner. Foreground: an owner with the finalizer
// foregroundDeletion goes after the dependents that block it. Orphan: an owner with the finalizer
// orphan goes after its dependents have been cut loose.
#pragma once

#include <memory>

#include "control-plane/controllers/framework/controller.h"

namespace skiff::cp {

std::shared_ptr<Controller> MakeGarbageCollector(Client& client, Executor& executor);

}  // namespace skiff::cp
