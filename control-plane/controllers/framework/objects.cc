#include "control-plane/controllers/framework/objects.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <charconv>
#include <memory>

#include "proto/codec/json.h"
#include "proto/codec/meta.h"
#include "proto/k8s/meta/v1/object.pb.h"
#include "proto/k8s/meta/v1/time.pb.h"

namespace skiff::cp {
namespace {

template <class T>
WallTime FromParts(const T& time) {
  return WallTime(std::chrono::duration_cast<WallTime::duration>(
      std::chrono::seconds(time.seconds()) + std::chrono::nanoseconds(time.nanos())));
}

}  // namespace

std::string JoinKey(std::string_view ns, std::string_view name) {
  if (ns.empty()) return std::string(name);
  std::string key(ns);
  key += '/';
  key += name;
  return key;
}

std::string KeyOf(const k8s::meta::v1::ObjectMeta& meta) {
  return JoinKey(meta.namespace_(), meta.name());
}

NamespacedName SplitKey(std::string_view key) {
  size_t slash = key.find('/');
  if (slash == std::string_view::npos) return {"", std::string(key)};
  return {std::string(key.substr(0, slash)), std::string(key.substr(slash + 1))};
}

int64_t RevisionOf(const k8s::meta::v1::ObjectMeta& meta) {
  const std::string& text = meta.resource_version();
  int64_t revision = 0;
  std::from_chars(text.data(), text.data() + text.size(), revision);
  return revision;
}

const k8s::meta::v1::OwnerReference* ControllerOf(const k8s::meta::v1::ObjectMeta& meta) {
  for (const k8s::meta::v1::OwnerReference& owner : meta.owner_references()) {
    if (owner.controller()) return &owner;
  }
  return nullptr;
}

bool IsControlledBy(const k8s::meta::v1::ObjectMeta& meta, std::string_view owner_uid) {
  const k8s::meta::v1::OwnerReference* owner = ControllerOf(meta);
  return owner != nullptr && owner->uid() == owner_uid;
}

k8s::meta::v1::OwnerReference ControllerReference(const google::protobuf::Message& owner) {
  const k8s::meta::v1::ObjectMeta& meta = codec::MetaOf(owner);
  const codec::GroupVersionKind* gvk = codec::GvkOf(owner);
  k8s::meta::v1::OwnerReference reference;
  reference.set_api_version(gvk->ApiVersion());
  reference.set_kind(gvk->kind);
  reference.set_name(meta.name());
  reference.set_uid(meta.uid());
  reference.set_controller(true);
  reference.set_block_owner_deletion(true);
  return reference;
}

bool RemoveOwner(k8s::meta::v1::ObjectMeta* meta, std::string_view owner_uid) {
  auto* owners = meta->mutable_owner_references();
  bool removed = false;
  for (int i = owners->size() - 1; i >= 0; --i) {
    if (owners->Get(i).uid() != owner_uid) continue;
    owners->DeleteSubrange(i, 1);
    removed = true;
  }
  return removed;
}

bool HasFinalizer(const k8s::meta::v1::ObjectMeta& meta, std::string_view finalizer) {
  for (const std::string& present : meta.finalizers()) {
    if (present == finalizer) return true;
  }
  return false;
}

bool RemoveFinalizer(k8s::meta::v1::ObjectMeta* meta, std::string_view finalizer) {
  auto* finalizers = meta->mutable_finalizers();
  for (int i = 0; i < finalizers->size(); ++i) {
    if (finalizers->Get(i) != finalizer) continue;
    finalizers->DeleteSubrange(i, 1);
    return true;
  }
  return false;
}

bool IsBeingDeleted(const k8s::meta::v1::ObjectMeta& meta) { return meta.has_deletion_timestamp(); }

WallTime ToWall(const k8s::meta::v1::Time& time) { return FromParts(time); }
WallTime ToWall(const k8s::meta::v1::MicroTime& time) { return FromParts(time); }

void SetTime(k8s::meta::v1::Time* time, WallTime value) {
  time->set_seconds(std::chrono::floor<std::chrono::seconds>(value.time_since_epoch()).count());
  time->clear_nanos();
}

void SetMicroTime(k8s::meta::v1::MicroTime* time, WallTime value) {
  auto micros = std::chrono::floor<std::chrono::microseconds>(value.time_since_epoch()).count();
  time->set_seconds(micros / 1'000'000);
  time->set_nanos(static_cast<int32_t>(micros % 1'000'000) * 1000);
}

std::string DeterministicBytes(const google::protobuf::Message& message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream output(&bytes);
  google::protobuf::io::CodedOutputStream coded(&output);
  coded.SetSerializationDeterministic(true);
  message.SerializePartialToCodedStream(&coded);
  coded.Trim();
  return bytes;
}

bool Equal(const google::protobuf::Message& a, const google::protobuf::Message& b) {
  auto normal = [](const google::protobuf::Message& message) {
    std::unique_ptr<google::protobuf::Message> copy(message.New());
    copy->CopyFrom(message);
    // What does not normalise the API will refuse: it is different from all that is stored.
    (void)codec::Normalize(copy.get());
    return DeterministicBytes(*copy);
  };
  return normal(a) == normal(b);
}

}  // namespace skiff::cp
