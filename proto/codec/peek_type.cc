#include "proto/codec/json.h"
#include "proto/codec/json_reader.h"

namespace skiff::codec {

Result<TypeMeta> PeekType(std::string_view json) {
  JsonReader reader(json, DecodeOptions().max_depth);
  TypeMeta meta;
  bool more = true;
  JsonType type;
  std::string scratch, value_scratch;
  std::string_view key, value;
  bool ok = reader.Peek(&type);
  if (ok && type != JsonType::kObject) {
    return Error(Code::kInvalidArgument,
                 "couldn't get version/kind; json parse error: json: "
                 "cannot unmarshal " +
                     std::string(JsonTypeName(type)) +
                     " into Go value of type struct { APIVersion string; "
                     "Kind string }");
  }
  ok = ok && reader.EnterObject();
  while (ok && (ok = reader.NextKey(&more, &scratch, &key)) && more) {
    std::string* wanted = key == "apiVersion" ? &meta.api_version
                          : key == "kind"     ? &meta.kind
                                              : nullptr;
    if (wanted != nullptr && (ok = reader.Peek(&type)) && type == JsonType::kString) {
      ok = reader.ReadString(&value_scratch, &value);
      wanted->assign(value);
    } else {
      ok = ok && reader.SkipValue(nullptr);
    }
  }
  if (!ok || !reader.AtEnd()) {
    return Error(Code::kInvalidArgument,
                 "couldn't get version/kind; json parse error: " + reader.error());
  }
  return meta;
}

}  // namespace skiff::codec
