#include "control-plane/api/auth/user.h"

#include "control-plane/api/kind.h"
#include "control-plane/api/rest/request_info.h"

namespace skiff::cp {
namespace {

bool IsOpenToAll(std::string_view path) {
  for (std::string_view open : {"/healthz", "/livez", "/readyz"}) {
    if (path == open || (path.starts_with(open) && path[open.size()] == '/')) return true;
  }
  return path == "/version" || path == "/version/";
}

bool IsDiscovery(std::string_view path) {
  for (std::string_view root : {"/api", "/apis", "/openapi"}) {
    if (path == root || (path.starts_with(root) && path[root.size()] == '/')) return true;
  }
  return false;
}

std::string Denial(const User& user, const RequestInfo& info) {
  std::string text = "User \"" + user.name + "\" cannot " + info.verb;
  if (!info.is_resource) return text + " path \"" + info.path + "\"";
  std::string resource = info.resource;
  if (!info.subresource.empty()) resource += "/" + info.subresource;
  text += " resource \"" + resource + "\" in API group \"" + info.group + "\"";
  if (info.ns.empty()) return text + " at the cluster scope";
  return text + " in the namespace \"" + info.ns + "\"";
}

}  // namespace

ApiResult<User> Authenticate(const http::Request& request) {
  if (!request.peer.certificate_error.empty()) return ApiError::Unauthorized();
  if (request.peer.certificate) {
    User user{request.peer.common_name, request.peer.organizations};
    user.groups.emplace_back(kAuthenticated);
    return user;
  }
  if (request.headers.Has("Authorization")) return ApiError::Unauthorized();
  return User{"system:anonymous", {std::string(kUnauthenticated)}};
}

bool IsAllowed(const User& user, const RequestInfo& info) {
  if (user.InGroup(kMasters)) return true;
  if (!info.is_resource) {
    if (info.verb != "get" && info.verb != "head") return false;
    return IsOpenToAll(info.path) || (user.InGroup(kAuthenticated) && IsDiscovery(info.path));
  }
  return user.InGroup(kAuthenticated) && info.group == "authorization.k8s.io" &&
         info.verb == "create" && info.resource.starts_with("selfsubject");
}

ApiResult<void> Authorize(const User& user, const RequestInfo& info) {
  if (IsAllowed(user, info)) return {};
  KindInfo kind;
  kind.group = info.group;
  kind.plural = info.resource;
  ApiError error = ApiError::Forbidden(kind, info.name, Denial(user, info));
  if (!info.is_resource) error.message = "forbidden: " + Denial(user, info);
  return error;
}

}  // namespace skiff::cp
