// The operations on a kind's resource, as far as clients read them: kubectl asks whether a PATCH
// of a kind takes fieldValidation and dryRun. For the sources of this folder only.
#pragma once

#include "control-plane/api/kind.h"
#include "control-plane/api/kinds/openapi/schemas.h"

namespace skiff::cp {

// Adds the paths of the kind's collection and of one object to *paths.
void AddPaths(const KindInfo& kind, OpenApiVersion version, Json* paths);

}  // namespace skiff::cp
