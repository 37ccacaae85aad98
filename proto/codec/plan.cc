#include "proto/codec/plan.h"

#include <google/protobuf/descriptor.h>

#include <map>
#include <memory>
#include <mutex>

#include "proto/k8s/options.pb.h"

namespace skiff::codec {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

Shape ShapeOf(const Descriptor& type) {
  static const auto& shapes = *new std::map<std::string_view, Shape>{
      {"k8s.meta.v1.Time", Shape::kTime},
      {"k8s.meta.v1.MicroTime", Shape::kMicroTime},
      {"k8s.meta.v1.Duration", Shape::kDuration},
      {"k8s.resource.Quantity", Shape::kQuantity},
      {"k8s.intstr.IntOrString", Shape::kIntOrString},
      {"k8s.runtime.RawExtension", Shape::kRawJson},
      {"k8s.meta.v1.FieldsV1", Shape::kRawJson},
  };
  auto found = shapes.find(type.full_name());
  if (found != shapes.end()) return found->second;
  // A named list type of Go, wrapped because protobuf has none: meta.v1.Verbs, ExtraValue.
  const FieldDescriptor* only = type.field_count() == 1 ? type.field(0) : nullptr;
  if (only != nullptr && only->name() == "items" && only->is_repeated() &&
      only->type() == FieldDescriptor::TYPE_STRING) {
    return Shape::kStringList;
  }
  return Shape::kObject;
}

class Planner {
 public:
  const TypePlan& Plan(const Descriptor& type) {
    std::lock_guard lock(mutex_);
    return PlanLocked(type);
  }

 private:
  const TypePlan& PlanLocked(const Descriptor& type) {
    auto [slot, added] = plans_.try_emplace(&type);
    if (!added) return *slot->second;
    // Entered in the table before its fields are: message types may contain themselves.
    slot->second = std::make_unique<TypePlan>();
    TypePlan& plan = *slot->second;
    plan.type = &type;
    plan.shape = ShapeOf(type);
    plan.gvk = GvkOf(type);
    if (plan.shape == Shape::kRawJson || plan.shape == Shape::kStringList) {
      plan.value = type.field(0);
    }
    if (plan.shape != Shape::kObject) return plan;
    plan.fields.reserve(static_cast<size_t>(type.field_count()));
    for (int i = 0; i < type.field_count(); ++i) plan.fields.push_back(PlanField(*type.field(i)));
    for (const FieldPlan& field : plan.fields) AddKeys(field, &plan);
    return plan;
  }

  FieldPlan PlanField(const FieldDescriptor& field) {
    const auto& options = field.options();
    FieldPlan plan;
    plan.field = &field;
    plan.name = field.json_name();
    plan.key = "\"" + plan.name + "\":";
    plan.is_inline = options.GetExtension(k8s::inline_);
    plan.pointer = options.GetExtension(k8s::pointer);
    plan.omitempty = options.GetExtension(k8s::omitempty);
    // The one struct upstream leaves out when it is zero (since Kubernetes 1.34).
    plan.omitzero = field.full_name() == "k8s.meta.v1.ObjectMeta.creation_timestamp";
    plan.empty_list = field.is_repeated() && field.name() == "items" &&
                      GvkOf(*field.containing_type()) != nullptr;
    const FieldDescriptor* valued = field.is_map() ? field.message_type()->map_value() : &field;
    if (valued->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      plan.type = &PlanLocked(*valued->message_type());
    }
    return plan;
  }

  static void AddKeys(const FieldPlan& field, TypePlan* plan) {
    if (!field.is_inline) {
      plan->keys[field.name] = KeyPlan{&field, {}, plan->keys.size()};
      return;
    }
    // Inlined types never contain the type they are inlined into, so their plan is complete.
    for (const auto& [name, inner] : field.type->keys) {
      KeyPlan key{inner.field, {field.field}, plan->keys.size()};
      key.through.insert(key.through.end(), inner.through.begin(), inner.through.end());
      plan->keys.try_emplace(name, std::move(key));
    }
  }

  std::mutex mutex_;
  std::unordered_map<const Descriptor*, std::unique_ptr<TypePlan>> plans_;
};

}  // namespace

const TypePlan& PlanOf(const Descriptor& type) {
  static auto& planner = *new Planner;
  return planner.Plan(type);
}

std::string GoTypeName(const Descriptor& type) {
  if (type.full_name() == "k8s.resource.Quantity") return "resource.Quantity";
  std::string package = type.file()->package();
  return package.substr(package.rfind('.') + 1) + "." + type.name();
}

std::string GoTypeName(const FieldDescriptor& field, bool element) {
  if (field.is_map()) {
    const FieldDescriptor& value = *field.message_type()->map_value();
    std::string name = GoTypeName(value, true);
    return element ? name : "map[string]" + name;
  }
  std::string prefix = field.is_repeated() && !element ? "[]" : "";
  switch (field.type()) {
    case FieldDescriptor::TYPE_MESSAGE: return prefix + GoTypeName(*field.message_type());
    case FieldDescriptor::TYPE_BYTES: return prefix + "[]uint8";
    case FieldDescriptor::TYPE_DOUBLE: return prefix + "float64";
    default: return prefix + field.type_name();
  }
}

}  // namespace skiff::codec
