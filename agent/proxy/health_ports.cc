#include "agent/proxy/health_ports.h"

#include <atomic>
#include <set>

#include "agent/proxy/proxy_health.h"
#include "base/http/server.h"
#include "base/log.h"

namespace skiff::agent::proxy {

struct HealthPorts::Port {
  uint16_t number = 0;
  std::atomic<size_t> local_endpoints = 0;
  std::unique_ptr<http::Server> server;  // null: it could not be opened
  bool told = false;                     // of that
};

size_t CountLocalEndpoints(const ServiceState& state) {
  std::set<net::IpAddress> addresses;
  for (const auto& [port, endpoints] : state.endpoints) {
    for (const Endpoint& endpoint : endpoints) {
      if (endpoint.local && endpoint.ready) addresses.insert(endpoint.address);
    }
  }
  return addresses.size();
}

http::Response HealthAnswer(const ObjectKey& service, size_t local_endpoints, bool proxy_healthy) {
  http::Response response;
  response.status = local_endpoints != 0 && proxy_healthy ? 200 : 503;
  const std::string count = std::to_string(local_endpoints);
  response.headers = {{"Content-Type", "application/json"},
                      {"X-Content-Type-Options", "nosniff"},
                      {"X-Load-Balancing-Endpoint-Weight", count}};
  // Names are DNS labels: nothing in them needs escaping.
  response.body = "{\n\t\"service\": {\n\t\t\"namespace\": \"" + service.name_space +
                  "\",\n\t\t\"name\": \"" + service.name +
                  "\"\n\t},\n\t\"localEndpoints\": " + count +
                  ",\n\t\"serviceProxyHealthy\": " + (proxy_healthy ? "true" : "false") + "\n}";
  return response;
}

HealthPorts::HealthPorts(Deps deps) : deps_(std::move(deps)) {}
HealthPorts::~HealthPorts() = default;

void HealthPorts::Open(const ObjectKey& service, const std::shared_ptr<Port>& port) {
  auto handler = [service, healthy = deps_.healthy, weak = std::weak_ptr(port)](
                     const http::Request&, const std::shared_ptr<http::ResponseWriter>& writer) {
    auto asked = weak.lock();
    writer->Send(HealthAnswer(service, asked ? asked->local_endpoints.load() : 0, healthy()));
  };
  auto server =
      ListenForHealth(deps_.address + ":" + std::to_string(port->number), handler, deps_.workers);
  if (server.ok()) {
    port->server = *std::move(server);
    return;
  }
  if (std::exchange(port->told, true)) return;
  log::Warning(
      "no health check port for a service; load balancers will not send to this node",
      {{"service", service.ToString()}, {"port", port->number}, {"error", server.error()}});
  if (deps_.failed) deps_.failed(service, port->number, server.error());
}

void HealthPorts::Set(const ObjectKey& service, const ServiceState* state) {
  const uint16_t wanted = state != nullptr ? state->service.health_check_node_port : 0;
  auto found = ports_.find(service);
  if (found != ports_.end() && found->second->number != wanted) {
    ports_.erase(found);
    found = ports_.end();
  }
  if (wanted == 0) return;
  const bool fresh = found == ports_.end();
  if (fresh) found = ports_.emplace(service, std::make_shared<Port>()).first;
  Port& port = *found->second;
  port.number = wanted;
  port.local_endpoints = CountLocalEndpoints(*state);
  if (fresh) Open(service, found->second);
}

void HealthPorts::Replace(const std::map<ObjectKey, std::shared_ptr<const ServiceState>>& states) {
  std::erase_if(ports_, [&](const auto& entry) { return !states.contains(entry.first); });
  for (const auto& [service, state] : states) Set(service, state.get());
}

void HealthPorts::Retry() {
  for (const auto& [service, port] : ports_) {
    if (port->server == nullptr) Open(service, port);
  }
}

}  // namespace skiff::agent::proxy
