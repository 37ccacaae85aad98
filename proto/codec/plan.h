// How a message type looks in JSON, worked out once per type from its descriptor and options.
// Plans live as long as the process; any thread.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "proto/codec/meta.h"

namespace google::protobuf {
class Descriptor;
class FieldDescriptor;
}  // namespace google::protobuf

namespace skiff::codec {

// Messages that are no JSON objects.
enum class Shape {
  kObject,
  kTime,         // "2006-01-02T15:04:05Z"
  kMicroTime,    // "2006-01-02T15:04:05.000000Z"
  kDuration,     // "1h2m3s"
  kQuantity,     // "100m"
  kIntOrString,  // 80 or "http"
  kRawJson,      // RawExtension, FieldsV1: the JSON text that a bytes field holds
  kStringList,   // Verbs, ExtraValue: the array that `items` holds
};

struct TypePlan;

struct FieldPlan {
  const google::protobuf::FieldDescriptor* field = nullptr;
  std::string name;                // the JSON key
  std::string key;                 // the JSON key in quotes, with the colon
  const TypePlan* type = nullptr;  // of a message, an element or a map's value
  bool is_inline = false;
  bool pointer = false;
  bool omitempty = false;
  bool omitzero = false;    // an empty struct is left out
  bool empty_list = false;  // a list's items: [] rather than null
};

// A JSON key: the field it names, and the inlined messages on the way to it.
struct KeyPlan {
  const FieldPlan* field = nullptr;
  std::vector<const google::protobuf::FieldDescriptor*> through;
  size_t ordinal = 0;  // among the type's keys
};

struct TypePlan {
  const google::protobuf::Descriptor* type = nullptr;
  Shape shape = Shape::kObject;
  const GroupVersionKind* gvk = nullptr;                     // of a kind
  const google::protobuf::FieldDescriptor* value = nullptr;  // kRawJson, kStringList: its field
  std::vector<FieldPlan> fields;
  std::unordered_map<std::string_view, KeyPlan> keys;
};

const TypePlan& PlanOf(const google::protobuf::Descriptor& type);

// As Go prints the type in a decoding error: "int32", "[]v1.Container", "map[string]string".
std::string GoTypeName(const google::protobuf::FieldDescriptor& field, bool element);
std::string GoTypeName(const google::protobuf::Descriptor& type);

}  // namespace skiff::codec
