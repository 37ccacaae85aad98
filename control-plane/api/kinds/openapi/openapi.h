// The OpenAPI documents of the server, made from the kinds' messages by reflection: what kubectl
// validates manifests, computes patches and explains fields with.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "control-plane/api/kind.h"

namespace skiff::http {
struct Request;
struct Response;
}  // namespace skiff::http

namespace skiff::cp {

// Immutable after construction; any thread. Holds every document in the forms it is served in:
// some hundred kilobytes.
class OpenApi {
 public:
  explicit OpenApi(const Kinds& kinds);

  // Answers GET of /openapi/v2 (JSON, or protobuf where Accept asks for it), /openapi/v3 and
  // /openapi/v3/{api/v1, apis/GROUP/VERSION}. Nothing for other paths.
  std::optional<http::Response> Handle(const http::Request& request) const;

  const std::string& v2_json() const { return v2_json_; }
  const std::string& v2_protobuf() const { return v2_protobuf_; }
  const std::string& v3_index() const { return v3_index_; }
  // By path below /openapi/v3/: "api/v1", "apis/apps/v1".
  const std::map<std::string, std::string>& v3() const { return v3_; }

 private:
  std::string v2_json_;
  std::string v2_protobuf_;
  std::string v3_index_;
  std::map<std::string, std::string> v3_;
};

}  // namespace skiff::cp
