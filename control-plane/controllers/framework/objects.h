// Small facts about objects of any kind: keys, owners, finalizers, times, conditions. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "proto/k8s/fwd.h"

namespace google::protobuf {
class Message;
}  // namespace google::protobuf

namespace skiff::cp {

// In indexes by the controlling owner: what a namespace's objects without one are found under.
inline std::string OrphansOf(const std::string& ns) { return "orphans/" + ns; }

// "namespace/name"; "name" for a cluster-scoped object.
std::string KeyOf(const k8s::meta::v1::ObjectMeta& meta);
std::string JoinKey(std::string_view ns, std::string_view name);
struct NamespacedName {
  std::string ns;
  std::string name;
};
NamespacedName SplitKey(std::string_view key);
// metadata.resourceVersion as a number; 0 when there is none.
int64_t RevisionOf(const k8s::meta::v1::ObjectMeta& meta);

// The owner reference with controller=true, or null.
const k8s::meta::v1::OwnerReference* ControllerOf(const k8s::meta::v1::ObjectMeta& meta);
bool IsControlledBy(const k8s::meta::v1::ObjectMeta& meta, std::string_view owner_uid);
// A reference to an owner, with controller and blockOwnerDeletion.
k8s::meta::v1::OwnerReference ControllerReference(const google::protobuf::Message& owner);
// Removes the references to the owner; false when there was none.
bool RemoveOwner(k8s::meta::v1::ObjectMeta* meta, std::string_view owner_uid);

bool HasFinalizer(const k8s::meta::v1::ObjectMeta& meta, std::string_view finalizer);
// False when it was not there.
bool RemoveFinalizer(k8s::meta::v1::ObjectMeta* meta, std::string_view finalizer);
bool IsBeingDeleted(const k8s::meta::v1::ObjectMeta& meta);

WallTime ToWall(const k8s::meta::v1::Time& time);
WallTime ToWall(const k8s::meta::v1::MicroTime& time);
// Whole seconds, as metav1.Time has in JSON.
void SetTime(k8s::meta::v1::Time* time, WallTime value);
void SetMicroTime(k8s::meta::v1::MicroTime* time, WallTime value);

// The same bytes for equal messages.
std::string DeterministicBytes(const google::protobuf::Message& message);
// Whether both mean the same to the API: a count of zero is as one that is absent.
bool Equal(const google::protobuf::Message& a, const google::protobuf::Message& b);

// The condition of that type in a status, or null.
template <class Status>
auto FindCondition(const Status& status, std::string_view type) {
  for (const auto& condition : status.conditions()) {
    if (condition.type() == type) return &condition;
  }
  return static_cast<decltype(&status.conditions(0))>(nullptr);
}
template <class Status>
auto MutableCondition(Status* status, std::string_view type) {
  for (auto& condition : *status->mutable_conditions()) {
    if (condition.type() == type) return &condition;
  }
  return static_cast<decltype(status->mutable_conditions(0))>(nullptr);
}
template <class Status>
void RemoveCondition(Status* status, std::string_view type) {
  auto* conditions = status->mutable_conditions();
  for (int i = 0; i < conditions->size(); ++i) {
    if (conditions->Get(i).type() != type) continue;
    conditions->DeleteSubrange(i, 1);
    return;
  }
}

}  // namespace skiff::cp
