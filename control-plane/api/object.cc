#include "control-plane/api/object.h"

#include <google/protobuf/message.h>

#include "proto/codec/meta.h"
#include "proto/codec/wire.h"
#include "proto/k8s/meta/v1/object.pb.h"

namespace skiff::cp {

std::string StoragePrefix(const KindInfo& kind) {
  return "/registry/" + (kind.group.empty() ? std::string("core") : kind.group) + "/" +
         kind.plural + "/";
}

std::string ObjectKey(std::string_view ns, std::string_view name) {
  std::string key(ns);
  if (!key.empty()) key += '/';
  return key.append(name);
}

std::string EncodeStored(const Message& object) {
  if (!codec::MetaOf(object).has_resource_version()) return codec::EncodeWire(object);
  std::unique_ptr<Message> bare(object.New());
  bare->CopyFrom(object);
  codec::MutableMetaOf(bare.get())->clear_resource_version();
  return codec::EncodeWire(*bare);
}

Result<StoredPtr> DecodeStored(const KindInfo& kind, std::string key, const std::string& bytes,
                               Revision revision) {
  std::unique_ptr<Message> object(kind.prototype->New());
  if (auto decoded = codec::DecodeWire(bytes, object.get()); !decoded.ok()) {
    return Error(Code::kDataLoss,
                 "stored " + kind.kind + " " + key + ": " + decoded.error().message());
  }
  if (kind.rules.set_defaults) kind.rules.set_defaults(*object);
  codec::MutableMetaOf(object.get())->set_resource_version(std::to_string(revision));
  auto stored = std::make_shared<StoredObject>();
  stored->key = std::move(key);
  stored->object = std::move(object);
  stored->revision = revision;
  return StoredPtr(std::move(stored));
}

ObjectPtr WithRevision(const Message& object, Revision revision) {
  std::unique_ptr<Message> copy(object.New());
  copy->CopyFrom(object);
  codec::MutableMetaOf(copy.get())->set_resource_version(std::to_string(revision));
  return copy;
}

}  // namespace skiff::cp
