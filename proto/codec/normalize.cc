#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include "proto/codec/json.h"
#include "proto/codec/map_access.h"
#include "proto/codec/plan.h"
#include "proto/codec/quantity.h"
#include "proto/k8s/intstr/int_or_string.pb.h"
#include "proto/k8s/meta/v1/time.pb.h"
#include "proto/k8s/resource/quantity.pb.h"

namespace skiff::codec {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::MapIterator;
using google::protobuf::Message;
using google::protobuf::Reflection;

bool IsZero(const Message& message, const FieldDescriptor* field) {
  const Reflection& reflection = *message.GetReflection();
  std::string scratch;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return reflection.GetStringReference(message, field, &scratch).empty();
    case FieldDescriptor::CPPTYPE_INT32: return reflection.GetInt32(message, field) == 0;
    case FieldDescriptor::CPPTYPE_INT64: return reflection.GetInt64(message, field) == 0;
    case FieldDescriptor::CPPTYPE_BOOL: return !reflection.GetBool(message, field);
    case FieldDescriptor::CPPTYPE_DOUBLE: return reflection.GetDouble(message, field) == 0;
    default: return false;
  }
}

Result<> NormalizeValue(const TypePlan& plan, Message* message, bool* empty);

Result<> NormalizeField(const FieldPlan& plan, Message* message, bool* empty) {
  const Reflection& reflection = *message->GetReflection();
  const FieldDescriptor* field = plan.field;
  bool ignored;
  if (field->is_map()) {
    *empty = MapAccess::Size(*message, field) == 0;
    if (plan.type == nullptr) return {};
    MapIterator end = MapAccess::End(*message, field);
    for (MapIterator it = MapAccess::Begin(*message, field); it != end; ++it) {
      TRY(NormalizeValue(*plan.type, it.MutableValueRef()->MutableMessageValue(), &ignored));
    }
    return {};
  }
  if (field->is_repeated()) {
    int size = reflection.FieldSize(*message, field);
    *empty = size == 0;
    for (int i = 0; plan.type != nullptr && i < size; ++i) {
      TRY(NormalizeValue(*plan.type, reflection.MutableRepeatedMessage(message, field, i),
                         &ignored));
    }
    return {};
  }
  *empty = true;
  if (!reflection.HasField(*message, field)) return {};
  if (plan.type != nullptr) {
    TRY(NormalizeValue(*plan.type, reflection.MutableMessage(message, field), empty));
  } else {
    *empty = IsZero(*message, field);
  }
  if (plan.pointer) {
    *empty = false;
  } else if (*empty) {
    reflection.ClearField(message, field);
  }
  return {};
}

Result<> NormalizeValue(const TypePlan& plan, Message* message, bool* empty) {
  message->GetReflection()->MutableUnknownFields(message)->Clear();
  *empty = false;
  switch (plan.shape) {
    case Shape::kObject: {
      *empty = true;
      for (const FieldPlan& field : plan.fields) {
        bool field_empty = true;
        TRY(NormalizeField(field, message, &field_empty).With(field.name));
        *empty = *empty && field_empty;
      }
      return {};
    }
    case Shape::kTime: {
      auto& time = static_cast<k8s::meta::v1::Time&>(*message);
      *empty = !time.has_seconds();
      if (!*empty) time.set_nanos(0);
      return {};
    }
    case Shape::kMicroTime: {
      auto& time = static_cast<k8s::meta::v1::MicroTime&>(*message);
      *empty = !time.has_seconds();
      if (!*empty) time.set_nanos(time.nanos() / 1000 * 1000);
      return {};
    }
    case Shape::kQuantity: {
      auto& quantity = static_cast<k8s::resource::Quantity&>(*message);
      if (quantity.string().empty()) {
        quantity.set_string("0");
      } else {
        TRY(Quantity::Parse(quantity.string())).WriteTo(&quantity);
      }
      return {};
    }
    case Shape::kIntOrString: {
      auto& value = static_cast<k8s::intstr::IntOrString&>(*message);
      value.set_type(value.type());
      value.set_int_val(value.int_val());
      value.set_str_val(value.str_val());
      return {};
    }
    case Shape::kDuration:
    case Shape::kRawJson:
    case Shape::kStringList: *empty = message->ByteSizeLong() == 0; return {};
  }
  return {};
}

}  // namespace

Result<> Normalize(Message* message) {
  bool empty;
  return NormalizeValue(PlanOf(*message->GetDescriptor()), message, &empty);
}

}  // namespace skiff::codec
