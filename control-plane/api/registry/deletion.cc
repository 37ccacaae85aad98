// The deletion of objects: preconditions, grace, finalizers and what becomes of dependents.

#include <google/protobuf/message.h>

#include <algorithm>
#include <utility>

#include "control-plane/api/registry/admission.h"
#include "control-plane/api/registry/registry.h"
#include "proto/codec/meta.h"
#include "proto/k8s/core/v1/namespace.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"

namespace skiff::cp {
namespace {

using codec::MetaOf;
using codec::MutableMetaOf;
using k8s::core::v1::Namespace;
using k8s::core::v1::Pod;
using k8s::core::v1::Service;
using k8s::meta::v1::ObjectMeta;

constexpr std::string_view kOrphanFinalizer = "orphan";
constexpr std::string_view kForegroundFinalizer = "foregroundDeletion";
constexpr int64_t kDefaultPodGrace = 30;

ApiResult<void> CheckPreconditions(const KindInfo& kind, const ObjectMeta& meta,
                                   const DeletionOptions& deletion) {
  if (!deletion.uid.empty() && deletion.uid != meta.uid()) {
    return ApiError::Conflict(kind, meta.name(),
                              "Precondition failed: UID in precondition: " + deletion.uid +
                                  ", UID in object meta: " + meta.uid());
  }
  if (!deletion.resource_version.empty() && deletion.resource_version != meta.resource_version()) {
    return ApiError::Conflict(
        kind, meta.name(),
        "Precondition failed: ResourceVersion in precondition: " + deletion.resource_version +
            ", ResourceVersion in object meta: " + meta.resource_version());
  }
  return {};
}

// The garbage collector's finalizers say what it does with the dependents.
void SetPropagation(const KindInfo& kind, ObjectMeta* meta, const DeletionOptions& deletion) {
  auto& finalizers = *meta->mutable_finalizers();
  auto has = [&](std::string_view name) {
    return std::find(finalizers.begin(), finalizers.end(), name) != finalizers.end();
  };
  std::string policy = deletion.propagation;
  if (policy.empty()) {
    if (has(kOrphanFinalizer) || has(kForegroundFinalizer)) return;  // as said when it began
    policy = kind.default_propagation;
  }
  auto set = [&](std::string_view name, bool wanted) {
    if (wanted == has(name)) return;
    if (wanted) {
      *finalizers.Add() = name;
    } else {
      finalizers.erase(std::remove(finalizers.begin(), finalizers.end(), name), finalizers.end());
    }
  };
  set(kOrphanFinalizer, policy == "Orphan");
  set(kForegroundFinalizer, policy == "Foreground");
}

// How long the object may stay for its own sake; 0 for all kinds but pods.
int64_t GraceOf(const KindInfo& kind, const Message& object, const DeletionOptions& deletion) {
  auto* pod = dynamic_cast<const Pod*>(&object);
  if (!kind.graceful_deletion || pod == nullptr) return 0;
  // Nobody runs it (any more).
  if (pod->spec().node_name().empty()) return 0;
  if (pod->status().phase() == "Succeeded" || pod->status().phase() == "Failed") return 0;
  int64_t grace =
      deletion.grace_period_seconds.value_or(pod->spec().has_termination_grace_period_seconds()
                                                 ? pod->spec().termination_grace_period_seconds()
                                                 : kDefaultPodGrace);
  return grace < 0 ? 1 : grace;  // negative values mean "at once" since upstream 1.22
}

void MarkDeleted(ObjectMeta* meta, WallTime now, int64_t grace) {
  int64_t seconds = std::chrono::floor<std::chrono::seconds>(now.time_since_epoch()).count();
  // A shorter period than before counts from when the deletion began.
  if (meta->has_deletion_timestamp()) {
    seconds = meta->deletion_timestamp().seconds() - meta->deletion_grace_period_seconds();
  } else if (meta->generation() > 0) {
    meta->set_generation(meta->generation() + 1);
  }
  meta->mutable_deletion_timestamp()->set_seconds(seconds + grace);
  meta->set_deletion_grace_period_seconds(grace);
}

bool IsUndeletable(const KindInfo& kind, const std::string& name) {
  return kind.group.empty() && kind.plural == "namespaces" &&
         (name == "default" || name == "kube-system" || name == "kube-public");
}

}  // namespace

ApiResult<Registry::Deleted> Registry::Delete(const KindInfo& kind, std::string_view ns,
                                              std::string_view name,
                                              const DeletionOptions& deletion,
                                              const WriteOptions& options) {
  for (int attempt = 1; attempt <= kMaxAttempts; ++attempt) {
    auto turn = locks_.Lock(kind.plural, ObjectKey(ns, name));
    auto current = TRY(Get(kind, ns, name));
    auto outcome = TRY(TryDelete(kind, *current, deletion, options));
    if (outcome) return *outcome;
  }
  return ApiError::Modified(kind, name);
}

Registry::Attempt<Registry::Deleted> Registry::TryDelete(const KindInfo& kind,
                                                         const StoredObject& current,
                                                         const DeletionOptions& deletion,
                                                         const WriteOptions& options) {
  const auto& meta = MetaOf(*current.object);
  if (IsUndeletable(kind, meta.name())) {
    return ApiError::Forbidden(kind, meta.name(), "this namespace may not be deleted");
  }
  TRY(CheckPreconditions(kind, meta, deletion));
  MessagePtr next(current.object->New());
  next->CopyFrom(*current.object);
  auto* changed = MutableMetaOf(next.get());
  SetPropagation(kind, changed, deletion);
  int64_t grace = GraceOf(kind, *current.object, deletion);
  if (meta.has_deletion_timestamp()) {
    // Already on its way: only a shorter period changes that.
    grace = std::min(grace, meta.deletion_grace_period_seconds());
    if (!deletion.grace_period_seconds) grace = meta.deletion_grace_period_seconds();
  }
  if (grace == 0 && !HasFinalizers(*next)) return Remove(kind, current, options);
  if (!meta.has_deletion_timestamp() || grace < meta.deletion_grace_period_seconds()) {
    MarkDeleted(changed, deps_.clock.WallNow(), grace);
  }
  if (auto* ns = dynamic_cast<Namespace*>(next.get())) {
    ns->mutable_status()->set_phase("Terminating");
  }
  if (EncodeStored(*next) == EncodeStored(*current.object)) {
    auto same = std::make_shared<StoredObject>(current);
    return std::optional(Deleted{std::move(same), false});
  }
  auto stored = TRY(Put(kind, current.key, *next, current.revision, {}, options));
  if (!stored) return std::optional<Deleted>();
  return std::optional(Deleted{*stored, false});
}

Registry::Attempt<Registry::Deleted> Registry::Remove(const KindInfo& kind,
                                                      const StoredObject& current,
                                                      const WriteOptions& options) {
  auto last = std::make_shared<StoredObject>(current);
  if (options.dry_run) return std::optional(Deleted{std::move(last), true});
  ServiceAllocator::Plan plan;
  if (auto* service = dynamic_cast<const Service*>(current.object.get())) {
    plan = deps_.services.Release(*service);
  }
  std::string key = StoragePrefix(kind) + current.key;
  TxnRequest txn;
  plan.AddTo(txn);
  txn.compares.push_back({key, current.revision});
  txn.ops.push_back(Op::Delete(key));
  auto result = TRY(deps_.store.Txn(std::move(txn)));
  if (!result.succeeded) return std::optional<Deleted>();
  plan.Commit();
  last->revision = result.revision;
  last->object = WithRevision(*current.object, result.revision);
  return std::optional(Deleted{std::move(last), true});
}

}  // namespace skiff::cp
