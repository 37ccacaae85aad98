// Lists: a consistent page of a kind's objects, from the watch cache where it can be, from the
// store's history for pages and exact versions.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "control-plane/api/registry/registry.h"
#include "control-plane/api/rest/present.h"
#include "control-plane/api/rest/selection.h"

namespace skiff::cp {

// How long a list or a watch waits for the cache to get to the revision it asks for.
inline constexpr std::chrono::seconds kRevisionWait{3};

struct ListPage {
  std::vector<ObjectPtr> objects;  // of the kind asked for
  ListMetaText meta;
};

// kind: as asked for; stored: where it lives.
ApiResult<ListPage> ListObjects(Registry& registry, const KindInfo& kind, const KindInfo& stored,
                                std::string_view ns, const ListParameters& parameters);

}  // namespace skiff::cp
