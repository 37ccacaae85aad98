#include "control-plane/api/status.h"

#include "base/http/message.h"
#include "base/http/server.h"
#include "control-plane/api/kind.h"
#include "control-plane/api/node_tunnels.h"
#include "proto/codec/json.h"
#include "proto/k8s/meta/v1/status.pb.h"

namespace skiff::cp {
namespace {

ApiError Make(int code, std::string_view reason, std::string_view message) {
  ApiError error;
  error.http_code = code;
  error.reason = reason;
  error.message = message;
  return error;
}

ApiError About(const KindInfo& kind, std::string_view name, int code, std::string_view reason,
               std::string_view what) {
  std::string message = kind.QualifiedPlural();
  if (!name.empty()) message.append(" \"").append(name).append("\"");
  ApiError error = Make(code, reason, message.append(what));
  error.name = name;
  error.group = kind.group;
  error.kind = kind.plural;
  return error;
}

Code CodeOf(const ApiError& error) {
  switch (error.http_code) {
    case 401: return Code::kUnauthenticated;
    case 403: return Code::kPermissionDenied;
    case 404: return Code::kNotFound;
    case 409: return error.reason == "AlreadyExists" ? Code::kAlreadyExists : Code::kConflict;
    case 410: return Code::kExpired;
    case 429: return Code::kResourceExhausted;
    case 503: return Code::kUnavailable;
    case 504: return Code::kDeadlineExceeded;
    case 500: return Code::kInternal;
    default: return Code::kInvalidArgument;
  }
}

}  // namespace

ApiError ApiError::BadRequest(std::string_view message) { return Make(400, "BadRequest", message); }

ApiError ApiError::Unauthorized() { return Make(401, "Unauthorized", "Unauthorized"); }

ApiError ApiError::Forbidden(const KindInfo& kind, std::string_view name, std::string_view why) {
  return About(kind, name, 403, "Forbidden", " is forbidden: " + std::string(why));
}

ApiError ApiError::NotFound(const KindInfo& kind, std::string_view name) {
  return About(kind, name, 404, "NotFound", " not found");
}

ApiError ApiError::NoSuchPath() {
  return Make(404, "NotFound", "the server could not find the requested resource");
}

ApiError ApiError::MethodNotAllowed() {
  return Make(405, "MethodNotAllowed",
              "the server does not allow this method on the requested resource");
}

ApiError ApiError::NotAcceptable(std::string_view accepted) {
  return Make(406, "NotAcceptable",
              "only the following media types are accepted: " + std::string(accepted));
}

ApiError ApiError::AlreadyExists(const KindInfo& kind, std::string_view name) {
  return About(kind, name, 409, "AlreadyExists", " already exists");
}

ApiError ApiError::Conflict(const KindInfo& kind, std::string_view name, std::string_view why) {
  ApiError error = About(kind, name, 409, "Conflict", ": " + std::string(why));
  error.message.insert(0, "Operation cannot be fulfilled on ");
  return error;
}

ApiError ApiError::Modified(const KindInfo& kind, std::string_view name) {
  return Conflict(kind, name,
                  "the object has been modified; please apply your changes to the latest version "
                  "and try again");
}

ApiError ApiError::Expired(std::string_view message) { return Make(410, "Expired", message); }

ApiError ApiError::TooLarge(std::string_view detail) {
  return Make(413, "RequestEntityTooLarge", "Request entity too large: " + std::string(detail));
}

ApiError ApiError::UnsupportedMediaType(std::string_view message) {
  return Make(415, "UnsupportedMediaType", message);
}

ApiError ApiError::Invalid(const KindInfo& kind, std::string_view name, const FieldErrors& errors) {
  std::string message = kind.group.empty() ? kind.kind : kind.kind + "." + kind.group;
  message.append(" \"").append(name).append("\" is invalid");
  if (!errors.empty()) message.append(": ").append(errors.ToString());
  ApiError error = Make(422, "Invalid", message);
  error.name = name;
  error.group = kind.group;
  error.kind = kind.kind;
  for (const auto& found : errors.errors()) {
    error.causes.push_back({found.reason, found.message, found.field});
  }
  return error;
}

ApiError ApiError::TooManyRequests(std::string_view message, int retry_after_seconds) {
  ApiError error = Make(429, "TooManyRequests", message);
  error.retry_after_seconds = retry_after_seconds;
  return error;
}

ApiError ApiError::Internal(std::string_view message) {
  ApiError error = Make(500, "InternalError", "Internal error occurred: " + std::string(message));
  error.causes.push_back({"", std::string(message), ""});
  return error;
}

ApiError ApiError::Unavailable(std::string_view message) {
  return Make(503, "ServiceUnavailable", message);
}

ApiError ApiError::Timeout(std::string_view message, int retry_after_seconds) {
  ApiError error = Make(504, "Timeout", "Timeout: " + std::string(message));
  error.retry_after_seconds = retry_after_seconds;
  return error;
}

ApiError ApiError::RevisionTooLarge(int64_t wanted, int64_t current) {
  ApiError error = Timeout("Too large resource version: " + std::to_string(wanted) +
                               ", current: " + std::to_string(current),
                           1);
  error.causes.push_back({"ResourceVersionTooLarge", "Too large resource version", ""});
  return error;
}

ApiError ApiError::From(const Error& error) {
  switch (error.code()) {
    case Code::kInvalidArgument: return BadRequest(error.message());
    case Code::kExpired: return Expired(error.message());
    case Code::kResourceExhausted: return TooManyRequests(error.message(), 1);
    case Code::kUnavailable:
    case Code::kCancelled: return Unavailable(error.message());
    case Code::kDeadlineExceeded: return Timeout(error.message(), 1);
    default: return Internal(error.message());
  }
}

Error ApiError::ToError() const { return {CodeOf(*this), message}; }

k8s::meta::v1::Status ApiError::ToStatus() const {
  k8s::meta::v1::Status status;
  status.mutable_metadata();
  status.set_status("Failure");
  status.set_message(message);
  status.set_reason(reason);
  status.set_code(http_code);
  if (!name.empty() || !kind.empty() || !causes.empty() || retry_after_seconds != 0) {
    auto* details = status.mutable_details();
    if (!name.empty()) details->set_name(name);
    if (!group.empty()) details->set_group(group);
    if (!kind.empty()) details->set_kind(kind);
    if (!uid.empty()) details->set_uid(uid);
    for (const auto& cause : causes) {
      auto* added = details->add_causes();
      if (!cause.reason.empty()) added->set_reason(cause.reason);
      if (!cause.message.empty()) added->set_message(cause.message);
      if (!cause.field.empty()) added->set_field(cause.field);
    }
    if (retry_after_seconds != 0) details->set_retry_after_seconds(retry_after_seconds);
  }
  return status;
}

http::Response StatusResponse(int http_code, std::string_view reason, std::string_view message) {
  http::Response response;
  response.status = http_code;
  response.headers.Set("Content-Type", "application/json");
  response.body = codec::EncodeJson(Make(http_code, reason, message).ToStatus());
  return response;
}

}  // namespace skiff::cp
