#include "agent/daemon/health_server.h"

#include "base/http/server.h"

namespace skiff::agent {
namespace {

std::string Metrics(const HealthFacts& facts) {
  auto gauge = [](const char* name, const char* help, size_t value) {
    return std::string("# HELP ") + name + " " + help + "\n# TYPE " + name + " gauge\n" + name +
           " " + std::to_string(value) + "\n";
  };
  return gauge("skiff_agent_pods", "Pods this node looks after.", facts.pods) +
         gauge("skiff_agent_link_up", "Whether the control plane is connected.",
               facts.link_up ? 1 : 0) +
         gauge("skiff_agent_runtime_ready", "Whether the container runtime is ready.",
               facts.runtime_ready ? 1 : 0);
}

}  // namespace

Result<std::shared_ptr<http::Server>> StartHealthServer(const std::string& address,
                                                        std::function<HealthFacts()> facts,
                                                        Executor& workers) {
  http::ServerOptions options;
  options.listen = address;
  options.io_threads = 1;
  auto handler = [facts = std::move(facts)](const http::Request& request,
                                            const std::shared_ptr<http::ResponseWriter>& writer) {
    if (request.path == "/healthz") {
      // An agent that is cut off is healthy: its pods are looked after.
      writer->Send(http::Response::Text(200, "ok"));
    } else if (request.path == "/metrics") {
      http::Response response = http::Response::Text(200, Metrics(facts()));
      response.headers.Set("Content-Type", "text/plain; version=0.0.4");
      writer->Send(std::move(response));
    } else {
      writer->Send(http::Response::Text(404, "404 page not found"));
    }
  };
  auto server = TRY(http::Server::Start(std::move(options), std::move(handler), workers));
  return std::shared_ptr<http::Server>(std::move(server));
}

}  // namespace skiff::agent
