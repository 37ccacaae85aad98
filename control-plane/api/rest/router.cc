#include "control-plane/api/rest/router.h"

#include <unistd.h>

#include <utility>

#include "base/log.h"
#include "control-plane/api/auth/access_review.h"
#include "control-plane/api/discovery/discovery.h"

namespace skiff::cp {
namespace {

constexpr const char* kKubernetesVersion = "v1.36.0";
constexpr const char* kMajor = "1";
constexpr const char* kMinor = "36";

// Errors in the form the client reads; JSON where it wants what we do not have.
Format ErrorFormat(const http::Request& request) {
  auto accepted = NegotiateAnswer(request, true);
  return accepted.ok() ? accepted->format : Format::kJson;
}

// RFC 9110's Warning header as upstream writes it: 299 - "text".
void AddWarnings(const std::vector<std::string>& warnings, http::Response& response) {
  for (const auto& warning : warnings) {
    std::string text = "299 - \"";
    for (char c : warning) {
      if (c == '"' || c == '\\') text += '\\';
      text += c;
    }
    response.headers.Add("Warning", text + "\"");
  }
}

bool IsLongRunning(const RequestInfo& info) {
  return info.verb == "watch" || info.subresource == "log" || info.subresource == "exec" ||
         info.subresource == "attach" || info.subresource == "portforward";
}

class InflightSlot {
 public:
  InflightSlot(std::atomic<int>& inflight, int max)
      : inflight_(inflight), granted_(++inflight <= max) {}
  ~InflightSlot() { --inflight_; }
  bool granted() const { return granted_; }

 private:
  std::atomic<int>& inflight_;
  const bool granted_;
};

}  // namespace

void Router::Handle(http::Request request, std::shared_ptr<http::ResponseWriter> writer) {
  const auto started = deps_.clock.Now();
  const Format error_format = ErrorFormat(request);
  Call call{deps_, std::move(request), std::move(writer), {}, {}, nullptr, nullptr, {}};
  call.info = ParseRequestInfo(call.request);
  Answer answer = Serve(call);
  int code = 200;  // of streams
  if (!answer.ok()) {
    answer = Answer(std::optional(AnswerError(answer.error(), error_format)));
  }
  if (answer->has_value()) {
    http::Response& response = **answer;
    AddWarnings(call.warnings, response);
    code = response.status;
    // The writer is gone only when the call has begun to stream, and then there is no answer here.
    CHECK(call.writer != nullptr);
    call.writer->Send(std::move(response));
  }
  const auto took = deps_.clock.Now() - started;
  // Only names of ours become label values.
  metrics_.Count(call.info.verb, call.kind != nullptr ? call.kind->plural : "", code, took);
  log::Debug("request", {{"verb", call.info.verb},
                         {"path", call.info.path},
                         {"user", call.user.name},
                         {"code", code}});
}

Answer Router::Serve(Call& call) {
  InflightSlot slot(inflight_, IsLongRunning(call.info) ? INT32_MAX : options_.max_inflight);
  if (!slot.granted()) {
    return ApiError::TooManyRequests(
        "The server has received too many requests and has asked us to try again later", 1);
  }
  call.user = TRY(Authenticate(call.request));
  TRY(Authorize(call.user, call.info));
  if (!call.info.is_resource) return ServePath(call);
  return ServeResource(call);
}

Answer Router::ServeResource(Call& call) {
  const RequestInfo& info = call.info;
  if (info.resource.empty()) {
    auto response = ServeDiscovery(deps_.kinds, call.request, options_.server_address);
    if (!response.ok()) return std::move(response).error();
    return std::optional(std::move(response).value());
  }
  call.kind = deps_.kinds.FindResource(info.group, info.version, info.resource);
  if (call.kind == nullptr) return ApiError::NoSuchPath();
  const bool is_namespace = info.resource == "namespaces" && info.group.empty();
  if (!call.kind->namespaced && !info.ns.empty() && !is_namespace) return ApiError::NoSuchPath();
  if (call.kind->namespaced && info.ns.empty()) {
    if (!info.name.empty()) return ApiError::NoSuchPath();
    // Across namespaces there is only reading (and reviews, which have none).
    if (info.verb != "list" && info.verb != "watch") return ApiError::MethodNotAllowed();
  }
  if (!call.kind->stored) return ServeAccessReview(call);
  call.stored = &StoredKind(deps_.kinds, *call.kind);
  if (!info.subresource.empty()) {
    const bool status = info.subresource == "status" && call.kind->has_status;
    const bool finalize = info.subresource == "finalize" && is_namespace;
    if (!status && !finalize) return ServeSubresource(call);
    if (info.verb == "get" && status) return GetObject(call);
    if (info.verb == "update") return UpdateObject(call);
    if (info.verb == "patch" && status) return PatchObject(call);
    return ApiError::MethodNotAllowed();
  }
  if (info.verb == "get") return GetObject(call);
  if (info.verb == "list" || info.verb == "watch") return ListOrWatch(call);
  if (info.verb == "create" && info.name.empty()) return CreateObject(call);
  if (info.verb == "update" && !info.name.empty()) return UpdateObject(call);
  if (info.verb == "patch" && !info.name.empty()) return PatchObject(call);
  if (info.verb == "delete") return DeleteObject(call);
  if (info.verb == "deletecollection") return DeleteCollection(call);
  return ApiError::MethodNotAllowed();
}

Answer Router::ServePath(Call& call) {
  const http::Request& request = call.request;
  if (request.method != "GET" && request.method != "HEAD") return ApiError::MethodNotAllowed();
  std::string_view path = request.path;
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  auto under = [&](std::string_view root) {
    return path.starts_with(root) && (path.size() == root.size() || path[root.size()] == '/');
  };
  if (under("/healthz") || under("/livez") || under("/readyz")) {
    return std::optional(ServeHealth(request));
  }
  if (path == "/version") return std::optional(ServeVersion());
  if (path == "/metrics") return std::optional(ServeMetrics());
  if (under("/api") || under("/apis")) {
    auto response = ServeDiscovery(deps_.kinds, request, options_.server_address);
    if (!response.ok()) return std::move(response).error();
    return std::optional(std::move(response).value());
  }
  if (under("/openapi") && options_.openapi) {
    if (auto response = options_.openapi(request)) return response;
  }
  return std::optional(http::Response::Text(404, "404 page not found\n"));
}

http::Response Router::ServeHealth(const http::Request& request) const {
  struct Check {
    const char* name;
    bool ok;
  };
  const bool ready_wanted = request.path.starts_with("/readyz");
  const Check checks[] = {
      {"ping", true},
      {"store", deps_.registry.deps().store.CurrentRevision() > 0},
      {"watch-cache", deps_.registry.deps().cache.revision() > 0},
      {"shutdown", !(ready_wanted && shutting_down_)},
  };
  std::string text;
  bool ok = true;
  for (const Check& check : checks) {
    ok = ok && check.ok;
    text += std::string(check.ok ? "[+]" : "[-]") + check.name + (check.ok ? " ok\n" : " failed\n");
  }
  std::string_view name = std::string_view(request.path).substr(1);
  name = name.substr(0, name.find('/'));
  text += std::string(name) + (ok ? " check passed\n" : " check failed\n");
  if (ok && !request.query.Flag("verbose")) text = "ok";
  http::Response response = http::Response::Text(ok ? 200 : 500, text);
  response.headers.Set("Cache-Control", "no-cache, private");
  return response;
}

http::Response Router::ServeVersion() const {
  http::Response response;
  response.headers.Set("Content-Type", "application/json");
  response.body =
      std::string("{\n  \"major\": \"") + kMajor + "\",\n  \"minor\": \"" + kMinor +
      "\",\n  \"gitVersion\": \"" + kKubernetesVersion + "+skiff." + options_.skiff_version +
      "\",\n  \"gitCommit\": \"\",\n  \"gitTreeState\": \"\",\n  \"buildDate\": \"\",\n"
      "  \"goVersion\": \"\",\n  \"compiler\": \"c++\",\n  \"platform\": \"linux/amd64\""
      "\n}\n";
  return response;
}

http::Response Router::ServeMetrics() const {
  std::string text = metrics_.Render();
  text +=
      "# HELP apiserver_storage_objects Objects stored, by resource.\n"
      "# TYPE apiserver_storage_objects gauge\n";
  std::string watches =
      "# HELP apiserver_longrunning_requests Watches running, by resource.\n"
      "# TYPE apiserver_longrunning_requests gauge\n";
  for (const auto& count : deps_.registry.deps().cache.Count()) {
    text += "apiserver_storage_objects{resource=\"" + count.resource + "\"} " +
            std::to_string(count.objects) + "\n";
    watches += "apiserver_longrunning_requests{verb=\"WATCH\",resource=\"" + count.resource +
               "\"} " + std::to_string(count.listeners) + "\n";
  }
  text += watches;
  text +=
      "# HELP apiserver_current_inflight_requests Requests being answered.\n"
      "# TYPE apiserver_current_inflight_requests gauge\n"
      "apiserver_current_inflight_requests " +
      std::to_string(inflight_) + "\n";
  text +=
      "# HELP skiff_store_revision The revision of the last change.\n"
      "# TYPE skiff_store_revision gauge\n"
      "skiff_store_revision " +
      std::to_string(deps_.registry.deps().store.CurrentRevision()) + "\n";
  http::Response response;
  response.headers.Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8");
  response.body = std::move(text);
  return response;
}

}  // namespace skiff::cp
