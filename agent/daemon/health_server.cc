#include "agent/daemon/health_server.h"

#include "base/http/server.h"

namespace skiff::agent {
namespace {

std::string Metrics(const HealthFacts& facts) {
  std::vector<Metric> metrics = {
      {"skiff_agent_pods", "Pods this node looks after.", false, facts.pods},
      {"skiff_agent_link_up", "Whether the control plane is connected.", false,
       facts.link_up ? 1u : 0u},
      {"skiff_agent_runtime_ready", "Whether the container runtime is ready.", false,
       facts.runtime_ready ? 1u : 0u}};
  metrics.insert(metrics.end(), facts.others.begin(), facts.others.end());
  std::string text;
  for (const Metric& metric : metrics) {
    const std::string name = metric.name;
    text += "# HELP " + name + " " + metric.help + "\n# TYPE " + name +
            (metric.counter ? " counter\n" : " gauge\n") + name + " " +
            std::to_string(metric.value) + "\n";
  }
  return text;
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
