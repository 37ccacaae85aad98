#include "control-plane/api/kinds/openapi/schemas.h"

#include <google/protobuf/descriptor.h>

#include "proto/codec/meta.h"
#include "proto/codec/plan.h"
#include "proto/k8s/options.pb.h"

namespace skiff::cp {
namespace {

using codec::FieldPlan;
using codec::Shape;
using codec::TypePlan;
using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

Json ScalarSchema(const FieldDescriptor& field) {
  switch (field.type()) {
    case FieldDescriptor::TYPE_BYTES: return {{"type", "string"}, {"format", "byte"}};
    case FieldDescriptor::TYPE_BOOL: return {{"type", "boolean"}};
    case FieldDescriptor::TYPE_INT32: return {{"type", "integer"}, {"format", "int32"}};
    case FieldDescriptor::TYPE_INT64: return {{"type", "integer"}, {"format", "int64"}};
    case FieldDescriptor::TYPE_DOUBLE: return {{"type", "number"}, {"format", "double"}};
    default: return {{"type", "string"}};
  }
}

Json Alternatives(std::initializer_list<const char*> types) {
  Json list = Json::array();
  for (const char* type : types) list.push_back({{"type", type}});
  return list;
}

// Types that are not objects in JSON. Version 2 cannot say "a string or a number": clients know
// Quantity and int-or-string by their name and format.
Json ShapeSchema(const TypePlan& plan, OpenApiVersion version) {
  bool v3 = version == OpenApiVersion::kV3;
  switch (plan.shape) {
    case Shape::kTime:
    case Shape::kMicroTime: return {{"type", "string"}, {"format", "date-time"}};
    case Shape::kDuration: return {{"type", "string"}};
    case Shape::kQuantity:
      if (v3) return {{"oneOf", Alternatives({"string", "number"})}};
      return {{"type", "string"}};
    case Shape::kIntOrString:
      if (v3) return {{"format", "int-or-string"}, {"oneOf", Alternatives({"integer", "string"})}};
      return {{"type", "string"}, {"format", "int-or-string"}};
    case Shape::kRawJson: return {{"type", "object"}};
    case Shape::kStringList: return {{"type", "array"}, {"items", {{"type", "string"}}}};
    case Shape::kObject: break;
  }
  return Json::object();
}

Json ElementSchema(const FieldDescriptor& field, OpenApiVersion version) {
  return field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE
             ? SchemaReference(*field.message_type(), version)
             : ScalarSchema(field);
}

Json FieldSchema(const FieldPlan& plan, OpenApiVersion version) {
  const FieldDescriptor& field = *plan.field;
  const auto& options = field.options();
  Json schema;
  if (field.is_map()) {
    schema = {{"type", "object"},
              {"additionalProperties", ElementSchema(*field.message_type()->map_value(), version)}};
  } else if (field.is_repeated()) {
    schema = {{"type", "array"}, {"items", ElementSchema(field, version)}};
  } else {
    schema = ElementSchema(field, version);
  }
  auto extend = [&](const char* name, const std::string& value) {
    if (!value.empty()) schema[name] = value;
  };
  extend("x-kubernetes-patch-strategy", options.GetExtension(k8s::patch_strategy));
  extend("x-kubernetes-patch-merge-key", options.GetExtension(k8s::patch_merge_key));
  extend("x-kubernetes-list-type", options.GetExtension(k8s::list_type));
  extend("x-kubernetes-map-type", options.GetExtension(k8s::map_type));
  for (int i = 0; i < options.ExtensionSize(k8s::list_map_key); ++i) {
    schema["x-kubernetes-list-map-keys"].push_back(options.GetExtension(k8s::list_map_key, i));
  }
  const std::string& default_json = options.GetExtension(k8s::default_json);
  if (!default_json.empty()) schema["default"] = Json::parse(default_json, nullptr, false);
  return schema;
}

void AddProperties(const TypePlan& plan, OpenApiVersion version, Json* properties, Json* required) {
  for (const FieldPlan& field : plan.fields) {
    if (field.is_inline) {
      AddProperties(*field.type, version, properties, required);
      continue;
    }
    (*properties)[field.name] = FieldSchema(field, version);
    // What is always written was given by somebody: the API's convention for required fields.
    bool has_default = !field.field->options().GetExtension(k8s::default_json).empty();
    if (!field.omitempty && !has_default) required->push_back(field.name);
  }
}

Json GroupVersionKind(const codec::GroupVersionKind& gvk) {
  return {{"group", gvk.group}, {"version", gvk.version}, {"kind", gvk.kind}};
}

Json TypeSchema(const TypePlan& plan, OpenApiVersion version) {
  if (plan.shape != Shape::kObject) return ShapeSchema(plan, version);
  Json properties = Json::object();
  Json required = Json::array();
  AddProperties(plan, version, &properties, &required);
  Json schema{{"type", "object"}};
  if (plan.gvk != nullptr) {
    properties["apiVersion"] = {
        {"type", "string"},
        {"description",
         "APIVersion defines the versioned schema of this representation of an "
         "object."}};
    properties["kind"] = {{"type", "string"},
                          {"description",
                           "Kind is the REST resource this object represents, in "
                           "CamelCase."}};
    schema["x-kubernetes-group-version-kind"] = Json::array({GroupVersionKind(*plan.gvk)});
  }
  if (!properties.empty()) schema["properties"] = std::move(properties);
  if (!required.empty()) schema["required"] = std::move(required);
  return schema;
}

void AddType(const TypePlan& plan, OpenApiVersion version, Json* schemas) {
  std::string name = SchemaName(*plan.type);
  if (schemas->contains(name)) return;
  // Entered before the types it needs: a type may contain itself.
  (*schemas)[name] = TypeSchema(plan, version);
  for (const FieldPlan& field : plan.fields) {
    if (field.type != nullptr) AddType(*field.type, version, schemas);
  }
}

}  // namespace

std::string SchemaName(const Descriptor& type) {
  const std::string& package = type.file()->package();
  std::string tail = package.substr(package.find('.') + 1);
  std::string prefix = "io.k8s.api." + tail;
  if (tail == "meta.v1") prefix = "io.k8s.apimachinery.pkg.apis.meta.v1";
  if (tail == "runtime") prefix = "io.k8s.apimachinery.pkg.runtime";
  if (tail == "resource") prefix = "io.k8s.apimachinery.pkg.api.resource";
  if (tail == "intstr") prefix = "io.k8s.apimachinery.pkg.util.intstr";
  return prefix + "." + type.name();
}

Json SchemaReference(const Descriptor& type, OpenApiVersion version) {
  const char* place = version == OpenApiVersion::kV2 ? "#/definitions/" : "#/components/schemas/";
  return {{"$ref", place + SchemaName(type)}};
}

void AddSchemas(const Descriptor& type, OpenApiVersion version, Json* schemas) {
  AddType(codec::PlanOf(type), version, schemas);
}

}  // namespace skiff::cp
