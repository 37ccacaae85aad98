// pods/binding: the scheduler's decision becomes the pod's node.

#include "control-plane/api/registry/registry.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::Pod;

void SetScheduled(Pod& pod, WallTime now) {
  k8s::core::v1::PodCondition* condition = nullptr;
  for (auto& present : *pod.mutable_status()->mutable_conditions()) {
    if (present.type() == "PodScheduled") condition = &present;
  }
  if (condition == nullptr) {
    condition = pod.mutable_status()->add_conditions();
    condition->set_type("PodScheduled");
  }
  condition->set_status("True");
  condition->clear_reason();
  condition->clear_message();
  condition->mutable_last_transition_time()->set_seconds(
      std::chrono::floor<std::chrono::seconds>(now.time_since_epoch()).count());
}

}  // namespace

ApiResult<void> Registry::Bind(std::string_view ns, std::string_view name, std::string_view uid,
                               std::string_view node, const WriteOptions& options) {
  const KindInfo* pods = deps_.kinds.FindResource("", "v1", "pods");
  CHECK(pods != nullptr);
  if (node.empty()) {
    FieldErrors errors;
    errors.Required(FieldPath("target").Child("name"));
    return ApiError::Invalid(*pods, name, errors);
  }
  for (int attempt = 1; attempt <= kMaxAttempts; ++attempt) {
    auto turn = locks_.Lock(pods->plural, ObjectKey(ns, name));
    auto current = TRY(Get(*pods, ns, name));
    const auto& pod = static_cast<const Pod&>(*current->object);
    if (!uid.empty() && uid != pod.metadata().uid()) {
      return ApiError::Conflict(*pods, name,
                                "Precondition failed: UID in precondition: " + std::string(uid) +
                                    ", UID in object meta: " + pod.metadata().uid());
    }
    if (pod.metadata().has_deletion_timestamp()) {
      return ApiError::Conflict(
          *pods, name,
          "pod " + std::string(name) + " is being deleted, cannot be assigned to a host");
    }
    if (!pod.spec().node_name().empty()) {
      return ApiError::Conflict(*pods, name,
                                "pod " + std::string(name) + " is already assigned to node \"" +
                                    pod.spec().node_name() + "\"");
    }
    auto bound = std::make_unique<Pod>(pod);
    bound->mutable_spec()->set_node_name(std::string(node));
    SetScheduled(*bound, deps_.clock.WallNow());
    auto stored = TRY(Put(*pods, current->key, *bound, current->revision, {}, options));
    if (stored) return {};
  }
  return ApiError::Modified(*pods, name);
}

}  // namespace skiff::cp
