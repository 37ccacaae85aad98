// Field numbers: openapi.v2 of gnostic's OpenAPIv2.proto. Of its hundred messages a Kubernetes
// document needs a dozen, which are written here field by field.
#include "control-plane/api/kinds/openapi/gnostic.h"

#include <cstdint>

namespace skiff::cp {
namespace {

void AppendVarint(uint64_t value, std::string* out) {
  for (; value >= 0x80; value >>= 7) out->push_back(static_cast<char>(value | 0x80));
  out->push_back(static_cast<char>(value));
}

// The bytes of one message, field after field.
class MessageBytes {
 public:
  MessageBytes& Text(uint32_t number, const std::string& text) {
    AppendVarint(number << 3 | 2, &bytes_);
    AppendVarint(text.size(), &bytes_);
    bytes_ += text;
    return *this;
  }
  MessageBytes& Message(uint32_t number, const MessageBytes& message) {
    return Text(number, message.bytes_);
  }
  MessageBytes& Bool(uint32_t number, bool value) {
    AppendVarint(number << 3, &bytes_);
    AppendVarint(value ? 1 : 0, &bytes_);
    return *this;
  }
  // A string of the object, if it is there.
  MessageBytes& TextOf(uint32_t number, const Json& object, const char* key) {
    auto found = object.find(key);
    if (found != object.end()) Text(number, found->get_ref<const std::string&>());
    return *this;
  }
  MessageBytes& TextsOf(uint32_t number, const Json& object, const char* key) {
    auto found = object.find(key);
    if (found == object.end()) return *this;
    for (const Json& item : *found) Text(number, item.get_ref<const std::string&>());
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

// Any.yaml = 2: JSON is YAML.
MessageBytes Any(const Json& value) { return std::move(MessageBytes().Text(2, value.dump())); }

// Named... { name = 1; value = 2; }
MessageBytes Named(const std::string& name, const MessageBytes& value) {
  return std::move(MessageBytes().Text(1, name).Message(2, value));
}

// The x-... keys of an object, in the field of that number.
void AddExtensions(const Json& object, uint32_t number, MessageBytes* out) {
  for (const auto& [key, value] : object.items()) {
    if (key.starts_with("x-")) out->Message(number, Named(key, Any(value)));
  }
}

MessageBytes Schema(const Json& schema) {
  MessageBytes out;
  out.TextOf(1, schema, "$ref");
  out.TextOf(2, schema, "format");
  out.TextOf(4, schema, "description");
  if (auto value = schema.find("default"); value != schema.end()) out.Message(5, Any(*value));
  out.TextsOf(19, schema, "required");
  if (auto value = schema.find("additionalProperties"); value != schema.end()) {
    out.Message(21, MessageBytes().Message(1, Schema(*value)));
  }
  if (schema.contains("type")) {
    out.Message(22, MessageBytes().TextOf(1, schema, "type"));
  }
  if (auto items = schema.find("items"); items != schema.end()) {
    out.Message(23, MessageBytes().Message(1, Schema(*items)));
  }
  if (auto properties = schema.find("properties"); properties != schema.end()) {
    MessageBytes list;
    for (const auto& [name, property] : properties->items()) {
      list.Message(1, Named(name, Schema(property)));
    }
    out.Message(25, list);
  }
  AddExtensions(schema, 31, &out);
  return out;
}

// ParametersItem.parameter = 1, Parameter {body_parameter = 1; non_body_parameter = 2;}
MessageBytes Parameter(const Json& parameter) {
  MessageBytes item;
  const std::string& in = parameter["in"].get_ref<const std::string&>();
  if (in == "body") {
    MessageBytes body;
    body.TextOf(2, parameter, "name").TextOf(3, parameter, "in").Bool(4, true);
    body.Message(5, Schema(parameter["schema"]));
    item.Message(1, body);
  } else if (in == "query") {
    MessageBytes query;
    query.TextOf(2, parameter, "in").TextOf(4, parameter, "name").TextOf(6, parameter, "type");
    item.Message(2, MessageBytes().Message(3, query));
  } else {
    MessageBytes path;
    path.Bool(1, true).TextOf(2, parameter, "in");
    path.TextOf(4, parameter, "name").TextOf(5, parameter, "type");
    item.Message(2, MessageBytes().Message(4, path));
  }
  return std::move(MessageBytes().Message(1, item));
}

MessageBytes Operation(const Json& operation) {
  MessageBytes out;
  out.TextOf(5, operation, "operationId");
  out.TextsOf(6, operation, "produces");
  out.TextsOf(7, operation, "consumes");
  for (const Json& parameter : operation["parameters"]) out.Message(8, Parameter(parameter));
  MessageBytes responses;
  for (const auto& [code, response] : operation["responses"].items()) {
    MessageBytes value;
    value.TextOf(1, response, "description");
    value.Message(2, MessageBytes().Message(1, Schema(response["schema"])));
    responses.Message(1, Named(code, MessageBytes().Message(1, value)));
  }
  out.Message(9, responses);
  AddExtensions(operation, 13, &out);
  return out;
}

MessageBytes PathItem(const Json& item) {
  static constexpr std::pair<const char*, uint32_t> kMethods[] = {
      {"get", 2}, {"put", 3}, {"post", 4}, {"delete", 5}, {"patch", 8}};
  MessageBytes out;
  for (const auto& [method, number] : kMethods) {
    auto operation = item.find(method);
    if (operation != item.end()) out.Message(number, Operation(*operation));
  }
  auto parameters = item.find("parameters");
  if (parameters != item.end()) {
    for (const Json& parameter : *parameters) out.Message(9, Parameter(parameter));
  }
  return out;
}

}  // namespace

std::string EncodeGnostic(const Json& document) {
  MessageBytes paths, definitions;
  for (const auto& [path, item] : document["paths"].items()) {
    paths.Message(2, Named(path, PathItem(item)));
  }
  for (const auto& [name, schema] : document["definitions"].items()) {
    definitions.Message(1, Named(name, Schema(schema)));
  }
  const Json& info = document["info"];
  MessageBytes out;
  out.TextOf(1, document, "swagger");
  out.Message(2, MessageBytes().TextOf(1, info, "title").TextOf(2, info, "version"));
  out.Message(8, paths).Message(9, definitions);
  return out.bytes();
}

}  // namespace skiff::cp
