// What every kind has in common, by reflection: ObjectMeta, its group, version and kind, the items
// of a list. What is learned of a type is cached; any thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace google::protobuf {
class Descriptor;
class Message;
}  // namespace google::protobuf
namespace k8s::meta::v1 {
class ListMeta;
class ObjectMeta;
}  // namespace k8s::meta::v1

namespace skiff::codec {

struct GroupVersionKind {
  std::string group;  // "" for the core group
  std::string version;
  std::string kind;

  // "v1", "apps/v1".
  std::string ApiVersion() const { return group.empty() ? version : group + "/" + version; }
  friend bool operator==(const GroupVersionKind&, const GroupVersionKind&) = default;
  friend auto operator<=>(const GroupVersionKind&, const GroupVersionKind&) = default;
};

// "apps/v1" and "Deployment" taken apart. InvalidArgument: more than one slash.
Result<GroupVersionKind> ParseGvk(std::string_view api_version, std::string_view kind);

// The gvk option of a kind's message; nullptr for other messages.
const GroupVersionKind* GvkOf(const google::protobuf::Descriptor& type);
const GroupVersionKind* GvkOf(const google::protobuf::Message& object);

// The message type of a kind that is linked in; nullptr if there is none.
const google::protobuf::Descriptor* FindKind(const GroupVersionKind& gvk);
// An empty message of a linked-in type.
std::unique_ptr<google::protobuf::Message> NewMessage(const google::protobuf::Descriptor& type);

// The object's metadata; an empty one if unset. The message must have a field `metadata` of type
// ObjectMeta (a broken invariant otherwise: the process ends).
const k8s::meta::v1::ObjectMeta& MetaOf(const google::protobuf::Message& object);
k8s::meta::v1::ObjectMeta* MutableMetaOf(google::protobuf::Message* object);
// True if the message has ObjectMeta as `metadata`.
bool HasObjectMeta(const google::protobuf::Descriptor& type);

// The same of a list kind: a message with ListMeta as `metadata` and repeated `items`.
bool IsList(const google::protobuf::Descriptor& type);
k8s::meta::v1::ListMeta* MutableListMetaOf(google::protobuf::Message* list);
int ItemCount(const google::protobuf::Message& list);
const google::protobuf::Message& ItemAt(const google::protobuf::Message& list, int index);
google::protobuf::Message* AddItem(google::protobuf::Message* list);

}  // namespace skiff::codec
