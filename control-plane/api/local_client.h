// The in-process Client over the registry and the watch cache.
#pragma once

#include <memory>

#include "control-plane/api/client.h"
#include "control-plane/api/registry/registry.h"

namespace skiff::cp {

// The registry must outlive the client, and the client its subscriptions.
std::unique_ptr<Client> MakeLocalClient(Registry& registry, const Kinds& kinds);

}  // namespace skiff::cp
