// Server-side tables (meta.k8s.io/v1 Table): kubectl get's own columns.
#pragma once

#include <string>
#include <vector>

#include "control-plane/api/rest/present.h"

namespace skiff::cp {

// The whole Table as JSON. meta: null in watches (the objects' own versions stand in the rows).
std::string EncodeTable(const View& view, const std::vector<const Message*>& objects,
                        const ListMetaText* meta, bool columns);

}  // namespace skiff::cp
