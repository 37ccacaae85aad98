// What clients send: objects, options and patches.

#include <google/protobuf/message.h>

#include <charconv>

#include "control-plane/api/rest/call.h"
#include "proto/codec/json.h"
#include "proto/codec/meta.h"
#include "proto/codec/patch.h"
#include "proto/codec/wire.h"
#include "proto/codec/yaml.h"
#include "proto/k8s/meta/v1/object.pb.h"
#include "proto/k8s/meta/v1/options.pb.h"

namespace skiff::cp {
namespace {

using codec::FieldValidation;
namespace meta = k8s::meta::v1;

ApiResult<FieldValidation> ValidationOf(const http::Query& query) {
  std::string_view text = query.Value("fieldValidation");
  if (text.empty() || text == "Warn") return FieldValidation::kWarn;
  if (text == "Strict") return FieldValidation::kStrict;
  if (text == "Ignore") return FieldValidation::kIgnore;
  return ApiError::BadRequest("invalid fieldValidation \"" + std::string(text) +
                              "\": want Ignore, Warn or Strict");
}

ApiError Undecodable(const codec::GroupVersionKind& want, const Error& error) {
  if (error.code() == Code::kResourceExhausted) return ApiError::TooLarge(error.message());
  return ApiError::BadRequest(want.kind + " in version \"" + want.version +
                              "\" cannot be handled as a " + want.kind + ": " + error.message());
}

ApiError Unrecognized(const codec::GroupVersionKind& want, std::string_view why) {
  return ApiError::BadRequest("the object provided is unrecognized (must be of type " + want.kind +
                              "): " + std::string(why));
}

// The body says which kind it is, or leaves it to the path.
ApiResult<void> CheckType(const codec::GroupVersionKind& want, std::string_view api_version,
                          std::string_view kind) {
  if (!api_version.empty() && api_version != want.ApiVersion()) {
    return ApiError::BadRequest("the API version in the data (" + std::string(api_version) +
                                ") does not match the expected API version (" + want.ApiVersion() +
                                ")");
  }
  if (!kind.empty() && kind != want.kind) {
    return Unrecognized(want, "the kind in the data is " + std::string(kind));
  }
  return {};
}

ApiResult<void> DecodeProtobuf(const std::string& body, const codec::GroupVersionKind& want,
                               Message* message) {
  auto envelope = codec::OpenWireEnvelope(body);
  if (!envelope.ok()) return Unrecognized(want, envelope.error().message());
  TRY(CheckType(want, envelope->api_version, envelope->kind));
  auto decoded = codec::DecodeWire(body, message);
  if (!decoded.ok()) return Undecodable(want, decoded.error());
  return {};
}

// JSON text of the request's body.
ApiResult<std::string> BodyAsJson(const Call& call, Format format,
                                  const codec::GroupVersionKind& want) {
  if (format != Format::kYaml) return call.request.body;
  auto json = codec::YamlToJson(call.request.body);
  if (!json.ok()) {
    if (json.error().code() == Code::kResourceExhausted) {
      return ApiError::TooLarge(json.error().message());
    }
    return Unrecognized(want, json.error().message());
  }
  return std::move(json).value();
}

ApiResult<std::optional<int64_t>> IntegerParameter(const http::Query& query,
                                                   std::string_view name) {
  auto text = query.Get(name);
  if (!text || text->empty()) return std::optional<int64_t>();
  int64_t value = 0;
  auto [end, status] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (status != std::errc() || end != text->data() + text->size()) {
    return ApiError::BadRequest("invalid " + std::string(name) + ": " + std::string(*text));
  }
  return std::optional(value);
}

ApiError InvalidDeleteOptions(const FieldErrors& errors) {
  KindInfo kind;
  kind.group = "meta.k8s.io";
  kind.kind = "DeleteOptions";
  return ApiError::Invalid(kind, "", errors);
}

ApiResult<std::string> PropagationOf(const meta::DeleteOptions& options) {
  FieldErrors errors;
  const FieldPath path("propagationPolicy");
  const std::string& policy = options.propagation_policy();
  if (options.has_orphan_dependents() && options.has_propagation_policy()) {
    errors.Invalid(path, policy, "orphanDependents and deletionPropagation cannot be both set");
  } else if (!policy.empty() && policy != "Background" && policy != "Foreground" &&
             policy != "Orphan") {
    errors.NotSupported(path, policy, {"Foreground", "Background", "Orphan", "nil"});
  }
  if (!errors.empty()) return InvalidDeleteOptions(errors);
  if (options.has_orphan_dependents()) {
    return std::string(options.orphan_dependents() ? "Orphan" : "Background");
  }
  return policy;
}

ApiResult<bool> DryRun(const std::vector<std::string_view>& values) {
  FieldErrors errors;
  for (std::string_view value : values) {
    if (value != "All") errors.NotSupported(FieldPath("dryRun"), value, {"All"});
  }
  if (errors.empty()) return !values.empty();
  KindInfo kind;
  kind.group = "meta.k8s.io";
  kind.kind = "UpdateOptions";
  return ApiError::Invalid(kind, "", errors);
}

}  // namespace

ApiResult<WriteOptions> Call::Writing() {
  WriteOptions options;
  options.dry_run = TRY(DryRun(request.query.GetAll("dryRun")));
  options.warnings = &warnings;
  return options;
}

ApiResult<View> Call::Viewing() const {
  View view;
  view.kind = kind;
  view.accepted = TRY(NegotiateAnswer(request, true));
  view.now = deps.clock.WallNow();
  if (std::string_view include = request.query.Value("includeObject"); !include.empty()) {
    if (include != "None" && include != "Metadata" && include != "Object") {
      return ApiError::BadRequest("unrecognized includeObject value: \"" + std::string(include) +
                                  "\"");
    }
    view.include_object = include;
  }
  return view;
}

ApiResult<MessagePtr> DecodeBody(Call& call, const Message& prototype) {
  const codec::GroupVersionKind* want = codec::GvkOf(prototype);
  CHECK(want != nullptr);
  Format format = TRY(BodyFormat(call.request));
  MessagePtr message(prototype.New());
  if (format == Format::kProtobuf || codec::IsWireEnvelope(call.request.body)) {
    TRY(DecodeProtobuf(call.request.body, *want, message.get()));
    return message;
  }
  std::string json = TRY(BodyAsJson(call, format, *want));
  auto type = codec::PeekType(json);
  if (!type.ok()) {
    return Unrecognized(*want, type.error().message());
  }
  TRY(CheckType(*want, type->api_version, type->kind));
  codec::DecodeOptions options;
  options.field_validation = TRY(ValidationOf(call.request.query));
  // YAML may have grown through aliases; the converter has bounded that.
  options.max_bytes = std::max(options.max_bytes, json.size());
  auto decoded = codec::DecodeJson(json, options, message.get(), &call.warnings);
  if (!decoded.ok()) return Undecodable(*want, decoded.error());
  return message;
}

MessagePtr ToStored(const Call& call, MessagePtr shown) {
  if (!call.kind->view) return shown;
  MessagePtr stored(call.stored->prototype->New());
  call.kind->view->to_stored(*shown, *stored);
  return stored;
}

ApiResult<void> CheckNames(const Call& call, Message& object, bool creating) {
  auto* meta = codec::MutableMetaOf(&object);
  if (call.kind->namespaced) {
    if (meta->namespace_().empty()) meta->set_namespace_(call.info.ns);
    if (meta->namespace_() != call.info.ns) {
      return ApiError::BadRequest(
          "the namespace of the provided object does not match the namespace sent on the request");
    }
  }
  if (creating) return {};
  if (meta->name().empty()) meta->set_name(call.info.name);
  if (meta->name() != call.info.name) {
    return ApiError::BadRequest("the name of the object (" + meta->name() +
                                ") does not match the name on the URL (" + call.info.name + ")");
  }
  return {};
}

ApiResult<DeletionOptions> ReadDeletionOptions(Call& call, bool* dry_run) {
  const http::Query& query = call.request.query;
  meta::DeleteOptions options;
  if (!call.request.body.empty()) {
    Format format = TRY(BodyFormat(call.request));
    // Clients name the resource's own group version here; only the fields matter.
    if (format == Format::kProtobuf) {
      auto decoded = codec::DecodeWire(call.request.body, &options);
      if (!decoded.ok()) return decoded.error();
    } else {
      std::string json =
          TRY(BodyAsJson(call, format, *codec::GvkOf(meta::DeleteOptions::default_instance())));
      auto decoded = codec::DecodeJson(json, {}, &options);
      if (!decoded.ok()) return decoded.error();
    }
  } else {
    auto grace = TRY(IntegerParameter(query, "gracePeriodSeconds"));
    if (grace) options.set_grace_period_seconds(*grace);
    if (auto policy = query.Get("propagationPolicy")) {
      options.set_propagation_policy(std::string(*policy));
    }
    if (query.Get("orphanDependents")) {
      options.set_orphan_dependents(query.Flag("orphanDependents"));
    }
  }
  std::vector<std::string_view> dry_runs = query.GetAll("dryRun");
  dry_runs.insert(dry_runs.end(), options.dry_run().begin(), options.dry_run().end());
  *dry_run = TRY(DryRun(dry_runs));
  DeletionOptions deletion;
  if (options.has_grace_period_seconds()) {
    deletion.grace_period_seconds = options.grace_period_seconds();
  }
  deletion.uid = options.preconditions().uid();
  deletion.resource_version = options.preconditions().resource_version();
  deletion.propagation = TRY(PropagationOf(options));
  return deletion;
}

ApiResult<PatchBody> ReadPatch(const Call& call) {
  std::string_view header = call.request.headers.Get("Content-Type");
  std::string_view type = header.substr(0, header.find(';'));
  while (type.ends_with(' ')) type.remove_suffix(1);
  PatchBody patch;
  patch.json = call.request.body;
  if (type == "application/json-patch+json") {
    patch.type = PatchBody::Type::kJson;
  } else if (type == "application/merge-patch+json") {
    patch.type = PatchBody::Type::kMerge;
  } else if (type == "application/strategic-merge-patch+json") {
    patch.type = PatchBody::Type::kStrategic;
  } else if (type == "application/apply-patch+yaml") {
    return ApiError::UnsupportedMediaType(
        "server-side apply (application/apply-patch+yaml) is not supported by this server yet; use "
        "client-side apply");
  } else {
    return ApiError::UnsupportedMediaType(
        "the body of the request was in an unknown format - accepted media types include: "
        "application/json-patch+json, application/merge-patch+json, "
        "application/strategic-merge-patch+json");
  }
  return patch;
}

ApiResult<MessagePtr> ApplyPatch(Call& call, const PatchBody& patch, const Message& current) {
  std::string document = codec::EncodeJson(current);
  auto patched = [&]() -> Result<std::string> {
    switch (patch.type) {
      case PatchBody::Type::kJson: return codec::ApplyJsonPatch(document, patch.json);
      case PatchBody::Type::kMerge: return codec::ApplyMergePatch(document, patch.json);
      case PatchBody::Type::kStrategic: break;
    }
    return codec::ApplyStrategicMergePatch(document, patch.json, *current.GetDescriptor());
  }();
  if (!patched.ok()) {
    switch (patched.error().code()) {
      case Code::kResourceExhausted: return ApiError::TooLarge(patched.error().message());
      case Code::kFailedPrecondition: {
        ApiError error = ApiError::BadRequest(patched.error().message());
        error.http_code = 422;
        error.reason = "Invalid";
        return error;
      }
      default: return ApiError::BadRequest(patched.error().message());
    }
  }
  codec::DecodeOptions options;
  options.field_validation = TRY(ValidationOf(call.request.query));
  options.max_bytes = std::max(options.max_bytes, patched->size());
  MessagePtr next(current.New());
  std::vector<std::string> warnings;
  auto decoded = codec::DecodeJson(*patched, options, next.get(), &warnings);
  if (!decoded.ok()) {
    const auto& message = decoded.error().message();
    if (message.starts_with("strict decoding error")) {
      return Undecodable(*codec::GvkOf(current), decoded.error());
    }
    FieldErrors errors;
    errors.Invalid(FieldPath("patch"), patch.json, message);
    return ApiError::Invalid(*call.kind, call.info.name, errors);
  }
  call.warnings = std::move(warnings);  // of this attempt, should there have been others
  return next;
}

}  // namespace skiff::cp
