#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "proto/codec/base64.h"
#include "proto/codec/json.h"
#include "proto/codec/json_reader.h"
#include "proto/codec/map_access.h"
#include "proto/codec/plan.h"
#include "proto/codec/quantity.h"
#include "proto/codec/time_format.h"
#include "proto/codec/wire.h"
#include "proto/k8s/intstr/int_or_string.pb.h"
#include "proto/k8s/meta/v1/time.pb.h"
#include "proto/k8s/resource/quantity.pb.h"

namespace skiff::codec {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::MapIterator;
using google::protobuf::Message;
using google::protobuf::Reflection;

template <class T>
const T& As(const Message& message) {
  return static_cast<const T&>(message);
}

void AppendInteger(int64_t value, std::string* out) {
  char text[24];
  auto [end, error] = std::to_chars(text, text + sizeof text, value);
  out->append(text, end);
}

// JSON has no infinities; upstream refuses to encode them, and no decoder of ours makes them.
void AppendDouble(double value, std::string* out) {
  char text[32];
  auto [end, error] = std::to_chars(text, text + sizeof text, std::isfinite(value) ? value : 0.0);
  out->append(text, end);
}

class Encoder {
 public:
  explicit Encoder(std::string* out) : out_(*out) {}

  void Root(const Message& message, const TypePlan& plan) {
    if (plan.shape != Shape::kObject || plan.gvk == nullptr) return Value(message, plan);
    out_ += "{\"kind\":";
    AppendJsonString(plan.gvk->kind, &out_);
    out_ += ",\"apiVersion\":";
    AppendJsonString(plan.gvk->ApiVersion(), &out_);
    bool first = false;
    Fields(message, plan, &first);
    out_ += '}';
  }

 private:
  void Value(const Message& message, const TypePlan& plan);
  void Fields(const Message& message, const TypePlan& plan, bool* first);
  void Field(const Message& message, const FieldPlan& plan, bool* first);
  void Key(const FieldPlan& plan, bool* first) {
    if (!*first) out_ += ',';
    *first = false;
    out_ += plan.key;
  }
  void RawJson(const Message& message, const TypePlan& plan);
  void StringList(const Message& message, const FieldDescriptor* field);
  void Repeated(const Message& message, const FieldPlan& plan);
  void Map(const Message& message, const FieldPlan& plan);
  void Scalar(const Message& message, const Reflection& reflection, const FieldDescriptor* field);

  std::string& out_;
  std::string scratch_;
};

void Encoder::Value(const Message& message, const TypePlan& plan) {
  switch (plan.shape) {
    case Shape::kObject: {
      out_ += '{';
      bool first = true;
      Fields(message, plan, &first);
      out_ += '}';
      return;
    }
    case Shape::kTime: {
      const auto& time = As<k8s::meta::v1::Time>(message);
      if (!time.has_seconds()) {
        out_ += "null";
      } else {
        out_.append("\"").append(FormatTime(time.seconds())).append("\"");
      }
      return;
    }
    case Shape::kMicroTime: {
      const auto& time = As<k8s::meta::v1::MicroTime>(message);
      if (!time.has_seconds()) {
        out_ += "null";
      } else {
        out_.append("\"").append(FormatMicroTime({time.seconds(), time.nanos()})).append("\"");
      }
      return;
    }
    case Shape::kDuration:
      AppendJsonString(FormatDuration(As<k8s::meta::v1::Duration>(message).duration()), &out_);
      return;
    case Shape::kQuantity: {
      const std::string& text = As<k8s::resource::Quantity>(message).string();
      AppendJsonString(text.empty() ? "0" : text, &out_);
      return;
    }
    case Shape::kIntOrString: {
      const auto& value = As<k8s::intstr::IntOrString>(message);
      if (value.type() == 1) {
        AppendJsonString(value.str_val(), &out_);
      } else {
        AppendInteger(value.int_val(), &out_);
      }
      return;
    }
    case Shape::kRawJson: RawJson(message, plan); return;
    case Shape::kStringList: StringList(message, plan.value); return;
  }
}

void Encoder::Fields(const Message& message, const TypePlan& plan, bool* first) {
  for (const FieldPlan& field : plan.fields) Field(message, field, first);
}

void Encoder::Field(const Message& message, const FieldPlan& plan, bool* first) {
  const Reflection& reflection = *message.GetReflection();
  const FieldDescriptor* field = plan.field;
  if (plan.is_inline) {
    Fields(reflection.GetMessage(message, field), *plan.type, first);
    return;
  }
  if (field->is_repeated()) {
    bool empty = field->is_map() ? MapAccess::Size(message, field) == 0
                                 : reflection.FieldSize(message, field) == 0;
    if (empty && plan.omitempty) return;
    Key(plan, first);
    if (empty) {
      out_ += plan.empty_list ? "[]" : "null";
    } else if (field->is_map()) {
      Map(message, plan);
    } else {
      Repeated(message, plan);
    }
    return;
  }
  bool has = reflection.HasField(message, field);
  if (plan.type != nullptr) {
    if (!has && (plan.omitzero || (plan.pointer && plan.omitempty))) return;
    if (plan.type->shape == Shape::kStringList && plan.omitempty && !has) return;
    Key(plan, first);
    if (!has && plan.pointer) {
      out_ += "null";
    } else {
      Value(reflection.GetMessage(message, field), *plan.type);
    }
    return;
  }
  if (!has && (plan.omitempty || plan.pointer)) {
    if (plan.omitempty) return;
    Key(plan, first);
    out_ += "null";
    return;
  }
  // A zero that is written although it could be left out is taken back: cheaper than asking first.
  size_t before = out_.size();
  bool was_first = *first;
  Key(plan, first);
  size_t start = out_.size();
  Scalar(message, reflection, field);
  if (plan.omitempty && !plan.pointer) {
    std::string_view text = std::string_view(out_).substr(start);
    if (text == "\"\"" || text == "0" || text == "false") {
      out_.resize(before);
      *first = was_first;
    }
  }
}

// What a protobuf client put into a raw extension is an envelope; JSON clients see it as JSON.
void Encoder::RawJson(const Message& message, const TypePlan& plan) {
  const std::string& raw =
      message.GetReflection()->GetStringReference(message, plan.value, &scratch_);
  if (!IsWireEnvelope(raw)) {
    out_ += raw.empty() ? "null" : raw;
    return;
  }
  auto envelope = OpenWireEnvelope(raw);
  auto gvk = envelope ? ParseGvk(envelope->api_version, envelope->kind)
                      : Result<GroupVersionKind>(std::move(envelope).error());
  const google::protobuf::Descriptor* type = gvk ? FindKind(*gvk) : nullptr;
  std::unique_ptr<Message> object = type != nullptr ? NewMessage(*type) : nullptr;
  if (object == nullptr || !DecodeWire(raw, object.get())) {
    out_ += "null";
    return;
  }
  Encoder(&out_).Root(*object, PlanOf(*type));
}

void Encoder::StringList(const Message& message, const FieldDescriptor* field) {
  const Reflection& reflection = *message.GetReflection();
  int size = reflection.FieldSize(message, field);
  if (size == 0) {
    out_ += "null";
    return;
  }
  out_ += '[';
  for (int i = 0; i < size; ++i) {
    if (i > 0) out_ += ',';
    AppendJsonString(reflection.GetRepeatedStringReference(message, field, i, &scratch_), &out_);
  }
  out_ += ']';
}

void Encoder::Repeated(const Message& message, const FieldPlan& plan) {
  const Reflection& reflection = *message.GetReflection();
  const FieldDescriptor* field = plan.field;
  int size = reflection.FieldSize(message, field);
  out_ += '[';
  for (int i = 0; i < size; ++i) {
    if (i > 0) out_ += ',';
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_MESSAGE:
        Value(reflection.GetRepeatedMessage(message, field, i), *plan.type);
        break;
      case FieldDescriptor::CPPTYPE_STRING: {
        const auto& text = reflection.GetRepeatedStringReference(message, field, i, &scratch_);
        if (field->type() == FieldDescriptor::TYPE_BYTES) {
          out_.append("\"").append(EncodeBase64(text)).append("\"");
        } else {
          AppendJsonString(text, &out_);
        }
        break;
      }
      case FieldDescriptor::CPPTYPE_INT32:
        AppendInteger(reflection.GetRepeatedInt32(message, field, i), &out_);
        break;
      case FieldDescriptor::CPPTYPE_INT64:
        AppendInteger(reflection.GetRepeatedInt64(message, field, i), &out_);
        break;
      case FieldDescriptor::CPPTYPE_BOOL:
        out_ += reflection.GetRepeatedBool(message, field, i) ? "true" : "false";
        break;
      case FieldDescriptor::CPPTYPE_DOUBLE:
        AppendDouble(reflection.GetRepeatedDouble(message, field, i), &out_);
        break;
      default: CHECK(false && "a field type the Kubernetes API does not use");
    }
  }
  out_ += ']';
}

void Encoder::Map(const Message& message, const FieldPlan& plan) {
  const FieldDescriptor* value = plan.field->message_type()->map_value();
  std::vector<MapIterator> entries;
  entries.reserve(static_cast<size_t>(MapAccess::Size(message, plan.field)));
  MapIterator end = MapAccess::End(message, plan.field);
  for (MapIterator it = MapAccess::Begin(message, plan.field); it != end; ++it) {
    entries.push_back(it);
  }
  // An iterator holds a copy of its key: it is viewed once the iterators move no more.
  std::vector<std::pair<std::string_view, MapIterator*>> sorted;
  sorted.reserve(entries.size());
  for (MapIterator& it : entries) sorted.emplace_back(it.GetKey().GetStringValue(), &it);
  std::sort(sorted.begin(), sorted.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  out_ += '{';
  bool first = true;
  for (const auto& [key, it] : sorted) {
    if (!first) out_ += ',';
    first = false;
    AppendJsonString(key, &out_);
    out_ += ':';
    const google::protobuf::MapValueConstRef& ref = it->GetValueRef();
    if (plan.type != nullptr) {
      Value(ref.GetMessageValue(), *plan.type);
    } else if (value->type() == FieldDescriptor::TYPE_BYTES) {
      out_.append("\"").append(EncodeBase64(ref.GetStringValue())).append("\"");
    } else {
      AppendJsonString(ref.GetStringValue(), &out_);
    }
  }
  out_ += '}';
}

void Encoder::Scalar(const Message& message, const Reflection& reflection,
                     const FieldDescriptor* field) {
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING: {
      const std::string& text = reflection.GetStringReference(message, field, &scratch_);
      if (field->type() == FieldDescriptor::TYPE_BYTES) {
        out_.append("\"").append(EncodeBase64(text)).append("\"");
      } else {
        AppendJsonString(text, &out_);
      }
      return;
    }
    case FieldDescriptor::CPPTYPE_INT32:
      return AppendInteger(reflection.GetInt32(message, field), &out_);
    case FieldDescriptor::CPPTYPE_INT64:
      return AppendInteger(reflection.GetInt64(message, field), &out_);
    case FieldDescriptor::CPPTYPE_BOOL:
      out_ += reflection.GetBool(message, field) ? "true" : "false";
      return;
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return AppendDouble(reflection.GetDouble(message, field), &out_);
    default: CHECK(false && "a field type the Kubernetes API does not use");
  }
}

}  // namespace

void AppendJson(const Message& message, std::string* out) {
  Encoder(out).Root(message, PlanOf(*message.GetDescriptor()));
}

std::string EncodeJson(const Message& message) {
  std::string out;
  AppendJson(message, &out);
  return out;
}

}  // namespace skiff::codec
