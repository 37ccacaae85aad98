// Which form a client sends and wants: JSON, YAML or Kubernetes protobuf; the object itself, a
// table of it, or its metadata only.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/http/message.h"
#include "control-plane/api/status.h"

namespace skiff::cp {

enum class Format { kJson, kYaml, kProtobuf };
enum class Shape { kObject, kTable, kPartialMetadata };

struct Accepted {
  Format format = Format::kJson;
  Shape shape = Shape::kObject;
  std::string shape_version = "v1";  // of meta.k8s.io: "v1" or "v1beta1"
};

// The first of the client's choices (by q, then in order) that we can give. 406 otherwise.
// shapes: whether tables and metadata are on offer.
ApiResult<Accepted> NegotiateAnswer(const http::Request& request, bool shapes);
// By Content-Type; JSON when there is none. 415 otherwise.
ApiResult<Format> BodyFormat(const http::Request& request);

// "application/json", ...; for watches ";stream=watch" is added where upstream does.
std::string ContentType(Format format, bool watch);

// One element of an Accept header.
struct MediaRange {
  std::string type;  // lower case, "application/json"
  std::vector<std::pair<std::string, std::string>> parameters;
  int quality = 1000;  // thousandths
  std::string_view Parameter(std::string_view name) const;
};
// In the order of preference. "*/*" when there is no Accept header.
std::vector<MediaRange> ParseAccept(const http::Request& request);

}  // namespace skiff::cp
