// The scale subresource (autoscaling/v1 Scale) of every kind with spec.replicas, by reflection.

#include "control-plane/api/rest/scale.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/map.h>
#include <google/protobuf/message.h>

#include "proto/codec/meta.h"
#include "proto/codec/selector.h"
#include "proto/k8s/autoscaling/v1/autoscaling.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"

namespace skiff::cp {
namespace {

using google::protobuf::FieldDescriptor;
using k8s::autoscaling::v1::Scale;

// object.part.field, or null where the message has no such field.
const FieldDescriptor* Field(const Message& message, const char* name) {
  return message.GetDescriptor()->FindFieldByName(name);
}

const Message& Part(const Message& object, const char* name) {
  const FieldDescriptor* field = Field(object, name);
  CHECK(field != nullptr);
  return object.GetReflection()->GetMessage(object, field);
}

int32_t Replicas(const Message& part) {
  const FieldDescriptor* field = Field(part, "replicas");
  CHECK(field != nullptr);
  return part.GetReflection()->GetInt32(part, field);
}

// A set of labels, as a ReplicationController has.
std::string LabelsText(const Message& spec, const FieldDescriptor* field) {
  const auto* reflection = spec.GetReflection();
  codec::LabelMap labels;
  for (int i = 0; i < reflection->FieldSize(spec, field); ++i) {
    const Message& entry = reflection->GetRepeatedMessage(spec, field, i);
    auto text = [&entry](const char* name) {
      return entry.GetReflection()->GetString(entry, Field(entry, name));
    };
    labels[text("key")] = text("value");
  }
  return codec::LabelSelector::FromSet(labels).ToString();
}

std::string SelectorText(const Message& spec) {
  const FieldDescriptor* field = Field(spec, "selector");
  if (field == nullptr) return {};
  if (field->is_map()) return LabelsText(spec, field);
  if (!spec.GetReflection()->HasField(spec, field)) return {};
  const auto* selector = dynamic_cast<const k8s::meta::v1::LabelSelector*>(
      &spec.GetReflection()->GetMessage(spec, field));
  if (selector == nullptr) return {};
  auto parsed = codec::LabelSelector::From(*selector);
  return parsed.ok() ? parsed->ToString() : std::string();
}

}  // namespace

MessagePtr ScaleOf(const Message& object) {
  auto scale = std::make_unique<Scale>();
  const auto& meta = codec::MetaOf(object);
  auto* shown = scale->mutable_metadata();
  shown->set_name(meta.name());
  shown->set_namespace_(meta.namespace_());
  shown->set_uid(meta.uid());
  shown->set_resource_version(meta.resource_version());
  *shown->mutable_creation_timestamp() = meta.creation_timestamp();
  const Message& spec = Part(object, "spec");
  scale->mutable_spec()->set_replicas(Replicas(spec));
  scale->mutable_status()->set_replicas(Replicas(Part(object, "status")));
  if (std::string selector = SelectorText(spec); !selector.empty()) {
    scale->mutable_status()->set_selector(selector);
  }
  return scale;
}

ApiResult<MessagePtr> WithScale(const KindInfo& kind, const Message& object,
                                const Message& wanted) {
  const auto& scale = static_cast<const Scale&>(wanted);
  if (scale.spec().replicas() < 0) {
    FieldErrors errors;
    errors.Invalid(FieldPath("spec").Child("replicas"), scale.spec().replicas(),
                   "must be greater than or equal to 0");
    KindInfo about = kind;
    about.group = "autoscaling";
    about.kind = "Scale";
    return ApiError::Invalid(about, codec::MetaOf(object).name(), errors);
  }
  MessagePtr next(object.New());
  next->CopyFrom(object);
  Message* spec = next->GetReflection()->MutableMessage(next.get(), Field(*next, "spec"));
  spec->GetReflection()->SetInt32(spec, Field(*spec, "replicas"), scale.spec().replicas());
  // The version the client has seen, if it says so, must be the current one.
  codec::MutableMetaOf(next.get())->set_resource_version(scale.metadata().resource_version());
  codec::MutableMetaOf(next.get())
      ->set_uid(scale.metadata().uid().empty() ? codec::MetaOf(object).uid()
                                               : scale.metadata().uid());
  return next;
}

}  // namespace skiff::cp
