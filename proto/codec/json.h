// Kubernetes JSON to and from the messages of proto/k8s.
//
// The rules are those of upstream's Go types (encoding/json tags), not proto3 JSON: keys that are
// always written, presence of pointers, inlined structs, times, quantities, int-or-string, bytes in
// base64, raw extensions. They are read from the custom options of proto/k8s/options.proto.
//
// All functions are pure and may be called from any thread; what they learn about a message type
// is kept for the life of the process.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace google::protobuf {
class Message;
}

namespace skiff::codec {

// Kubernetes' fieldValidation: what becomes of unknown and of repeated JSON fields.
enum class FieldValidation { kIgnore, kWarn, kStrict };

struct DecodeOptions {
  FieldValidation field_validation = FieldValidation::kIgnore;
  size_t max_bytes = 3 * 1024 * 1024;  // upstream's limit of a request body
  int max_depth = 200;                 // nested objects and arrays
};

// The message as JSON, without line breaks; map keys are sorted. A kind's own apiVersion and kind
// come first; those of nested kinds (the items of a list) are left out, as upstream does.
std::string EncodeJson(const google::protobuf::Message& message);
void AppendJson(const google::protobuf::Message& message, std::string* out);

// Fills *message, which is cleared first, from one JSON object. Keys are matched case-sensitively.
// apiVersion and kind of a kind are accepted and not compared with the message: see PeekType.
//
// Errors are InvalidArgument, in upstream's words where a user knows them:
//   json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32
//   strict decoding error: unknown field "spec.foo", duplicate field "spec.replicas"
// With kWarn the second kind goes to *warnings instead, one `unknown field "spec.foo"` each.
// ResourceExhausted: the text is longer than max_bytes. *message is unspecified after an error.
Result<> DecodeJson(std::string_view json, const DecodeOptions& options,
                    google::protobuf::Message* message,
                    std::vector<std::string>* warnings = nullptr);

struct TypeMeta {
  std::string api_version;  // "apps/v1"; empty if the document has none
  std::string kind;
};

// apiVersion and kind of a JSON object without decoding the rest.
Result<TypeMeta> PeekType(std::string_view json);

// Brings a message that came from elsewhere (protobuf, or built by code) into the form DecodeJson
// gives: quantities canonical, empty values that do not count as presence cleared. Two objects
// that mean the same then serialise to the same bytes. InvalidArgument: a malformed quantity.
Result<> Normalize(google::protobuf::Message* message);

}  // namespace skiff::codec
