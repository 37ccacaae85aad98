#include "control-plane/api/local_client.h"

#include <google/protobuf/message.h>

#include <algorithm>
#include <functional>

#include "control-plane/api/local_watch.h"
#include "control-plane/api/rest/present.h"
#include "control-plane/api/rest/selection.h"
#include "proto/codec/json.h"
#include "proto/codec/meta.h"
#include "proto/codec/patch.h"
#include "proto/k8s/core/v1/namespace.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"

namespace skiff::cp {
namespace {

Result<std::string> Patched(PatchType type, const Message& current, std::string_view patch) {
  std::string document = codec::EncodeJson(current);
  switch (type) {
    case PatchType::kJson: return codec::ApplyJsonPatch(document, patch);
    case PatchType::kMerge: return codec::ApplyMergePatch(document, patch);
    case PatchType::kStrategicMerge: break;
  }
  return codec::ApplyStrategicMergePatch(document, patch, *current.GetDescriptor());
}

std::string PropagationName(Propagation propagation) {
  switch (propagation) {
    case Propagation::kDefault: return "";
    case Propagation::kBackground: return "Background";
    case Propagation::kForeground: return "Foreground";
    case Propagation::kOrphan: return "Orphan";
  }
  return "";
}

class LocalClient final : public Client {
 public:
  LocalClient(Registry& registry, const Kinds& kinds) : registry_(registry), kinds_(kinds) {}

  Result<ObjectPtr> GetObject(const Message& prototype, std::string_view ns,
                              std::string_view name) override {
    const KindInfo& kind = TRY(KindOf(prototype));
    return Shown(kind, registry_.Get(StoredKind(kinds_, kind), ns, name));
  }

  Result<ObjectList<Message>> ListObjects(const Message& prototype,
                                          const ListOptions& options) override {
    const KindInfo& kind = TRY(KindOf(prototype));
    auto filter = ObjectFilter::Make(kind, options.label_selector, options.field_selector);
    if (!filter.ok()) return filter.error().ToError();
    auto snapshot = registry_.List(StoredKind(kinds_, kind), options.ns);
    if (!snapshot.ok()) return snapshot.error().ToError();
    ObjectList<Message> list;
    list.revision = snapshot->revision;
    for (const auto& stored : snapshot->objects) {
      ObjectPtr object = Show(kind, stored->object);
      if (filter->Matches(kind, *object)) list.items.push_back(std::move(object));
    }
    return list;
  }

  Result<ObjectPtr> CreateObject(const Message& object) override {
    const KindInfo& kind = TRY(KindOf(object));
    return Shown(kind, registry_.Create(StoredKind(kinds_, kind), Stored(kind, object), {}));
  }

  Result<ObjectPtr> UpdateObject(const Message& object) override {
    return UpdatePart(object, Registry::Part::kMain);
  }
  Result<ObjectPtr> UpdateObjectStatus(const Message& object) override {
    return UpdatePart(object, Registry::Part::kStatus);
  }

  Result<ObjectPtr> PatchObject(const Message& prototype, std::string_view ns,
                                std::string_view name, PatchType type, std::string_view json,
                                std::string_view subresource) override {
    const KindInfo& kind = TRY(KindOf(prototype));
    if (!subresource.empty() && subresource != "status") {
      return Error(Code::kInvalidArgument, "no such subresource: " + std::string(subresource));
    }
    auto change = [&](const Message& current) -> ApiResult<MessagePtr> {
      ObjectPtr shown = Show(kind, ObjectPtr(ObjectPtr(), &current));
      std::string document = TRY(Patched(type, *shown, json));
      MessagePtr next(kind.prototype->New());
      TRY(codec::DecodeJson(document, {}, next.get()));
      return Stored(kind, *next);
    };
    auto part = subresource.empty() ? Registry::Part::kMain : Registry::Part::kStatus;
    return Updated(kind, ns, name, part, change);
  }

  Result<void> DeleteObject(const Message& prototype, std::string_view ns, std::string_view name,
                            const DeleteOptions& options) override {
    const KindInfo& kind = TRY(KindOf(prototype));
    auto deleted = registry_.Delete(StoredKind(kinds_, kind), ns, name, Deletion(options), {});
    if (!deleted.ok()) return deleted.error().ToError();
    return {};
  }

  Result<void> Bind(std::string_view ns, std::string_view pod, std::string_view uid,
                    std::string_view node) override {
    auto bound = registry_.Bind(ns, pod, uid, node, {});
    if (!bound.ok()) return bound.error().ToError();
    return {};
  }

  Result<void> Evict(std::string_view ns, std::string_view pod,
                     const DeleteOptions& options) override {
    const KindInfo* pods = kinds_.FindResource("", "v1", "pods");
    CHECK(pods != nullptr);
    return DeleteObject(*pods->prototype, ns, pod, options);
  }

  Result<void> FinalizeNamespace(std::string_view name) override {
    using k8s::core::v1::Namespace;
    const KindInfo* namespaces = kinds_.FindResource("", "v1", "namespaces");
    CHECK(namespaces != nullptr);
    auto change = [](const Message& current) -> ApiResult<MessagePtr> {
      auto next = std::make_unique<Namespace>(static_cast<const Namespace&>(current));
      auto& finalizers = *next->mutable_spec()->mutable_finalizers();
      finalizers.erase(std::remove(finalizers.begin(), finalizers.end(), "kubernetes"),
                       finalizers.end());
      return MessagePtr(std::move(next));
    };
    auto updated = registry_.Update(*namespaces, "", name, Registry::Part::kFinalize, change, {});
    if (!updated.ok()) return updated.error().ToError();
    return {};
  }

  std::unique_ptr<Subscription> WatchObjects(const Message& prototype, std::string_view ns,
                                             Executor& executor, WatchCallback callback) override {
    auto kind = KindOf(prototype);
    CHECK(kind.ok());  // a kind that is not served: a mistake in our own code
    const KindInfo& wanted = *kind;
    return SubscribeLocally(registry_.deps().cache, wanted, StoredKind(kinds_, wanted), ns,
                            executor, std::move(callback));
  }

  std::vector<ServedKind> ServedKinds() const override {
    std::vector<ServedKind> served;
    for (const auto& kind : kinds_.all()) {
      if (!kind->stored || kind->view) continue;
      served.push_back(
          {kind->ApiVersion(), kind->kind, kind->plural, kind->namespaced, kind->prototype});
    }
    return served;
  }

 private:
  Result<std::reference_wrapper<const KindInfo>> KindOf(const Message& prototype) const {
    const KindInfo* kind = kinds_.FindMessage(prototype.GetDescriptor());
    if (kind == nullptr) {
      return Error(Code::kUnimplemented,
                   "kind " + prototype.GetDescriptor()->full_name() + " is not served");
    }
    return std::cref(*kind);
  }

  MessagePtr Stored(const KindInfo& kind, const Message& object) const {
    const KindInfo& storage = StoredKind(kinds_, kind);
    if (kind.view) {
      MessagePtr stored(storage.prototype->New());
      kind.view->to_stored(object, *stored);
      return stored;
    }
    MessagePtr copy(object.New());
    copy->CopyFrom(object);
    return copy;
  }

  static Result<ObjectPtr> Shown(const KindInfo& kind, ApiResult<StoredPtr> stored) {
    if (!stored.ok()) return stored.error().ToError();
    return Show(kind, (*stored)->object);
  }

  Result<ObjectPtr> UpdatePart(const Message& object, Registry::Part part) {
    const KindInfo& kind = TRY(KindOf(object));
    const auto& meta = codec::MetaOf(object);
    auto change = [&](const Message&) -> ApiResult<MessagePtr> { return Stored(kind, object); };
    return Updated(kind, meta.namespace_(), meta.name(), part, change);
  }

  Result<ObjectPtr> Updated(const KindInfo& kind, std::string_view ns, std::string_view name,
                            Registry::Part part, const Registry::Change& change) {
    auto updated = registry_.Update(StoredKind(kinds_, kind), ns, name, part, change, {});
    if (!updated.ok()) return updated.error().ToError();
    return Show(kind, updated->stored->object);
  }

  static DeletionOptions Deletion(const DeleteOptions& options) {
    DeletionOptions deletion;
    deletion.grace_period_seconds = options.grace_period_seconds;
    deletion.uid = options.uid;
    deletion.resource_version = options.resource_version;
    deletion.propagation = PropagationName(options.propagation);
    return deletion;
  }

  Registry& registry_;
  const Kinds& kinds_;
};

}  // namespace

std::unique_ptr<Client> MakeLocalClient(Registry& registry, const Kinds& kinds) {
  return std::make_unique<LocalClient>(registry, kinds);
}

}  // namespace skiff::cp
