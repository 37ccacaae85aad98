#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <bitset>
#include <charconv>

#include "proto/codec/base64.h"
#include "proto/codec/json.h"
#include "proto/codec/json_reader.h"
#include "proto/codec/map_access.h"
#include "proto/codec/plan.h"
#include "proto/codec/quantity.h"
#include "proto/codec/time_format.h"
#include "proto/k8s/intstr/int_or_string.pb.h"
#include "proto/k8s/meta/v1/time.pb.h"
#include "proto/k8s/resource/quantity.pb.h"

namespace skiff::codec {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::MapKey;
using google::protobuf::MapValueRef;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr size_t kMaxIssues = 100;  // unknown and repeated fields that are named

template <class T>
T& As(Message* message) {
  return static_cast<T&>(*message);
}

// Reads one document. Every function returns false after the first error, which error_ holds.
class Decoder {
 public:
  Decoder(std::string_view json, const DecodeOptions& options)
      : reader_(json, options.max_depth),
        note_issues_(options.field_validation != FieldValidation::kIgnore) {}

  bool Root(Message* message);
  const std::string& error() const { return error_.empty() ? reader_.error() : error_; }
  std::vector<std::string>& issues() { return issues_; }

 private:
  // Where in the document the decoder is: a field's key, or an element of a list or map.
  struct Step {
    const FieldPlan* field;
    std::string_view key;  // of a map's entry
    int index;             // of a list's element, or -1
  };

  // Sets *empty if nothing in the message counts as present afterwards.
  bool Value(const TypePlan& plan, Message* message, bool* empty);
  bool Object(const TypePlan& plan, Message* message, bool* empty);
  bool ObjectKey(const TypePlan& plan, std::string_view key, Message* message,
                 std::bitset<256>* seen, bool* empty);
  bool Field(const FieldPlan& plan, Message* message, bool* empty);
  bool Repeated(const FieldPlan& plan, Message* message);
  bool Element(const FieldPlan& plan, Message* message, const Reflection& reflection);
  bool Map(const FieldPlan& plan, Message* message);
  bool MapEntry(const FieldPlan& plan, std::string_view key, Message* message);
  bool Scalar(const FieldPlan& plan, Message* message, bool* empty);
  bool Time(const TypePlan& plan, Message* message);
  bool Duration(Message* message);
  bool Quantity(Message* message);
  bool IntOrString(Message* message);
  bool RawJson(const TypePlan& plan, Message* message);
  bool StringList(const TypePlan& plan, Message* message);

  bool String(const FieldDescriptor* field, bool element, std::string* value);
  bool Bytes(const FieldDescriptor* field, bool element, std::string* value);
  template <class Integer>
  bool Int(const FieldDescriptor* field, bool element, Integer* value);
  bool Double(const FieldDescriptor* field, bool element, double* value);
  bool Bool(const FieldDescriptor* field, bool element, bool* value);

  bool TakeNull(JsonType type, bool* taken) {
    *taken = type == JsonType::kNull;
    return !*taken || reader_.ReadNull();
  }
  bool Fail(std::string message) {
    if (error_.empty()) error_ = std::move(message);
    return false;
  }
  // "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type ..."
  bool WrongType(std::string_view got, const std::string& wanted);
  bool Expect(JsonType wanted, const FieldDescriptor* field, bool element);
  std::string Path(std::string_view last) const;
  std::string GoPath() const;
  void Issue(std::string_view what, std::string_view key);

  JsonReader reader_;
  bool note_issues_;
  std::string error_;
  std::vector<Step> path_;
  std::vector<std::string> issues_;
};

bool Decoder::Root(Message* message) {
  const TypePlan& plan = PlanOf(*message->GetDescriptor());
  bool empty;
  JsonType type;
  if (!reader_.Peek(&type)) return false;
  if (plan.shape == Shape::kObject && type != JsonType::kObject) {
    return Fail("json: cannot unmarshal " + std::string(JsonTypeName(type)) +
                " into Go value of type " + GoTypeName(*plan.type));
  }
  return Value(plan, message, &empty) && reader_.AtEnd();
}

// spec.containers[0].env, as strict decoding names fields.
std::string Decoder::Path(std::string_view last) const {
  std::string path;
  for (const Step& step : path_) {
    if (step.index >= 0) {
      path += "[" + std::to_string(step.index) + "]";
      continue;
    }
    if (!path.empty()) path += '.';
    path += step.field != nullptr ? std::string_view(step.field->name) : step.key;
  }
  if (!last.empty()) {
    if (!path.empty()) path += '.';
    path += last;
  }
  return path;
}

// DeploymentSpec.spec.template.spec.containers: the struct, then the keys without indices.
std::string Decoder::GoPath() const {
  std::string path;
  const FieldDescriptor* field = nullptr;
  for (const Step& step : path_) {
    if (step.index >= 0 || step.field == nullptr) continue;
    path.append(".").append(step.field->name);
    field = step.field->field;
  }
  return field == nullptr ? path : field->containing_type()->name() + path;
}

void Decoder::Issue(std::string_view what, std::string_view key) {
  if (!note_issues_ || issues_.size() >= kMaxIssues) return;
  issues_.push_back(std::string(what) + " field \"" + Path(key) + "\"");
}

bool Decoder::WrongType(std::string_view got, const std::string& wanted) {
  std::string where = path_.empty() ? "Go value" : "Go struct field " + GoPath();
  return Fail("json: cannot unmarshal " + std::string(got) + " into " + where + " of type " +
              wanted);
}

bool Decoder::Expect(JsonType wanted, const FieldDescriptor* field, bool element) {
  JsonType type;
  if (!reader_.Peek(&type)) return false;
  if (type == wanted) return true;
  std::string got(JsonTypeName(type));
  return WrongType(got, GoTypeName(*field, element));
}

bool Decoder::Value(const TypePlan& plan, Message* message, bool* empty) {
  JsonType type;
  bool null;
  *empty = false;
  if (!reader_.Peek(&type)) return false;
  if (plan.shape != Shape::kRawJson) {
    if (!TakeNull(type, &null)) return false;
    if (null) {
      *empty = true;
      return true;
    }
  }
  switch (plan.shape) {
    case Shape::kObject:
      if (type != JsonType::kObject) return WrongType(JsonTypeName(type), GoTypeName(*plan.type));
      return Object(plan, message, empty);
    case Shape::kTime:
    case Shape::kMicroTime: return Time(plan, message);
    case Shape::kDuration: return Duration(message);
    case Shape::kQuantity: return Quantity(message);
    case Shape::kIntOrString: return IntOrString(message);
    case Shape::kRawJson: return RawJson(plan, message);
    case Shape::kStringList: return StringList(plan, message);
  }
  return false;
}

bool Decoder::Object(const TypePlan& plan, Message* message, bool* empty) {
  *empty = true;
  std::bitset<256> seen;  // ordinals of the keys; the largest Kubernetes message has some 50
  bool more = true;
  std::string scratch;
  std::string_view key;
  if (!reader_.EnterObject()) return false;
  for (;;) {
    if (!reader_.NextKey(&more, &scratch, &key)) return false;
    if (!more) break;
    bool field_empty = true;
    if (!ObjectKey(plan, key, message, &seen, &field_empty)) return false;
    *empty = *empty && field_empty;
  }
  // An inlined message is made on the way to its fields, even if these turn out to be empty.
  for (const FieldPlan& field : plan.fields) {
    const Reflection& reflection = *message->GetReflection();
    if (!field.is_inline || !reflection.HasField(*message, field.field)) continue;
    if (reflection.GetMessage(*message, field.field).ByteSizeLong() == 0) {
      reflection.ClearField(message, field.field);
    }
  }
  return true;
}

bool Decoder::ObjectKey(const TypePlan& plan, std::string_view key, Message* message,
                        std::bitset<256>* seen, bool* empty) {
  auto found = plan.keys.find(key);
  if (found == plan.keys.end()) {
    bool type_meta = plan.gvk != nullptr && (key == "apiVersion" || key == "kind");
    if (!type_meta) Issue("unknown", key);
    return reader_.SkipValue(nullptr);
  }
  const KeyPlan& target = found->second;
  if (seen->test(target.ordinal % seen->size())) Issue("duplicate", key);
  seen->set(target.ordinal % seen->size());
  for (const FieldDescriptor* step : target.through) {
    message = message->GetReflection()->MutableMessage(message, step);
  }
  path_.push_back({target.field, {}, -1});
  bool ok = Field(*target.field, message, empty);
  if (ok) path_.pop_back();
  return ok;
}

bool Decoder::Field(const FieldPlan& plan, Message* message, bool* empty) {
  const Reflection& reflection = *message->GetReflection();
  // A repeated key replaces what the first one said.
  reflection.ClearField(message, plan.field);
  JsonType type;
  bool null;
  *empty = true;
  if (!reader_.Peek(&type) || !TakeNull(type, &null)) return false;
  if (null) return true;
  if (plan.field->is_map()) {
    if (!Expect(JsonType::kObject, plan.field, false) || !Map(plan, message)) return false;
    *empty = MapAccess::Size(*message, plan.field) == 0;
    return true;
  }
  if (plan.field->is_repeated()) {
    if (!Expect(JsonType::kArray, plan.field, false) || !Repeated(plan, message)) return false;
    *empty = reflection.FieldSize(*message, plan.field) == 0;
    return true;
  }
  if (plan.type == nullptr) return Scalar(plan, message, empty);
  if (!Value(*plan.type, reflection.MutableMessage(message, plan.field), empty)) return false;
  if (plan.pointer) {
    *empty = false;
  } else if (*empty) {
    reflection.ClearField(message, plan.field);
  }
  return true;
}

bool Decoder::Repeated(const FieldPlan& plan, Message* message) {
  const Reflection& reflection = *message->GetReflection();
  bool more = true;
  if (!reader_.EnterArray()) return false;
  path_.push_back({&plan, {}, 0});
  for (;; ++path_.back().index) {
    if (!reader_.NextElement(&more)) return false;
    if (!more) break;
    if (!Element(plan, message, reflection)) return false;
  }
  path_.pop_back();
  return true;
}

bool Decoder::Element(const FieldPlan& plan, Message* message, const Reflection& reflection) {
  const FieldDescriptor* field = plan.field;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE: {
      bool empty;
      return Value(*plan.type, reflection.AddMessage(message, field), &empty);
    }
    case FieldDescriptor::CPPTYPE_STRING: {
      std::string value;
      bool bytes = field->type() == FieldDescriptor::TYPE_BYTES;
      if (!(bytes ? Bytes(field, true, &value) : String(field, true, &value))) return false;
      reflection.AddString(message, field, std::move(value));
      return true;
    }
    case FieldDescriptor::CPPTYPE_INT32: {
      int32_t value = 0;
      if (!Int(field, true, &value)) return false;
      reflection.AddInt32(message, field, value);
      return true;
    }
    case FieldDescriptor::CPPTYPE_INT64: {
      int64_t value = 0;
      if (!Int(field, true, &value)) return false;
      reflection.AddInt64(message, field, value);
      return true;
    }
    default: return Fail("a list of this type cannot be read");
  }
}

bool Decoder::Map(const FieldPlan& plan, Message* message) {
  bool more = true;
  std::string scratch;
  std::string_view key;
  if (!reader_.EnterObject()) return false;
  for (;;) {
    if (!reader_.NextKey(&more, &scratch, &key)) return false;
    if (!more) return true;
    if (!MapEntry(plan, key, message)) return false;
  }
}

bool Decoder::MapEntry(const FieldPlan& plan, std::string_view key, Message* message) {
  const FieldDescriptor* value_field = plan.field->message_type()->map_value();
  MapKey map_key;
  map_key.SetStringValue(std::string(key));
  // `key` may lie in a scratch buffer; the path needs a text that stays.
  std::string_view owned = map_key.GetStringValue();
  MapValueRef value;
  if (!MapAccess::Insert(message, plan.field, map_key, &value)) Issue("duplicate", key);
  path_.push_back({nullptr, owned, -1});
  bool ok;
  if (plan.type != nullptr) {
    bool empty;
    Message* entry = value.MutableMessageValue();
    entry->Clear();
    ok = Value(*plan.type, entry, &empty);
  } else {
    std::string text;
    ok = value_field->type() == FieldDescriptor::TYPE_BYTES ? Bytes(plan.field, true, &text)
                                                            : String(plan.field, true, &text);
    value.SetStringValue(text);
  }
  if (ok) path_.pop_back();
  return ok;
}

bool Decoder::Scalar(const FieldPlan& plan, Message* message, bool* empty) {
  const Reflection& reflection = *message->GetReflection();
  const FieldDescriptor* field = plan.field;
  bool zero = false;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING: {
      std::string value;
      bool bytes = field->type() == FieldDescriptor::TYPE_BYTES;
      if (!(bytes ? Bytes(field, false, &value) : String(field, false, &value))) return false;
      zero = value.empty();
      reflection.SetString(message, field, std::move(value));
      break;
    }
    case FieldDescriptor::CPPTYPE_INT32: {
      int32_t value = 0;
      if (!Int(field, false, &value)) return false;
      zero = value == 0;
      reflection.SetInt32(message, field, value);
      break;
    }
    case FieldDescriptor::CPPTYPE_INT64: {
      int64_t value = 0;
      if (!Int(field, false, &value)) return false;
      zero = value == 0;
      reflection.SetInt64(message, field, value);
      break;
    }
    case FieldDescriptor::CPPTYPE_BOOL: {
      bool value = false;
      if (!Bool(field, false, &value)) return false;
      zero = !value;
      reflection.SetBool(message, field, value);
      break;
    }
    case FieldDescriptor::CPPTYPE_DOUBLE: {
      double value = 0;
      if (!Double(field, false, &value)) return false;
      zero = value == 0;
      reflection.SetDouble(message, field, value);
      break;
    }
    default: return Fail("a field of this type cannot be read");
  }
  *empty = zero && !plan.pointer;
  if (*empty) reflection.ClearField(message, field);
  return true;
}

bool Decoder::String(const FieldDescriptor* field, bool element, std::string* value) {
  JsonType type;
  bool null;
  if (!reader_.Peek(&type) || !TakeNull(type, &null)) return false;
  if (null) return true;
  if (type != JsonType::kString) return Expect(JsonType::kString, field, element);
  std::string_view text;
  if (!reader_.ReadString(value, &text)) return false;
  if (text.data() != value->data()) value->assign(text);
  return true;
}

bool Decoder::Bytes(const FieldDescriptor* field, bool element, std::string* value) {
  std::string text;
  if (!String(field, element, &text)) return false;
  size_t bad_at = 0;
  std::optional<std::string> bytes = DecodeBase64(text, &bad_at);
  if (!bytes) {
    return Fail("illegal base64 data at input byte " + std::to_string(bad_at) + " in field " +
                Path({}));
  }
  *value = std::move(*bytes);
  return true;
}

template <class Integer>
bool Decoder::Int(const FieldDescriptor* field, bool element, Integer* value) {
  JsonType type;
  bool null;
  if (!reader_.Peek(&type) || !TakeNull(type, &null)) return false;
  if (null) return true;
  std::string_view token;
  if (type != JsonType::kNumber) return Expect(JsonType::kNumber, field, element);
  if (!reader_.ReadNumber(&token)) return false;
  auto [end, error] = std::from_chars(token.data(), token.data() + token.size(), *value);
  if (error == std::errc() && end == token.data() + token.size()) return true;
  return WrongType("number " + std::string(token), GoTypeName(*field, element));
}

bool Decoder::Double(const FieldDescriptor* field, bool element, double* value) {
  std::string_view token;
  if (!Expect(JsonType::kNumber, field, element) || !reader_.ReadNumber(&token)) return false;
  auto [end, error] = std::from_chars(token.data(), token.data() + token.size(), *value);
  if (error == std::errc()) return true;
  return WrongType("number " + std::string(token), GoTypeName(*field, element));
}

bool Decoder::Bool(const FieldDescriptor* field, bool element, bool* value) {
  return Expect(JsonType::kBool, field, element) && reader_.ReadBool(value);
}

bool Decoder::Time(const TypePlan& plan, Message* message) {
  JsonType type;
  std::string scratch;
  std::string_view text;
  if (!reader_.Peek(&type)) return false;
  if (type != JsonType::kString) return WrongType(JsonTypeName(type), GoTypeName(*plan.type));
  if (!reader_.ReadString(&scratch, &text)) return false;
  std::optional<TimePoint> time = ParseTime(text);
  if (!time) {
    return Fail("parsing time \"" + std::string(text) +
                "\" as \"2006-01-02T15:04:05Z07:00\": cannot parse the value of " + Path({}));
  }
  if (plan.shape == Shape::kTime) {
    // Whole seconds, as upstream writes both forms.
    As<k8s::meta::v1::Time>(message).set_seconds(time->seconds);
    As<k8s::meta::v1::Time>(message).set_nanos(0);
  } else {
    As<k8s::meta::v1::MicroTime>(message).set_seconds(time->seconds);
    As<k8s::meta::v1::MicroTime>(message).set_nanos(time->nanos / 1000 * 1000);
  }
  return true;
}

bool Decoder::Duration(Message* message) {
  JsonType type;
  std::string scratch;
  std::string_view text;
  if (!reader_.Peek(&type)) return false;
  if (type != JsonType::kString) return WrongType(JsonTypeName(type), "v1.Duration");
  if (!reader_.ReadString(&scratch, &text)) return false;
  std::optional<int64_t> duration = ParseDuration(text);
  if (!duration) return Fail("time: invalid duration \"" + std::string(text) + "\"");
  As<k8s::meta::v1::Duration>(message).set_duration(*duration);
  return true;
}

bool Decoder::Quantity(Message* message) {
  JsonType type;
  std::string scratch;
  std::string_view text;
  if (!reader_.Peek(&type)) return false;
  if (type == JsonType::kNumber) {
    if (!reader_.ReadNumber(&text)) return false;
  } else if (type != JsonType::kString) {
    return WrongType(JsonTypeName(type), "resource.Quantity");
  } else if (!reader_.ReadString(&scratch, &text)) {
    return false;
  }
  size_t first = text.find_first_not_of(" \t");
  size_t last = text.find_last_not_of(" \t");
  auto trimmed = first == std::string_view::npos ? text : text.substr(first, last - first + 1);
  Result<codec::Quantity> quantity =
      trimmed.empty() ? codec::Quantity() : codec::Quantity::Parse(trimmed);
  if (!quantity) return Fail(quantity.error().message() + " (in " + Path({}) + ")");
  quantity->WriteTo(&As<k8s::resource::Quantity>(message));
  return true;
}

bool Decoder::IntOrString(Message* message) {
  auto& value = As<k8s::intstr::IntOrString>(message);
  JsonType type;
  std::string scratch;
  std::string_view text;
  if (!reader_.Peek(&type)) return false;
  // All three fields are set, as upstream's wire form has them.
  value.set_int_val(0);
  value.set_str_val("");
  value.set_type(type == JsonType::kString ? 1 : 0);
  if (type == JsonType::kString) {
    if (!reader_.ReadString(&scratch, &text)) return false;
    value.set_str_val(std::string(text));
    return true;
  }
  if (type != JsonType::kNumber) return WrongType(JsonTypeName(type), "intstr.IntOrString");
  if (!reader_.ReadNumber(&text)) return false;
  int32_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) {
    return WrongType("number " + std::string(text), "int32");
  }
  value.set_int_val(number);
  return true;
}

bool Decoder::RawJson(const TypePlan& plan, Message* message) {
  std::string_view raw;
  if (!reader_.SkipValue(&raw)) return false;
  if (raw == "null") return true;
  message->GetReflection()->SetString(message, plan.value, CompactJson(raw));
  return true;
}

bool Decoder::StringList(const TypePlan& plan, Message* message) {
  JsonType type;
  if (!reader_.Peek(&type)) return false;
  if (type != JsonType::kArray) return WrongType(JsonTypeName(type), "[]string");
  bool more = true;
  if (!reader_.EnterArray()) return false;
  for (;;) {
    if (!reader_.NextElement(&more)) return false;
    if (!more) return true;
    std::string value;
    if (!String(plan.value, true, &value)) return false;
    message->GetReflection()->AddString(message, plan.value, std::move(value));
  }
}

std::string Join(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : ", ") + part;
  return text;
}

}  // namespace

Result<> DecodeJson(std::string_view json, const DecodeOptions& options, Message* message,
                    std::vector<std::string>* warnings) {
  message->Clear();
  if (json.size() > options.max_bytes) {
    return Error(Code::kResourceExhausted, "the document has " + std::to_string(json.size()) +
                                               " bytes, more than the limit of " +
                                               std::to_string(options.max_bytes));
  }
  Decoder decoder(json, options);
  if (!decoder.Root(message)) return Error(Code::kInvalidArgument, decoder.error());
  if (decoder.issues().empty()) return {};
  if (options.field_validation == FieldValidation::kStrict) {
    return Error(Code::kInvalidArgument, "strict decoding error: " + Join(decoder.issues()));
  }
  if (warnings != nullptr) {
    warnings->insert(warnings->end(), decoder.issues().begin(), decoder.issues().end());
  }
  return {};
}

}  // namespace skiff::codec
