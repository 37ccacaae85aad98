// The verbs on objects and collections.

#include <google/protobuf/message.h>

#include "control-plane/api/rest/call.h"
#include "control-plane/api/rest/list.h"
#include "control-plane/api/rest/watch.h"
#include "proto/codec/json.h"
#include "proto/codec/meta.h"
#include "proto/k8s/core/v1/namespace.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"
#include "proto/k8s/meta/v1/status.pb.h"

namespace skiff::cp {
namespace {

// Where the object is: cluster-scoped kinds have no namespace (the path of a namespace shows its
// own name as one).
std::string_view NamespaceOf(const Call& call) {
  return call.kind->namespaced ? std::string_view(call.info.ns) : std::string_view();
}

Answer Shown(const Call& call, int status, const StoredPtr& stored) {
  View view = TRY(call.Viewing());
  return std::optional(AnswerObject(status, view, *Show(*call.kind, stored->object)));
}

Registry::Part PartOf(const Call& call) {
  if (call.info.subresource == "status") return Registry::Part::kStatus;
  if (call.info.subresource == "finalize") return Registry::Part::kFinalize;
  return Registry::Part::kMain;
}

// namespaces/finalize changes spec.finalizers and nothing else.
MessagePtr OnlyFinalizers(const Message& sent, const Message& current) {
  using k8s::core::v1::Namespace;
  auto next = std::make_unique<Namespace>(static_cast<const Namespace&>(current));
  *next->mutable_spec() = static_cast<const Namespace&>(sent).spec();
  next->mutable_metadata()->set_resource_version(codec::MetaOf(sent).resource_version());
  return next;
}

k8s::meta::v1::Status DeletedStatus(const Call& call, const Message& object) {
  k8s::meta::v1::Status status;
  status.mutable_metadata();
  status.set_status("Success");
  auto* details = status.mutable_details();
  details->set_name(call.info.name);
  if (!call.kind->group.empty()) details->set_group(call.kind->group);
  details->set_kind(call.kind->plural);
  details->set_uid(codec::MetaOf(object).uid());
  return status;
}

// Kinds whose deletion answers with the object, as upstream's storage has it.
bool ReturnsDeletedObject(const KindInfo& kind) {
  return kind.group.empty() &&
         (kind.plural == "pods" || kind.plural == "services" || kind.plural == "serviceaccounts" ||
          kind.plural == "replicationcontrollers" || kind.plural == "persistentvolumeclaims");
}

}  // namespace

Answer GetObject(Call& call) {
  TRY(call.Viewing());  // 406 before anything else
  return Shown(call, 200,
               TRY(call.deps.registry.Get(*call.stored, NamespaceOf(call), call.info.name)));
}

Answer ListOrWatch(Call& call) {
  const bool watch = call.info.verb == "watch";
  View view = TRY(call.Viewing());
  auto parameters = TRY(ListParameters::Parse(*call.kind, call.request.query, watch));
  if (!call.info.name.empty()) {  // a watch of one object, by its path
    parameters.filter = TRY(ObjectFilter::Make(*call.kind, "", "metadata.name=" + call.info.name));
  }
  std::string ns(NamespaceOf(call));
  if (watch) {
    WatchStart start{call.deps.registry, call.deps.workers, std::move(view),
                     call.stored,        std::move(ns),     std::move(parameters)};
    TRY(StartWatch(std::move(start), std::move(call.writer)));
    return std::optional<http::Response>();
  }
  auto page = TRY(ListObjects(call.deps.registry, *call.kind, *call.stored, ns, parameters));
  return std::optional(AnswerList(view, page.objects, page.meta));
}

Answer CreateObject(Call& call) {
  TRY(call.Viewing());
  WriteOptions options = TRY(call.Writing());
  MessagePtr object = TRY(DecodeBody(call, *call.kind->prototype));
  TRY(CheckNames(call, *object, true));
  return Shown(
      call, 201,
      TRY(call.deps.registry.Create(*call.stored, ToStored(call, std::move(object)), options)));
}

Answer UpdateObject(Call& call) {
  TRY(call.Viewing());
  WriteOptions options = TRY(call.Writing());
  MessagePtr shown = TRY(DecodeBody(call, *call.kind->prototype));
  TRY(CheckNames(call, *shown, false));
  const MessagePtr sent = ToStored(call, std::move(shown));
  const Registry::Part part = PartOf(call);
  auto copy = [&sent] {
    MessagePtr next(sent->New());
    next->CopyFrom(*sent);
    return next;
  };
  auto change = [&](const Message& current) -> ApiResult<MessagePtr> {
    if (part == Registry::Part::kFinalize) return OnlyFinalizers(*sent, current);
    return copy();
  };
  std::function<MessagePtr()> create_missing;
  if (part == Registry::Part::kMain && call.kind->allow_create_on_update) create_missing = copy;
  auto updated = TRY(call.deps.registry.Update(*call.stored, NamespaceOf(call), call.info.name,
                                               part, change, options, create_missing));
  return Shown(call, updated.created ? 201 : 200, updated.stored);
}

Answer PatchObject(Call& call) {
  TRY(call.Viewing());
  WriteOptions options = TRY(call.Writing());
  PatchBody patch = TRY(ReadPatch(call));
  auto change = [&](const Message& current) -> ApiResult<MessagePtr> {
    if (!call.kind->view) return ApplyPatch(call, patch, current);
    MessagePtr shown(call.kind->prototype->New());
    call.kind->view->from_stored(current, *shown);
    return ToStored(call, TRY(ApplyPatch(call, patch, *shown)));
  };
  auto updated = TRY(call.deps.registry.Update(*call.stored, NamespaceOf(call), call.info.name,
                                               PartOf(call), change, options));
  return Shown(call, 200, updated.stored);
}

Answer DeleteObject(Call& call) {
  View view = TRY(call.Viewing());
  WriteOptions options = TRY(call.Writing());
  auto deletion = TRY(ReadDeletionOptions(call, &options.dry_run));
  auto deleted = TRY(call.deps.registry.Delete(*call.stored, NamespaceOf(call), call.info.name,
                                               deletion, options));
  if (deleted.gone && !ReturnsDeletedObject(*call.kind)) {
    return std::optional(
        AnswerMessage(200, DeletedStatus(call, *deleted.stored->object), view.accepted.format));
  }
  return Shown(call, 200, deleted.stored);
}

Answer DeleteCollection(Call& call) {
  View view = TRY(call.Viewing());
  WriteOptions options = TRY(call.Writing());
  auto deletion = TRY(ReadDeletionOptions(call, &options.dry_run));
  auto parameters = TRY(ListParameters::Parse(*call.kind, call.request.query, false));
  auto page =
      TRY(ListObjects(call.deps.registry, *call.kind, *call.stored, NamespaceOf(call), parameters));
  for (const auto& object : page.objects) {
    const auto& meta = codec::MetaOf(*object);
    auto deleted =
        call.deps.registry.Delete(*call.stored, meta.namespace_(), meta.name(), deletion, options);
    // Somebody else was faster: that is what was wanted.
    if (!deleted.ok() && deleted.error().http_code != 404) return std::move(deleted).error();
  }
  return std::optional(AnswerList(view, page.objects, page.meta));
}

}  // namespace skiff::cp
