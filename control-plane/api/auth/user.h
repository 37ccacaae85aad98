// Who asks, and whether they may.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "base/http/message.h"
#include "control-plane/api/status.h"

namespace skiff::cp {

struct RequestInfo;

struct User {
  std::string name;
  std::vector<std::string> groups;
  bool InGroup(std::string_view group) const {
    return std::find(groups.begin(), groups.end(), group) != groups.end();
  }
};

inline constexpr std::string_view kMasters = "system:masters";
inline constexpr std::string_view kAuthenticated = "system:authenticated";
inline constexpr std::string_view kUnauthenticated = "system:unauthenticated";

// The verified client certificate's subject (CN is the user, O the groups), else anonymous. 401 for
// credentials that are there and do not hold.
ApiResult<User> Authenticate(const http::Request& request);

// system:masters may do everything; the authenticated may see discovery and ask what they may do;
// everybody may see health and version. Nothing when allowed, else 403 in upstream's words.
// Role-based rules come here.
ApiResult<void> Authorize(const User& user, const RequestInfo& info);
bool IsAllowed(const User& user, const RequestInfo& info);

}  // namespace skiff::cp
