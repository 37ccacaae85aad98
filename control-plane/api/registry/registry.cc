#include "control-plane/api/registry/registry.h"

#include <google/protobuf/message.h>

#include <algorithm>
#include <utility>

#include "control-plane/api/registry/admission.h"
#include "control-plane/api/registry/meta_rules.h"
#include "control-plane/api/registry/runtime_class.h"
#include "proto/codec/json.h"
#include "proto/codec/meta.h"
#include "proto/k8s/core/v1/namespace.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"
#include "proto/k8s/node/v1/node.pb.h"

namespace skiff::cp {
namespace {

using codec::MetaOf;
using codec::MutableMetaOf;
using k8s::core::v1::Namespace;
using k8s::core::v1::Pod;
using k8s::core::v1::Service;
using ::k8s::node::v1::RuntimeClass;

constexpr std::chrono::seconds kConsistentReadTimeout{10};
constexpr std::string_view kNotGenerated =
    "the server was not able to generate a unique name for the object";

std::string StorageKey(const KindInfo& kind, std::string_view key) {
  return StoragePrefix(kind).append(key);
}

bool IsEvent(const KindInfo& kind) { return kind.group.empty() && kind.plural == "events"; }

MessagePtr Copy(const Message& object) {
  MessagePtr copy(object.New());
  copy->CopyFrom(object);
  return copy;
}

void AddWarnings(const KindInfo& kind, const Message& object, const WriteOptions& options) {
  if (options.warnings == nullptr || !kind.rules.warnings) return;
  for (auto& warning : kind.rules.warnings(object)) {
    options.warnings->push_back(std::move(warning));
  }
}

// One form for one meaning, whoever built the message: what compares equal is not written again.
ApiResult<void> NormalizeObject(const KindInfo& kind, Message* object) {
  auto normalized = codec::Normalize(object);
  if (normalized.ok()) return {};
  return ApiError::BadRequest(kind.kind + " " + MetaOf(*object).name() + ": " +
                              normalized.error().message());
}

StoredPtr Stored(std::string key, ObjectPtr object, Revision revision) {
  auto stored = std::make_shared<StoredObject>();
  stored->key = std::move(key);
  stored->object = std::move(object);
  stored->revision = revision;
  return stored;
}

// What the client says it changes must be what is there.
ApiResult<void> CheckVersion(const KindInfo& kind, std::string_view name, const Message& next,
                             const StoredObject& current) {
  const auto& meta = MetaOf(next);
  const auto& now = MetaOf(*current.object);
  if (!meta.uid().empty() && meta.uid() != now.uid()) {
    return ApiError::Conflict(kind, name,
                              "Precondition failed: UID in precondition: " + meta.uid() +
                                  ", UID in object meta: " + now.uid());
  }
  const std::string& wanted = meta.resource_version();
  if (wanted.empty() || wanted == "0") {
    if (kind.allow_unconditional_update) return {};
    FieldErrors errors;
    errors.Invalid(FieldPath("metadata").Child("resourceVersion"), ShownValue::Raw("0x0"),
                   "must be specified for an update");
    return ApiError::Invalid(kind, name, errors);
  }
  if (wanted != now.resource_version()) return ApiError::Modified(kind, name);
  return {};
}

}  // namespace

// ---- reading ----

ApiResult<StoredPtr> Registry::Get(const KindInfo& kind, std::string_view ns,
                                   std::string_view name) {
  std::string key = ObjectKey(ns, name);
  auto found = TRY(deps_.store.Get(StorageKey(kind, key)));
  if (!found) return ApiError::NotFound(kind, name);
  // Usually the cache has this very version decoded already.
  StoredPtr cached = deps_.cache.Get(kind, key);
  if (cached && cached->revision == found->mod_revision) return cached;
  return TRY(DecodeStored(kind, std::move(key), found->value, found->mod_revision));
}

ApiResult<CacheSnapshot> Registry::List(const KindInfo& kind, std::string_view ns) {
  Revision current = deps_.store.CurrentRevision();
  if (!deps_.cache.WaitFor(current, kConsistentReadTimeout)) {
    return ApiError::RevisionTooLarge(current, deps_.cache.revision());
  }
  return deps_.cache.List(kind, ns);
}

// ---- create ----

ApiResult<StoredPtr> Registry::Create(const KindInfo& kind, MessagePtr object,
                                      const WriteOptions& options) {
  auto* meta = MutableMetaOf(object.get());
  if (!meta->resource_version().empty()) {
    return ApiError::BadRequest("resourceVersion should not be set on objects to be created");
  }
  const bool generated = meta->name().empty() && !meta->generate_name().empty();
  PrepareMetaForCreate(meta, deps_.clock.WallNow());
  if (kind.rules.set_defaults) kind.rules.set_defaults(*object);
  if (kind.rules.prepare_create) kind.rules.prepare_create(*object);
  Admit(*object);
  auto* pod = dynamic_cast<Pod*>(object.get());
  const StoredPtr stored_class = TRY(RuntimeClassOf(kind, *object));
  const auto* runtime_class =
      stored_class ? static_cast<const RuntimeClass*>(stored_class->object.get()) : nullptr;
  if (runtime_class != nullptr) {
    const std::string refused = ApplyRuntimeClass(*runtime_class, pod);
    if (!refused.empty()) return ApiError::Forbidden(kind, meta->name(), refused);
  }
  TRY(NormalizeObject(kind, object.get()));
  meta = MutableMetaOf(object.get());
  FieldErrors errors;
  ValidateMeta(kind, *meta, errors);
  if (kind.rules.validate) kind.rules.validate(*object, errors);
  if (!errors.empty()) return ApiError::Invalid(kind, meta->name(), errors);
  if (pod != nullptr) {
    const std::string refused = CheckOverhead(runtime_class, *pod);
    if (!refused.empty()) return ApiError::Forbidden(kind, meta->name(), refused);
  }
  for (int attempt = 1; attempt <= kMaxAttempts; ++attempt) {
    auto outcome = TRY(TryCreate(kind, *object, !generated, options));
    if (outcome) {
      AddWarnings(kind, *object, options);
      return *outcome;
    }
    if (generated) meta->set_name(GenerateName(meta->generate_name()));
  }
  ApiError error = ApiError::AlreadyExists(kind, meta->name());
  if (generated) error.message = kNotGenerated;
  return error;
}

Registry::Attempt<StoredPtr> Registry::TryCreate(const KindInfo& kind, Message& object, bool named,
                                                 const WriteOptions& options) {
  const auto& meta = MetaOf(object);
  std::string key = ObjectKey(meta.namespace_(), meta.name());
  TxnRequest txn;
  TRY(CheckNamespace(kind, object, txn));
  auto exists = TRY(deps_.store.Get(StorageKey(kind, key)));
  if (exists && named) return ApiError::AlreadyExists(kind, meta.name());
  if (exists) return std::optional<StoredPtr>();
  MessagePtr attempt = Copy(object);
  auto plan = TRY(Allocate(kind, *attempt, nullptr));
  plan.AddTo(txn);
  auto stored = TRY(Put(kind, key, *attempt, 0, std::move(txn), options));
  if (stored && !options.dry_run) plan.Commit();
  return stored;
}

ApiResult<void> Registry::CheckNamespace(const KindInfo& kind, const Message& object,
                                         TxnRequest& txn) {
  if (!kind.namespaced) return {};
  const std::string& name = MetaOf(object).namespace_();
  const KindInfo* namespaces = deps_.kinds.FindResource("", "v1", "namespaces");
  CHECK(namespaces != nullptr);
  auto ns = TRY(Get(*namespaces, "", name));
  if (MetaOf(*ns->object).has_deletion_timestamp()) {
    ApiError error = ApiError::Forbidden(
        kind, MetaOf(object).name(),
        "unable to create new content in namespace " + name + " because it is being terminated");
    error.causes.push_back({"NamespaceTerminating", "namespace " + name + " is being terminated",
                            "metadata.namespace"});
    return error;
  }
  // Nothing slips into a namespace whose deletion begins meanwhile.
  txn.compares.push_back({StorageKey(*namespaces, name), ns->revision});
  return {};
}

ApiResult<StoredPtr> Registry::RuntimeClassOf(const KindInfo& kind, const Message& object) {
  const auto* pod = dynamic_cast<const Pod*>(&object);
  if (pod == nullptr || !pod->spec().has_runtime_class_name()) return StoredPtr();
  const std::string& name = pod->spec().runtime_class_name();
  const KindInfo* classes = deps_.kinds.FindResource("node.k8s.io", "v1", "runtimeclasses");
  CHECK(classes != nullptr);
  auto found = Get(*classes, "", name);
  if (found.ok() || found.error().http_code != 404) return found;
  return ApiError::Forbidden(kind, pod->metadata().name(),
                             "pod rejected: RuntimeClass \"" + name + "\" not found");
}

ApiResult<ServiceAllocator::Plan> Registry::Allocate(const KindInfo& kind, Message& object,
                                                     const Message* old) {
  auto* service = dynamic_cast<Service*>(&object);
  if (service == nullptr) return ServiceAllocator::Plan();
  FieldErrors errors;
  auto plan = deps_.services.Allocate(service, dynamic_cast<const Service*>(old), errors);
  if (!errors.empty()) return ApiError::Invalid(kind, service->metadata().name(), errors);
  return plan;
}

Registry::Attempt<StoredPtr> Registry::Put(const KindInfo& kind, const std::string& key,
                                           const Message& object, Revision replaces, TxnRequest txn,
                                           const WriteOptions& options) {
  if (options.dry_run) {
    // As upstream: a dry-run creation has no version, a dry-run update the one it was made from.
    ObjectPtr shown = replaces == 0 ? ObjectPtr(Copy(object)) : WithRevision(object, replaces);
    return std::optional(Stored(key, std::move(shown), replaces));
  }
  txn.compares.push_back({StorageKey(kind, key), replaces});
  LeaseId lease = IsEvent(kind) ? TRY(event_leases_.Current()) : LeaseId{0};
  txn.ops.push_back(Op::Put(StorageKey(kind, key), EncodeStored(object), lease));
  auto result = TRY(deps_.store.Txn(std::move(txn)));
  if (!result.succeeded) return std::optional<StoredPtr>();
  return std::optional(Stored(key, WithRevision(object, result.revision), result.revision));
}

// ---- update ----

ApiResult<Registry::Updated> Registry::Update(const KindInfo& kind, std::string_view ns,
                                              std::string_view name, Part part,
                                              const Change& change, const WriteOptions& options,
                                              std::function<MessagePtr()> create_missing) {
  for (int attempt = 1; attempt <= kMaxAttempts; ++attempt) {
    auto turn = locks_.Lock(kind.plural, ObjectKey(ns, name));
    auto current = Get(kind, ns, name);
    if (!current.ok()) {
      turn.unlock();
      if (current.error().http_code != 404 || !create_missing) return std::move(current).error();
      auto created = Create(kind, create_missing(), options);
      if (created.ok()) return Updated{*created, true};
      if (created.error().reason != "AlreadyExists") return std::move(created).error();
      continue;
    }
    auto outcome = TRY(TryUpdate(kind, ns, name, **current, part, change, options));
    if (outcome) return *outcome;
  }
  return ApiError::Modified(kind, name);
}

Registry::Attempt<Registry::Updated> Registry::TryUpdate(const KindInfo& kind, std::string_view ns,
                                                         std::string_view name,
                                                         const StoredObject& current, Part part,
                                                         const Change& change,
                                                         const WriteOptions& options) {
  const Message& old = *current.object;
  MessagePtr next = TRY(change(old));
  TRY(CheckVersion(kind, name, *next, current));
  auto* meta = MutableMetaOf(next.get());
  PrepareMetaForUpdate(meta, MetaOf(old));
  if (kind.rules.set_defaults) kind.rules.set_defaults(*next);
  FieldErrors errors;
  ServiceAllocator::Plan plan;
  if (part == Part::kMain) {
    if (kind.rules.prepare_update) kind.rules.prepare_update(*next, old);
    plan = TRY(Allocate(kind, *next, &old));
    if (kind.rules.validate_update) kind.rules.validate_update(*next, old, errors);
  } else if (part == Part::kStatus) {
    *meta = MetaOf(old);
    if (kind.rules.prepare_status_update) kind.rules.prepare_status_update(*next, old);
    if (kind.rules.validate_status_update) kind.rules.validate_status_update(*next, old, errors);
  }
  ValidateMetaUpdate(*meta, MetaOf(old), errors);
  if (!errors.empty()) return ApiError::Invalid(kind, name, errors);
  meta->set_resource_version(MetaOf(old).resource_version());
  TRY(NormalizeObject(kind, next.get()));
  meta = MutableMetaOf(next.get());
  AddWarnings(kind, *next, options);
  std::string key = ObjectKey(ns, name);
  const bool last_finalizer = meta->has_deletion_timestamp() && !HasFinalizers(*next) &&
                              meta->deletion_grace_period_seconds() == 0;
  if (last_finalizer) {
    auto removed = TRY(Remove(kind, current, options));
    if (!removed) return std::optional<Updated>();
    return std::optional(Updated{Stored(key, std::move(next), removed->stored->revision), false});
  }
  if (EncodeStored(*next) == EncodeStored(old)) {  // nothing to write, no event to send
    return std::optional(Updated{Stored(key, current.object, current.revision), false});
  }
  TxnRequest txn;
  plan.AddTo(txn);
  auto stored = TRY(Put(kind, key, *next, current.revision, std::move(txn), options));
  if (!stored) return std::optional<Updated>();
  if (!options.dry_run) plan.Commit();
  return std::optional(Updated{*stored, false});
}

}  // namespace skiff::cp
