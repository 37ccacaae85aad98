// Call: one authenticated, authorised request to a resource, on its way through the verbs.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/async/executor.h"
#include "base/http/server.h"
#include "control-plane/api/auth/user.h"
#include "control-plane/api/node_tunnels.h"
#include "control-plane/api/registry/registry.h"
#include "control-plane/api/rest/negotiation.h"
#include "control-plane/api/rest/present.h"
#include "control-plane/api/rest/request_info.h"

namespace skiff::cp {

// What the verbs work with; outlives every call.
struct RestDeps {
  Registry& registry;
  const Kinds& kinds;
  Executor& workers;
  NodeTunnels* tunnels = nullptr;  // null: no node can be reached
  const Clock& clock;
};

struct Call {
  const RestDeps& deps;
  http::Request request;
  std::shared_ptr<http::ResponseWriter> writer;
  RequestInfo info;
  User user;
  const KindInfo* kind = nullptr;    // as asked for
  const KindInfo* stored = nullptr;  // where its objects live
  std::vector<std::string> warnings;

  // 400 for an unknown dryRun value.
  ApiResult<WriteOptions> Writing();
  ApiResult<View> Viewing() const;
};

// A whole answer; nothing when the call answers by itself (watches, streams).
using Answer = ApiResult<std::optional<http::Response>>;

// ---- the verbs ----
Answer GetObject(Call& call);
Answer ListOrWatch(Call& call);
Answer CreateObject(Call& call);
Answer UpdateObject(Call& call);  // and /status, namespaces/finalize
Answer PatchObject(Call& call);
Answer DeleteObject(Call& call);
Answer DeleteCollection(Call& call);
// Everything below an object but /status: scale, pods' and others' own. 404 when there is none.
Answer ServeSubresource(Call& call);

// ---- bodies ----
// The request's body as a message of the prototype's type, with its fields checked as the query's
// fieldValidation says.
ApiResult<MessagePtr> DecodeBody(Call& call, const Message& prototype);
ApiResult<DeletionOptions> ReadDeletionOptions(Call& call, bool* dry_run);
// The object as the client shows it, made the stored kind's.
MessagePtr ToStored(const Call& call, MessagePtr shown);
// metadata.name and namespace against the path: 400 when they contradict.
ApiResult<void> CheckNames(const Call& call, Message& object, bool creating);

// The patch in the request's body and the type it says it is.
struct PatchBody {
  enum class Type { kJson, kMerge, kStrategic };
  Type type = Type::kMerge;
  std::string json;
};
ApiResult<PatchBody> ReadPatch(const Call& call);
// The patched document as a message of the same type. kind and name for errors.
ApiResult<MessagePtr> ApplyPatch(Call& call, const PatchBody& patch, const Message& current);

}  // namespace skiff::cp
