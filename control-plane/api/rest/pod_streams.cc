// pods/log, exec, attach and portforward: checked here, served by the node (NodeTunnels).

#include "control-plane/api/rest/pod_streams.h"

#include <charconv>

#include "base/clock.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::Pod;

constexpr const char* kDefaultContainer = "kubectl.kubernetes.io/default-container";

std::vector<std::string> ContainerNames(const Pod& pod) {
  std::vector<std::string> names;
  for (const auto& container : pod.spec().containers()) names.push_back(container.name());
  return names;
}

bool HasContainer(const Pod& pod, const std::string& name) {
  auto in = [&](const auto& containers) {
    for (const auto& container : containers) {
      if (container.name() == name) return true;
    }
    return false;
  };
  if (in(pod.spec().containers()) || in(pod.spec().init_containers())) return true;
  for (const auto& ephemeral : pod.spec().ephemeral_containers()) {
    if (ephemeral.ephemeral_container_common().name() == name) return true;
  }
  return false;
}

std::string Joined(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : " ") + name;
  return text;
}

// The container named, or the only one, or the default one.
ApiResult<std::string> ChooseContainer(const Pod& pod, std::string_view wanted) {
  std::string name(wanted);
  if (name.empty()) {
    auto names = ContainerNames(pod);
    auto chosen = pod.metadata().annotations().find(kDefaultContainer);
    if (names.size() == 1) {
      name = names.front();
    } else if (chosen != pod.metadata().annotations().end()) {
      name = chosen->second;
    } else {
      return ApiError::BadRequest("a container name must be specified for pod " +
                                  pod.metadata().name() + ", choose one of: [" + Joined(names) +
                                  "]");
    }
  }
  if (!HasContainer(pod, name)) {
    return ApiError::BadRequest("container " + name + " is not valid for pod " +
                                pod.metadata().name());
  }
  return name;
}

ApiResult<TunnelTarget> Target(const Pod& pod) {
  if (pod.spec().node_name().empty()) {
    return ApiError::BadRequest("pod " + pod.metadata().name() + " does not have a host assigned");
  }
  TunnelTarget target;
  target.node = pod.spec().node_name();
  target.ns = pod.metadata().namespace_();
  target.pod = pod.metadata().name();
  target.pod_uid = pod.metadata().uid();
  return target;
}

ApiResult<std::optional<int64_t>> Count(const http::Query& query, const char* name, int64_t least,
                                        FieldErrors& errors) {
  auto text = query.Get(name);
  if (!text || text->empty()) return std::optional<int64_t>();
  int64_t value = 0;
  auto [end, status] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (status != std::errc() || end != text->data() + text->size()) {
    return ApiError::BadRequest("invalid " + std::string(name) + ": " + std::string(*text));
  }
  if (value < least) {
    errors.Invalid(FieldPath(name), value,
                   "must be greater than or equal to " + std::to_string(least));
  }
  return std::optional(value);
}

ApiResult<LogOptions> ReadLogOptions(const http::Query& query) {
  LogOptions options;
  FieldErrors errors;
  options.follow = query.Flag("follow");
  options.previous = query.Flag("previous");
  options.timestamps = query.Flag("timestamps");
  options.since_seconds = TRY(Count(query, "sinceSeconds", 1, errors));
  options.tail_lines = TRY(Count(query, "tailLines", 0, errors));
  options.limit_bytes = TRY(Count(query, "limitBytes", 1, errors));
  options.since_time = query.Value("sinceTime");
  if (!options.since_time.empty() && !ParseTime(options.since_time).ok()) {
    return ApiError::BadRequest("invalid sinceTime: " + options.since_time);
  }
  if (!options.since_time.empty() && options.since_seconds) {
    errors.Forbidden(FieldPath(), "at most one of `sinceTime` or `sinceSeconds` may be specified");
  }
  if (!errors.empty()) {
    KindInfo kind;
    kind.kind = "PodLogOptions";
    return ApiError::Invalid(kind, "", errors);
  }
  return options;
}

ApiResult<ExecOptions> ReadExecOptions(const http::Query& query, bool exec) {
  ExecOptions options;
  if (exec) {
    for (std::string_view part : query.GetAll("command")) options.command.emplace_back(part);
    if (options.command.empty()) {
      return ApiError::BadRequest("you must specify at least 1 command for the container");
    }
  }
  options.stdin_open = query.Flag("stdin");
  options.stdout_open = query.Flag("stdout");
  options.stderr_open = query.Flag("stderr");
  options.tty = query.Flag("tty");
  if (options.tty) options.stderr_open = false;  // a terminal has one output
  if (!options.stdin_open && !options.stdout_open && !options.stderr_open) {
    return ApiError::BadRequest("you must specify at least 1 of stdin, stdout, stderr");
  }
  return options;
}

ApiResult<std::vector<int>> ReadPorts(const http::Query& query) {
  std::vector<int> ports;
  for (std::string_view list : query.GetAll("ports")) {
    while (!list.empty()) {
      size_t comma = std::min(list.find(','), list.size());
      std::string_view text = list.substr(0, comma);
      list.remove_prefix(std::min(comma + 1, list.size()));
      int port = 0;
      auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), port);
      if (status != std::errc() || end != text.data() + text.size() || port < 1 || port > 65535) {
        return ApiError::BadRequest("invalid port \"" + std::string(text) + "\"");
      }
      ports.push_back(port);
    }
  }
  return ports;
}

bool IsFinished(const Pod& pod) {
  return pod.status().phase() == "Succeeded" || pod.status().phase() == "Failed";
}

}  // namespace

bool IsPodStream(std::string_view subresource) {
  return subresource == "log" || subresource == "exec" || subresource == "attach" ||
         subresource == "portforward";
}

Answer ServePodStream(Call& call) {
  const std::string& what = call.info.subresource;
  auto stored = TRY(call.deps.registry.Get(*call.kind, call.info.ns, call.info.name));
  const auto& pod = static_cast<const Pod&>(*stored->object);
  const http::Query& query = call.request.query;
  std::string container;
  if (what != "portforward") {
    container = TRY(ChooseContainer(pod, query.Value("container")));
  }
  TunnelTarget target = TRY(Target(pod));
  target.container = std::move(container);
  NodeTunnels* tunnels = call.deps.tunnels;
  if (tunnels == nullptr) return ApiError::Unavailable("node " + target.node + " is not connected");
  if (what == "log") {
    LogOptions options = TRY(ReadLogOptions(query));
    tunnels->ServeLog(std::move(target), std::move(options), std::move(call.request),
                      std::move(call.writer));
    return std::optional<http::Response>();
  }
  if (IsFinished(pod)) {
    return ApiError::BadRequest(
        "cannot exec into a container in a completed pod; current phase is " +
        pod.status().phase());
  }
  if (what == "portforward") {
    auto ports = TRY(ReadPorts(query));
    if (!call.request.IsUpgrade()) return ApiError::BadRequest("Upgrade request required");
    tunnels->ServePortForward(std::move(target), std::move(ports), std::move(call.request),
                              std::move(call.writer));
    return std::optional<http::Response>();
  }
  ExecOptions options = TRY(ReadExecOptions(query, what == "exec"));
  if (!call.request.IsUpgrade()) return ApiError::BadRequest("Upgrade request required");
  if (what == "exec") {
    tunnels->ServeExec(std::move(target), std::move(options), std::move(call.request),
                       std::move(call.writer));
  } else {
    tunnels->ServeAttach(std::move(target), std::move(options), std::move(call.request),
                         std::move(call.writer));
  }
  return std::optional<http::Response>();
}

}  // namespace skiff::cp
