// Everything below an object but /status: scale, binding, eviction, and the streams of pods.

#include <google/protobuf/message.h>

#include "control-plane/api/rest/call.h"
#include "control-plane/api/rest/pod_streams.h"
#include "control-plane/api/rest/scale.h"
#include "proto/codec/meta.h"
#include "proto/k8s/autoscaling/v1/autoscaling.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/core/v1/reference.pb.h"
#include "proto/k8s/meta/v1/options.pb.h"
#include "proto/k8s/meta/v1/status.pb.h"
#include "proto/k8s/policy/v1/policy.pb.h"

namespace skiff::cp {
namespace {

k8s::meta::v1::Status Success() {
  k8s::meta::v1::Status status;
  status.mutable_metadata();
  status.set_status("Success");
  status.set_code(201);
  return status;
}

Answer AnswerScale(const Call& call, const Message& object) {
  Accepted accepted = TRY(NegotiateAnswer(call.request, false));
  return std::optional(AnswerMessage(200, *ScaleOf(object), accepted.format));
}

Answer ServeScale(Call& call) {
  Registry& registry = call.deps.registry;
  if (call.info.verb == "get") {
    auto stored = TRY(registry.Get(*call.stored, call.info.ns, call.info.name));
    return AnswerScale(call, *stored->object);
  }
  WriteOptions options = TRY(call.Writing());
  Registry::Change change;
  std::shared_ptr<Message> sent;  // outlives the change
  PatchBody patch;
  if (call.info.verb == "update") {
    sent = TRY(DecodeBody(call, k8s::autoscaling::v1::Scale::default_instance()));
    TRY(CheckNames(call, *sent, false));
    change = [&](const Message& current) { return WithScale(*call.kind, current, *sent); };
  } else if (call.info.verb == "patch") {
    patch = TRY(ReadPatch(call));
    change = [&](const Message& current) -> ApiResult<MessagePtr> {
      auto patched = TRY(ApplyPatch(call, patch, *ScaleOf(current)));
      return WithScale(*call.kind, current, *patched);
    };
  } else {
    return ApiError::MethodNotAllowed();
  }
  auto updated = TRY(registry.Update(*call.stored, call.info.ns, call.info.name,
                                     Registry::Part::kMain, change, options));
  return AnswerScale(call, *updated.stored->object);
}

Answer ServeBinding(Call& call) {
  if (call.info.verb != "create") return ApiError::MethodNotAllowed();
  Accepted accepted = TRY(NegotiateAnswer(call.request, false));
  WriteOptions options = TRY(call.Writing());
  MessagePtr body = TRY(DecodeBody(call, k8s::core::v1::Binding::default_instance()));
  const auto& binding = static_cast<const k8s::core::v1::Binding&>(*body);
  TRY(call.deps.registry.Bind(call.info.ns, call.info.name, binding.metadata().uid(),
                              binding.target().name(), options));
  return std::optional(AnswerMessage(201, Success(), accepted.format));
}

Answer ServeEviction(Call& call) {
  if (call.info.verb != "create") return ApiError::MethodNotAllowed();
  Accepted accepted = TRY(NegotiateAnswer(call.request, false));
  WriteOptions options = TRY(call.Writing());
  MessagePtr body = TRY(DecodeBody(call, k8s::policy::v1::Eviction::default_instance()));
  const auto& wanted = static_cast<const k8s::policy::v1::Eviction&>(*body).delete_options();
  DeletionOptions deletion;
  if (wanted.has_grace_period_seconds()) {
    deletion.grace_period_seconds = wanted.grace_period_seconds();
  }
  deletion.uid = wanted.preconditions().uid();
  deletion.resource_version = wanted.preconditions().resource_version();
  deletion.propagation = wanted.propagation_policy();
  if (wanted.dry_run_size() != 0) options.dry_run = true;
  TRY(call.deps.registry.Delete(*call.stored, call.info.ns, call.info.name, deletion, options));
  return std::optional(AnswerMessage(201, Success(), accepted.format));
}

}  // namespace

Answer ServeSubresource(Call& call) {
  const std::string& subresource = call.info.subresource;
  const bool pods = call.kind->group.empty() && call.kind->plural == "pods";
  if (pods && IsPodStream(subresource)) {
    const bool reads = call.info.verb == "get";
    const bool writes = call.info.verb == "create" && subresource != "log";
    return reads || writes ? ServePodStream(call) : Answer(ApiError::MethodNotAllowed());
  }
  if (pods && subresource == "binding") return ServeBinding(call);
  if (pods && subresource == "eviction") return ServeEviction(call);
  if (call.kind->has_scale && subresource == "scale") return ServeScale(call);
  return ApiError::NoSuchPath();
}

}  // namespace skiff::cp
