#include "proto/codec/meta.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <mutex>
#include <shared_mutex>
#include <unordered_map>

#include "proto/k8s/meta/v1/object.pb.h"
#include "proto/k8s/options.pb.h"

namespace skiff::codec {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::MessageFactory;
using k8s::meta::v1::ListMeta;
using k8s::meta::v1::ObjectMeta;

// Every kind and list has its metadata as field 1.
const FieldDescriptor* MetadataField(const Descriptor& type, const Descriptor* wanted) {
  const FieldDescriptor* field = type.FindFieldByNumber(1);
  bool matches = field != nullptr && field->name() == "metadata" && !field->is_repeated() &&
                 field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE &&
                 field->message_type() == wanted;
  return matches ? field : nullptr;
}

const FieldDescriptor* ItemsField(const Descriptor& type) {
  const FieldDescriptor* field = type.FindFieldByName("items");
  bool matches = field != nullptr && field->is_repeated() &&
                 field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
  return matches ? field : nullptr;
}

// The package that holds an API group: its first label, and core for the group without a name.
std::string PackageOf(const std::string& group) {
  return group.empty() ? "core" : group.substr(0, group.find('.'));
}

const Descriptor* FindInPackage(const std::string& package, const GroupVersionKind& gvk) {
  const Descriptor* type = DescriptorPool::generated_pool()->FindMessageTypeByName(
      "k8s." + package + "." + gvk.version + "." + gvk.kind);
  const GroupVersionKind* found = type != nullptr ? GvkOf(*type) : nullptr;
  return found != nullptr && *found == gvk ? type : nullptr;
}

}  // namespace

Result<GroupVersionKind> ParseGvk(std::string_view api_version, std::string_view kind) {
  size_t slash = api_version.find('/');
  bool has_group = slash != std::string_view::npos;
  if (has_group && api_version.find('/', slash + 1) != std::string_view::npos) {
    return Error(Code::kInvalidArgument,
                 "unexpected GroupVersion string: " + std::string(api_version));
  }
  GroupVersionKind gvk;
  gvk.kind = kind;
  if (has_group) gvk.group = api_version.substr(0, slash);
  gvk.version = has_group ? api_version.substr(slash + 1) : api_version;
  return gvk;
}

const GroupVersionKind* GvkOf(const Descriptor& type) {
  static auto& mutex = *new std::shared_mutex;
  static auto& cache =
      *new std::unordered_map<const Descriptor*, std::unique_ptr<const GroupVersionKind>>;
  {
    std::shared_lock lock(mutex);
    auto found = cache.find(&type);
    if (found != cache.end()) return found->second.get();
  }
  std::unique_ptr<const GroupVersionKind> gvk;
  if (type.options().HasExtension(k8s::gvk)) {
    const auto& option = type.options().GetExtension(k8s::gvk);
    gvk = std::make_unique<const GroupVersionKind>(
        GroupVersionKind{option.group(), option.version(), option.kind()});
  }
  std::unique_lock lock(mutex);
  return cache.try_emplace(&type, std::move(gvk)).first->second.get();
}

const GroupVersionKind* GvkOf(const Message& object) { return GvkOf(*object.GetDescriptor()); }

const Descriptor* FindKind(const GroupVersionKind& gvk) {
  const Descriptor* type = FindInPackage(PackageOf(gvk.group), gvk);
  // Status, DeleteOptions and the like are of the core group but live with the metadata.
  return type == nullptr && gvk.group.empty() ? FindInPackage("meta", gvk) : type;
}

std::unique_ptr<Message> NewMessage(const Descriptor& type) {
  const Message* prototype = MessageFactory::generated_factory()->GetPrototype(&type);
  return std::unique_ptr<Message>(prototype->New());
}

bool HasObjectMeta(const Descriptor& type) {
  return MetadataField(type, ObjectMeta::descriptor()) != nullptr;
}

const ObjectMeta& MetaOf(const Message& object) {
  const FieldDescriptor* field = MetadataField(*object.GetDescriptor(), ObjectMeta::descriptor());
  CHECK(field != nullptr);
  return static_cast<const ObjectMeta&>(object.GetReflection()->GetMessage(object, field));
}

ObjectMeta* MutableMetaOf(Message* object) {
  const FieldDescriptor* field = MetadataField(*object->GetDescriptor(), ObjectMeta::descriptor());
  CHECK(field != nullptr);
  return static_cast<ObjectMeta*>(object->GetReflection()->MutableMessage(object, field));
}

bool IsList(const Descriptor& type) {
  return MetadataField(type, ListMeta::descriptor()) != nullptr && ItemsField(type) != nullptr;
}

ListMeta* MutableListMetaOf(Message* list) {
  const FieldDescriptor* field = MetadataField(*list->GetDescriptor(), ListMeta::descriptor());
  CHECK(field != nullptr);
  return static_cast<ListMeta*>(list->GetReflection()->MutableMessage(list, field));
}

int ItemCount(const Message& list) {
  const FieldDescriptor* items = ItemsField(*list.GetDescriptor());
  CHECK(items != nullptr);
  return list.GetReflection()->FieldSize(list, items);
}

const Message& ItemAt(const Message& list, int index) {
  const FieldDescriptor* items = ItemsField(*list.GetDescriptor());
  CHECK(items != nullptr);
  return list.GetReflection()->GetRepeatedMessage(list, items, index);
}

Message* AddItem(Message* list) {
  const FieldDescriptor* items = ItemsField(*list->GetDescriptor());
  CHECK(items != nullptr);
  return list->GetReflection()->AddMessage(list, items);
}

}  // namespace skiff::codec
