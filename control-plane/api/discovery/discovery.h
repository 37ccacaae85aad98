// Discovery: which groups, versions, resources and subresources are served.
#pragma once

#include <optional>

#include "base/http/message.h"
#include "control-plane/api/kind.h"
#include "control-plane/api/status.h"

namespace skiff::cp {

// /api, /apis, /api/v1, /apis/GROUP, /apis/GROUP/VERSION; with "as=APIGroupDiscoveryList" in
// Accept, /api and /apis answer with everything at once (aggregated discovery). 404 for others.
ApiResult<http::Response> ServeDiscovery(const Kinds& kinds, const http::Request& request,
                                         const std::string& server_address);

}  // namespace skiff::cp
