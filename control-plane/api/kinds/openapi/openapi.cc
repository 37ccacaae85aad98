#include "control-plane/api/kinds/openapi/openapi.h"

#include <google/protobuf/message.h>

#include <array>
#include <cstdio>

#include "base/http/message.h"
#include "control-plane/api/kinds/openapi/gnostic.h"
#include "control-plane/api/kinds/openapi/paths.h"
#include "control-plane/api/kinds/openapi/schemas.h"

namespace skiff::cp {
namespace {

// Clients ask for it with an @, which media types may not hold (RFC 6838): the answer has a dot.
constexpr char kV2Protobuf[] = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
constexpr std::string_view kV3Root = "/openapi/v3";

Json Info() { return {{"title", "Kubernetes"}, {"version", "v1.36.0"}}; }

void AddKind(const KindInfo& kind, OpenApiVersion version, Json* paths, Json* schemas) {
  AddPaths(kind, version, paths);
  AddSchemas(*kind.prototype->GetDescriptor(), version, schemas);
  if (kind.list_prototype != nullptr) {
    AddSchemas(*kind.list_prototype->GetDescriptor(), version, schemas);
  }
}

// The content's hash, for ETags and for the URLs that clients may cache for ever. FNV-1a, 64 bits.
std::string HashOf(const std::string& text) {
  uint64_t hash = 14695981039346656037u;
  for (char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  std::array<char, 17> hex;
  std::snprintf(hex.data(), hex.size(), "%016llX", static_cast<unsigned long long>(hash));
  return hex.data();
}

http::Response Answer(const http::Request& request, const std::string& body,
                      std::string_view content_type) {
  http::Response response;
  std::string hash = HashOf(body);
  std::string tag = "\"" + hash + "\"";
  response.headers.Add("Content-Type", content_type);
  response.headers.Add("ETag", tag);
  response.headers.Add("Vary", "Accept");
  if (request.query.Value("hash") == hash) {
    response.headers.Add("Cache-Control", "public, immutable");
  }
  if (request.headers.Get("If-None-Match") == tag) {
    response.status = 304;
  } else {
    response.body = body;
  }
  return response;
}

}  // namespace

OpenApi::OpenApi(const Kinds& kinds) {
  Json v2{{"swagger", "2.0"},
          {"info", Info()},
          {"paths", Json::object()},
          {"definitions", Json::object()}};
  std::map<std::string, Json> documents;
  for (const auto& kind : kinds.all()) {
    AddKind(*kind, OpenApiVersion::kV2, &v2["paths"], &v2["definitions"]);
    std::string path = kind->group.empty() ? "api/" + kind->version : "apis/" + kind->ApiVersion();
    Json& document = documents[path];
    document["openapi"] = "3.0.0";
    document["info"] = Info();
    AddKind(*kind, OpenApiVersion::kV3, &document["paths"], &document["components"]["schemas"]);
  }
  v2_json_ = v2.dump();
  v2_protobuf_ = EncodeGnostic(v2);
  Json index{{"paths", Json::object()}};
  for (const auto& [path, document] : documents) {
    std::string text = document.dump();
    index["paths"][path]["serverRelativeURL"] =
        std::string(kV3Root) + "/" + path + "?hash=" + HashOf(text);
    v3_[path] = std::move(text);
  }
  v3_index_ = index.dump();
}

std::optional<http::Response> OpenApi::Handle(const http::Request& request) const {
  if (request.method != "GET" && request.method != "HEAD") return std::nullopt;
  std::string_view path = request.path;
  if (path == "/openapi/v2") {
    // kubectl asks for the protobuf form by name; others get JSON.
    std::string_view accept = request.headers.Get("Accept");
    bool protobuf = accept.find("proto-openapi.spec.v2@v1.0+protobuf") != std::string_view::npos ||
                    accept.find("proto-openapi.spec.v2.v1.0+protobuf") != std::string_view::npos;
    return protobuf ? Answer(request, v2_protobuf_, kV2Protobuf)
                    : Answer(request, v2_json_, "application/json");
  }
  if (path == kV3Root) return Answer(request, v3_index_, "application/json");
  if (!path.starts_with(kV3Root) || path.size() < kV3Root.size() + 1) return std::nullopt;
  auto found = v3_.find(std::string(path.substr(kV3Root.size() + 1)));
  if (found == v3_.end()) return std::nullopt;
  return Answer(request, found->second, "application/json");
}

}  // namespace skiff::cp
