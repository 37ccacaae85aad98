#include "cni/spec/document.h"

#include <limits>

namespace skiff::cni {
namespace {

Error WrongKind(const char* name, const char* kind) {
  return Error(Code::kInvalidArgument, std::string("\"") + name + "\" is not " + kind);
}

const Json* FindField(const Json& object, const char* name) {
  auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

}  // namespace

Result<Json> ParseDocument(std::string_view text, size_t limit_bytes, int max_depth) {
  if (text.size() > limit_bytes) {
    return Error(Code::kInvalidArgument,
                 "is larger than " + std::to_string(limit_bytes >> 10) + " KiB");
  }
  bool too_deep = false;
  Json document;
  try {
    document = Json::parse(text, [&](int depth, Json::parse_event_t, Json&) {
      too_deep = too_deep || depth > max_depth;
      return !too_deep;
    });
  } catch (const Json::exception& error) {
    return Error(Code::kInvalidArgument, std::string("is no JSON: ") + error.what());
  }
  if (too_deep) return Error(Code::kInvalidArgument, "is nested too deep");
  if (!document.is_object()) return Error(Code::kInvalidArgument, "is no JSON object");
  return document;
}

std::string RenderDocument(const Json& document) {
  return document.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<std::string> TextField(const Json& object, const char* name) {
  const Json* field = FindField(object, name);
  if (field == nullptr) return std::string();
  if (!field->is_string()) return WrongKind(name, "a string");
  return field->get<std::string>();
}

Result<bool> BoolField(const Json& object, const char* name, bool fallback) {
  const Json* field = FindField(object, name);
  if (field == nullptr) return fallback;
  if (!field->is_boolean()) return WrongKind(name, "true or false");
  return field->get<bool>();
}

Result<std::optional<uint32_t>> NumberField(const Json& object, const char* name) {
  const Json* field = FindField(object, name);
  if (field == nullptr) return std::optional<uint32_t>();
  if (!field->is_number_unsigned() ||
      field->get<uint64_t>() > std::numeric_limits<uint32_t>::max()) {
    return WrongKind(name, "a number of 32 bits");
  }
  return std::optional<uint32_t>(field->get<uint32_t>());
}

Result<std::vector<std::string>> TextsField(const Json& object, const char* name, size_t limit) {
  std::vector<std::string> texts;
  const Json* field = TRY(ArrayField(object, name, limit));
  if (field == nullptr) return texts;
  for (const Json& text : *field) {
    if (!text.is_string()) return WrongKind(name, "a list of strings");
    texts.push_back(text.get<std::string>());
  }
  return texts;
}

Result<const Json*> ArrayField(const Json& object, const char* name, size_t limit) {
  const Json* field = FindField(object, name);
  if (field == nullptr) return field;
  if (!field->is_array()) return WrongKind(name, "a list");
  if (field->size() > limit) {
    return Error(Code::kInvalidArgument, std::string("\"") + name + "\" has more than " +
                                             std::to_string(limit) + " entries");
  }
  return field;
}

Result<const Json*> ObjectField(const Json& object, const char* name) {
  const Json* field = FindField(object, name);
  if (field != nullptr && !field->is_object()) return WrongKind(name, "an object");
  return field;
}

}  // namespace skiff::cni
