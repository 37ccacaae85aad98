// RequestInfo: what a request's method and path ask for, in the API's terms.
#pragma once

#include <string>
#include <string_view>

#include "base/http/message.h"

namespace skiff::cp {

// For resource requests, all below; for others (/version, /api), verb and path only.
struct RequestInfo {
  bool is_resource = false;
  std::string verb;  // get list watch create update patch delete deletecollection; else "get", ...
  std::string path;
  std::string group;
  std::string version;
  std::string ns;
  std::string resource;
  std::string name;
  std::string subresource;
};

// /api/v1/namespaces/{ns}/{resource}/{name}/{subresource}, /apis/{group}/{version}/... and so on.
RequestInfo ParseRequestInfo(const http::Request& request);

}  // namespace skiff::cp
