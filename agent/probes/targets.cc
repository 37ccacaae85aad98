#include "agent/probes/targets.h"

#include "proto/codec/int_or_string.h"
#include "proto/k8s/core/v1/container.pb.h"

namespace skiff::agent {
namespace {

namespace core = k8s::core::v1;

Result<int> PortOf(const k8s::intstr::IntOrString& port, const core::Container& container) {
  if (codec::IsInt(port)) {
    if (port.int_val() > 0 && port.int_val() < 65536) return port.int_val();
    return Error(Code::kInvalidArgument, "invalid port number: " + std::to_string(port.int_val()));
  }
  for (const core::ContainerPort& candidate : container.ports()) {
    if (candidate.name() == port.str_val()) return candidate.container_port();
  }
  return Error(Code::kInvalidArgument, "couldn't find port: \"" + port.str_val() + "\"");
}

}  // namespace

Result<HttpProbe> HttpTargetOf(const core::HTTPGetAction& action, const core::Container& container,
                               const std::string& pod_ip) {
  HttpProbe probe;
  probe.host = action.host().empty() ? pod_ip : action.host();
  probe.port = TRY(PortOf(action.port(), container));
  probe.path = action.path().starts_with('/') ? action.path() : "/" + action.path();
  probe.https = action.scheme() == "HTTPS";
  for (const core::HTTPHeader& header : action.http_headers()) {
    probe.headers.emplace_back(header.name(), header.value());
  }
  return probe;
}

Result<ProbeTarget> TargetOf(const core::ProbeHandler& handler, const core::Container& container,
                             const std::string& container_id, const std::string& pod_ip) {
  if (handler.has_exec()) {
    return ProbeTarget(ExecProbe{
        container_id, {handler.exec().command().begin(), handler.exec().command().end()}});
  }
  if (handler.has_http_get()) {
    return ProbeTarget(TRY(HttpTargetOf(handler.http_get(), container, pod_ip)));
  }
  if (handler.has_tcp_socket()) {
    const auto& action = handler.tcp_socket();
    const auto port = TRY(PortOf(action.port(), container));
    return ProbeTarget(TcpProbe{action.host().empty() ? pod_ip : action.host(), port});
  }
  if (handler.has_grpc()) {
    return ProbeTarget(GrpcProbe{pod_ip, handler.grpc().port(), handler.grpc().service()});
  }
  return Error(Code::kInvalidArgument, "the probe has no handler");
}

}  // namespace skiff::agent
