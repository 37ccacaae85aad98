#include "control-plane/api/rest/request_info.h"

#include <algorithm>
#include <cctype>
#include <vector>

namespace skiff::cp {
namespace {

// The encoded path taken apart, so that an encoded slash stays inside its part.
std::vector<std::string> PathParts(std::string_view path) {
  std::vector<std::string> parts;
  while (!path.empty()) {
    if (path.front() == '/') {
      path.remove_prefix(1);
      continue;
    }
    size_t end = std::min(path.find('/'), path.size());
    parts.push_back(http::PercentDecode(path.substr(0, end), false).value_or(""));
    path.remove_prefix(end);
  }
  return parts;
}

std::string ResourceVerb(const http::Request& request, bool named) {
  const std::string& method = request.method;
  if (method == "POST") return "create";
  if (method == "PUT") return "update";
  if (method == "PATCH") return "patch";
  if (method == "DELETE") return named ? "delete" : "deletecollection";
  if (method != "GET" && method != "HEAD") return "";
  if (request.query.Flag("watch")) return "watch";
  return named ? "get" : "list";
}

}  // namespace

RequestInfo ParseRequestInfo(const http::Request& request) {
  RequestInfo info;
  info.path = request.path;
  info.verb = request.method;
  std::transform(info.verb.begin(), info.verb.end(), info.verb.begin(), ::tolower);
  std::vector<std::string> parts = PathParts(request.raw_path);
  size_t at = 0;
  if (parts.size() >= 3 && parts[0] == "api") {
    info.version = parts[1];
    at = 2;
  } else if (parts.size() >= 4 && parts[0] == "apis") {
    info.group = parts[1];
    info.version = parts[2];
    at = 3;
  } else {
    return info;
  }
  info.is_resource = true;
  auto part = [&](size_t i) { return i < parts.size() ? parts[i] : std::string(); };
  if (parts[at] == "namespaces") {
    // /namespaces/NAME and its own subresources; all else below is inside the namespace.
    const std::string third = part(at + 2);
    if (third.empty() || third == "status" || third == "finalize") {
      info.resource = "namespaces";
      info.name = part(at + 1);
      info.subresource = third;
      // The namespace itself is "in" itself, so that rules of a namespace cover it.
      info.ns = info.name;
      info.verb = ResourceVerb(request, !info.name.empty());
      return info;
    }
    info.ns = part(at + 1);
    at += 2;
  }
  info.resource = part(at);
  info.name = part(at + 1);
  info.subresource = part(at + 2);
  if (parts.size() > at + 3) info.subresource += "/" + part(at + 3);
  info.verb = ResourceVerb(request, !info.name.empty());
  return info;
}

}  // namespace skiff::cp
