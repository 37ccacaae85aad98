#include "agent/proxy/proxy_health.h"

#include <optional>
#include <vector>

namespace skiff::agent::proxy {

http::Response AnswerProxyHealth(std::string_view path, const ProxyHealth& health, WallTime now) {
  const bool live = path == "/livez";
  if (!live && path != "/healthz") return http::Response::Text(404, "404 page not found");
  const bool good = health.healthy && (live || health.node_eligible);
  http::Response response;
  response.status = good ? 200 : 503;
  response.headers = {{"Content-Type", "application/json"}, {"X-Content-Type-Options", "nosniff"}};
  // While all is well, the last update is now, whether or not there was anything to do.
  response.body = "{\"lastUpdated\": \"" + FormatTime(good ? now : health.last_updated) +
                  "\",\"currentTime\": \"" + FormatTime(now) + "\"";
  if (!live)
    response.body +=
        std::string(", \"nodeEligible\": ") + (health.node_eligible ? "true" : "false");
  response.body += "}";
  return response;
}

Result<std::unique_ptr<http::Server>> ServeProxyHealth(const std::string& address,
                                                       std::function<ProxyHealth()> health,
                                                       Executor& workers) {
  return ListenForHealth(
      address,
      [health = std::move(health)](const http::Request& request,
                                   const std::shared_ptr<http::ResponseWriter>& writer) {
        writer->Send(AnswerProxyHealth(request.path, health(), Clock::Real().WallNow()));
      },
      workers);
}

Result<std::unique_ptr<http::Server>> ListenForHealth(const std::string& address,
                                                      const http::Handler& handler,
                                                      Executor& workers) {
  // A machine without IPv6 has no [::].
  std::vector<std::string> hosts = {"[::]", "0.0.0.0"};
  if (!address.starts_with(':')) hosts = {""};
  std::optional<Error> error;
  for (const std::string& host : hosts) {
    http::ServerOptions options;
    options.listen = host + address;
    options.io_threads = 1;
    auto server = http::Server::Start(std::move(options), handler, workers);
    if (server.ok()) return server;
    error = server.error();
  }
  return *error;
}

}  // namespace skiff::agent::proxy
