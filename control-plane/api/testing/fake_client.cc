#include "control-plane/api/testing/fake_client.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <algorithm>

#include "control-plane/controllers/framework/objects.h"
#include "proto/codec/meta.h"
#include "proto/codec/selector.h"
#include "proto/k8s/apps/v1/apps.pb.h"
#include "proto/k8s/coordination/v1/coordination.pb.h"
#include "proto/k8s/core/v1/config.pb.h"
#include "proto/k8s/core/v1/event.pb.h"
#include "proto/k8s/core/v1/namespace.pb.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/core/v1/rest.pb.h"
#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/discovery/v1/discovery.pb.h"

namespace skiff::cp {
namespace {

namespace core = k8s::core::v1;

constexpr char kForeground[] = "foregroundDeletion";
constexpr char kOrphan[] = "orphan";

bool Namespaced(const Message& object) {
  const auto* type = object.GetDescriptor();
  return type != core::Node::descriptor() && type != core::Namespace::descriptor();
}

Error NotFound(const Message& prototype, std::string_view key) {
  return Error(Code::kNotFound, std::string(prototype.GetDescriptor()->name()) + " \"" +
                                    std::string(key) + "\" not found");
}

std::unique_ptr<Message> Copy(const Message& object) {
  std::unique_ptr<Message> copy(object.New());
  copy->CopyFrom(object);
  return copy;
}

const google::protobuf::FieldDescriptor* Field(const Message& object, const char* name) {
  return object.GetDescriptor()->FindFieldByName(name);
}

// Takes a field over from another object of the same type.
void TakeField(Message* to, const Message& from, const char* name) {
  const auto* field = Field(*to, name);
  if (field == nullptr) return;
  to->GetReflection()->ClearField(to, field);
  if (from.GetReflection()->HasField(from, field)) {
    to->GetReflection()->MutableMessage(to, field)->CopyFrom(
        from.GetReflection()->GetMessage(from, field));
  }
}

bool SameField(const Message& a, const Message& b, const char* name) {
  const auto* field = Field(a, name);
  return field == nullptr ||
         Equal(a.GetReflection()->GetMessage(a, field), b.GetReflection()->GetMessage(b, field));
}

}  // namespace

struct FakeClient::Watcher {
  const google::protobuf::Descriptor* type;
  const Message* prototype;
  std::string ns;
  Executor& executor;
  WatchCallback callback;
  bool ended = false;

  static void Send(const std::shared_ptr<Watcher>& watcher, WatchEvent event) {
    watcher->executor.Post([watcher, event = std::move(event)] {
      if (!watcher->ended) watcher->callback(event);
    });
  }
};

class FakeClient::Handle : public Subscription {
 public:
  explicit Handle(std::shared_ptr<Watcher> watcher) : watcher_(std::move(watcher)) {}
  ~Handle() override { watcher_->ended = true; }

 private:
  std::shared_ptr<Watcher> watcher_;
};

FakeClient::FakeClient(const Clock& clock) : clock_(clock) {}
FakeClient::~FakeClient() = default;

FakeClient::Objects& FakeClient::Of(const Message& prototype) {
  return objects_[prototype.GetDescriptor()->full_name()];
}

std::optional<Error> FakeClient::Refused(std::string_view verb, const Message& object) {
  ++writes_;
  return intercept ? intercept(verb, object) : std::nullopt;
}

Result<ObjectPtr> FakeClient::Current(const Message& object) {
  const std::string key = KeyOf(codec::MetaOf(object));
  Objects& objects = Of(object);
  auto found = objects.find(key);
  if (found == objects.end()) return NotFound(object, key);
  const std::string& revision = codec::MetaOf(object).resource_version();
  if (!revision.empty() && revision != codec::MetaOf(*found->second).resource_version()) {
    return Error(Code::kConflict, "the object has been modified");
  }
  return found->second;
}

void FakeClient::Tell(const WatchEvent& event) {
  std::erase_if(watchers_, [](const auto& watcher) { return watcher.expired(); });
  const std::string& ns = codec::MetaOf(*event.object).namespace_();
  for (const auto& weak : watchers_) {
    std::shared_ptr<Watcher> watcher = weak.lock();
    if (watcher->type != event.object->GetDescriptor()) continue;
    if (watcher->ns.empty() || watcher->ns == ns) Watcher::Send(watcher, event);
  }
}

ObjectPtr FakeClient::Store(std::unique_ptr<Message> object, WatchEvent::Type type) {
  codec::MutableMetaOf(object.get())->set_resource_version(std::to_string(++revision_));
  ObjectPtr stored = std::move(object);
  if (type == WatchEvent::Type::kDeleted) {
    Of(*stored).erase(KeyOf(codec::MetaOf(*stored)));
  } else {
    Of(*stored)[KeyOf(codec::MetaOf(*stored))] = stored;
  }
  Tell({type, stored, revision_});
  return stored;
}

ObjectPtr FakeClient::StoreOrRemove(std::unique_ptr<Message> object) {
  const auto& meta = codec::MetaOf(*object);
  bool held = meta.finalizers_size() > 0 || meta.deletion_grace_period_seconds() > 0;
  if (const auto* ns = dynamic_cast<const core::Namespace*>(object.get())) {
    held |= ns->spec().finalizers_size() > 0;
  }
  bool gone = meta.has_deletion_timestamp() && !held;
  return Store(std::move(object), gone ? WatchEvent::Type::kDeleted : WatchEvent::Type::kModified);
}

Result<ObjectPtr> FakeClient::GetObject(const Message& prototype, std::string_view ns,
                                        std::string_view name) {
  Objects& objects = Of(prototype);
  auto found = objects.find(JoinKey(ns, name));
  if (found == objects.end()) return NotFound(prototype, JoinKey(ns, name));
  return found->second;
}

Result<ObjectList<Message>> FakeClient::ListObjects(const Message& prototype,
                                                    const ListOptions& options) {
  auto labels = TRY(codec::LabelSelector::Parse(options.label_selector));
  auto fields = TRY(codec::FieldSelector::Parse(options.field_selector));
  ObjectList<Message> list;
  list.revision = revision_;
  for (const auto& [key, object] : Of(prototype)) {
    const auto& meta = codec::MetaOf(*object);
    if (!options.ns.empty() && meta.namespace_() != options.ns) continue;
    if (!labels.Matches(meta.labels()) || !fields.Matches(*object)) continue;
    list.items.push_back(object);
  }
  return list;
}

Result<ObjectPtr> FakeClient::CreateObject(const Message& object) {
  if (auto refusal = Refused("create", object)) return *refusal;
  std::unique_ptr<Message> created = Copy(object);
  auto* meta = codec::MutableMetaOf(created.get());
  if (meta->name().empty()) {
    meta->set_name(meta->generate_name() + std::to_string(10000 + next_id_++));
  }
  if (Of(object).contains(KeyOf(*meta))) {
    return Error(Code::kAlreadyExists, "\"" + meta->name() + "\" already exists");
  }
  meta->set_uid("uid-" + std::to_string(next_id_++));
  meta->set_generation(1);
  SetTime(meta->mutable_creation_timestamp(), clock_.WallNow());
  if (auto* pod = dynamic_cast<core::Pod*>(created.get()); pod && pod->status().phase().empty()) {
    pod->mutable_status()->set_phase("Pending");
  }
  if (auto* ns = dynamic_cast<core::Namespace*>(created.get())) {
    ns->mutable_status()->set_phase("Active");
    if (ns->spec().finalizers().empty()) ns->mutable_spec()->add_finalizers("kubernetes");
  }
  return Store(std::move(created), WatchEvent::Type::kAdded);
}

Result<ObjectPtr> FakeClient::UpdateObject(const Message& object) {
  if (auto refusal = Refused("update", object)) return *refusal;
  ObjectPtr old = TRY(Current(object));
  std::unique_ptr<Message> updated = Copy(object);
  TakeField(updated.get(), *old, "status");
  auto* meta = codec::MutableMetaOf(updated.get());
  const auto& old_meta = codec::MetaOf(*old);
  meta->set_uid(old_meta.uid());
  meta->set_generation(old_meta.generation() + (SameField(*updated, *old, "spec") ? 0 : 1));
  *meta->mutable_creation_timestamp() = old_meta.creation_timestamp();
  if (old_meta.has_deletion_timestamp()) {
    *meta->mutable_deletion_timestamp() = old_meta.deletion_timestamp();
  }
  meta->set_resource_version(old_meta.resource_version());
  if (Equal(*updated, *old)) return old;
  return StoreOrRemove(std::move(updated));
}

Result<ObjectPtr> FakeClient::UpdateObjectStatus(const Message& object) {
  if (auto refusal = Refused("update-status", object)) return *refusal;
  ObjectPtr old = TRY(Current(object));
  std::unique_ptr<Message> updated = Copy(*old);
  TakeField(updated.get(), object, "status");
  if (Equal(*updated, *old)) return old;
  return Store(std::move(updated), WatchEvent::Type::kModified);
}

Result<ObjectPtr> FakeClient::PatchObject(const Message&, std::string_view, std::string_view,
                                          PatchType, std::string_view, std::string_view) {
  return Error(Code::kUnimplemented, "the fake client does not patch");
}

Result<void> FakeClient::DeleteObject(const Message& prototype, std::string_view ns,
                                      std::string_view name, const DeleteOptions& options) {
  ObjectPtr old = TRY(GetObject(prototype, ns, name));
  if (auto refusal = Refused("delete", *old)) return *refusal;
  const auto& old_meta = codec::MetaOf(*old);
  if ((!options.uid.empty() && options.uid != old_meta.uid()) ||
      (!options.resource_version.empty() &&
       options.resource_version != old_meta.resource_version())) {
    return Error(Code::kConflict, "the precondition of the deletion does not hold");
  }
  std::unique_ptr<Message> object = Copy(*old);
  auto* meta = codec::MutableMetaOf(object.get());
  auto add_finalizer = [&](const char* finalizer) {
    if (!HasFinalizer(*meta, finalizer)) meta->add_finalizers(finalizer);
  };
  if (options.propagation == Propagation::kForeground) add_finalizer(kForeground);
  if (options.propagation == Propagation::kOrphan) add_finalizer(kOrphan);
  int64_t grace = 0;
  if (auto* pod = dynamic_cast<core::Pod*>(object.get()); pod && !pod->spec().node_name().empty()) {
    grace =
        options.grace_period_seconds.value_or(pod->spec().has_termination_grace_period_seconds()
                                                  ? pod->spec().termination_grace_period_seconds()
                                                  : 30);
  }
  if (auto* space = dynamic_cast<core::Namespace*>(object.get())) {
    space->mutable_status()->set_phase("Terminating");
  }
  if (!meta->has_deletion_timestamp()) {
    SetTime(meta->mutable_deletion_timestamp(), clock_.WallNow() + std::chrono::seconds(grace));
    meta->set_deletion_grace_period_seconds(grace);
  } else if (grace < meta->deletion_grace_period_seconds()) {
    meta->set_deletion_grace_period_seconds(grace);
  }
  if (Equal(*object, *old) && meta->finalizers_size() > 0) return {};
  (void)StoreOrRemove(std::move(object));
  return {};
}

Result<void> FakeClient::Bind(std::string_view ns, std::string_view pod, std::string_view uid,
                              std::string_view node) {
  ObjectPtr old = TRY(GetObject(core::Pod::default_instance(), ns, pod));
  if (auto refusal = Refused("bind", *old)) return *refusal;
  auto bound = std::make_unique<core::Pod>(static_cast<const core::Pod&>(*old));
  if ((!uid.empty() && uid != bound->metadata().uid()) || !bound->spec().node_name().empty()) {
    return Error(Code::kConflict, "the pod is bound already, or another one");
  }
  bound->mutable_spec()->set_node_name(std::string(node));
  RemoveCondition(bound->mutable_status(), "PodScheduled");
  auto* condition = bound->mutable_status()->add_conditions();
  condition->set_type("PodScheduled");
  condition->set_status("True");
  SetTime(condition->mutable_last_transition_time(), clock_.WallNow());
  (void)Store(std::move(bound), WatchEvent::Type::kModified);
  return {};
}

Result<void> FakeClient::Evict(std::string_view ns, std::string_view pod,
                               const DeleteOptions& options) {
  return DeleteObject(core::Pod::default_instance(), ns, pod, options);
}

Result<void> FakeClient::FinalizeNamespace(std::string_view name) {
  ObjectPtr old = TRY(GetObject(core::Namespace::default_instance(), "", name));
  auto ns = std::make_unique<core::Namespace>(static_cast<const core::Namespace&>(*old));
  ns->mutable_spec()->clear_finalizers();
  (void)StoreOrRemove(std::move(ns));
  return {};
}

void FakeClient::Remove(const Message& prototype, std::string_view ns, std::string_view name) {
  ObjectPtr old = GetObject(prototype, ns, name).value();
  (void)Store(Copy(*old), WatchEvent::Type::kDeleted);
}

void FakeClient::SendSnapshot(Watcher& to) {
  for (const auto& weak : watchers_) {
    std::shared_ptr<Watcher> watcher = weak.lock();
    if (watcher.get() != &to) continue;
    for (const auto& [key, object] : Of(*watcher->prototype)) {
      if (!watcher->ns.empty() && codec::MetaOf(*object).namespace_() != watcher->ns) continue;
      Watcher::Send(watcher, {WatchEvent::Type::kAdded, object, revision_});
    }
    Watcher::Send(watcher, {WatchEvent::Type::kSynced, nullptr, revision_});
  }
}

void FakeClient::ResetWatches() {
  for (const auto& weak : std::vector(watchers_)) {
    if (std::shared_ptr<Watcher> watcher = weak.lock()) {
      Watcher::Send(watcher, {WatchEvent::Type::kReset, nullptr, revision_});
      SendSnapshot(*watcher);
    }
  }
}

std::unique_ptr<Subscription> FakeClient::WatchObjects(const Message& prototype,
                                                       std::string_view ns, Executor& executor,
                                                       WatchCallback callback) {
  auto watcher = std::make_shared<Watcher>(Watcher{prototype.GetDescriptor(), &prototype,
                                                   std::string(ns), executor, std::move(callback)});
  watchers_.push_back(watcher);
  SendSnapshot(*watcher);
  return std::make_unique<Handle>(std::move(watcher));
}

std::vector<Client::ServedKind> FakeClient::ServedKinds() const {
  std::vector<ServedKind> kinds;
  auto add = [&](const Message& prototype, const char* plural) {
    const codec::GroupVersionKind* gvk = codec::GvkOf(prototype);
    kinds.push_back({gvk->ApiVersion(), gvk->kind, plural, Namespaced(prototype), &prototype});
  };
  add(core::Namespace::default_instance(), "namespaces");
  add(core::Node::default_instance(), "nodes");
  add(core::Pod::default_instance(), "pods");
  add(core::Service::default_instance(), "services");
  add(core::Endpoints::default_instance(), "endpoints");
  add(core::ConfigMap::default_instance(), "configmaps");
  add(core::ServiceAccount::default_instance(), "serviceaccounts");
  add(core::Event::default_instance(), "events");
  add(core::ReplicationController::default_instance(), "replicationcontrollers");
  add(k8s::apps::v1::Deployment::default_instance(), "deployments");
  add(k8s::apps::v1::ReplicaSet::default_instance(), "replicasets");
  add(k8s::discovery::v1::EndpointSlice::default_instance(), "endpointslices");
  add(k8s::coordination::v1::Lease::default_instance(), "leases");
  return kinds;
}

}  // namespace skiff::cp
