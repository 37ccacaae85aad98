// What controllers ask about namespaces.
#pragma once

#include <string>

#include "control-plane/api/client.h"

namespace skiff::cp {

// Whether a creation was refused because the namespace is being deleted (or gone): there is nothing
// to retry, as what the controller works for goes too.
bool RefusedByEndingNamespace(Client& client, const std::string& ns, const Error& error);

}  // namespace skiff::cp
