// Whether the service proxy of this node works, for load balancers and supervisors, as kube-proxy
// answers it (KEP-3836): /livez says whether rules follow what is told; /healthz says that too, and
// fails on a node that is about to go, so that new connections no longer come in by it.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/async/executor.h"
#include "base/clock.h"
#include "base/http/server.h"
#include "base/result.h"

namespace skiff::agent::proxy {

struct ProxyHealth {
  // Nothing has been waiting to come into force for long.
  bool healthy = true;
  WallTime last_updated{};
  // The node is neither being deleted nor being taken away by the cluster autoscaler.
  bool node_eligible = true;
};
// How long a change may wait: twice the time between kube-proxy's full syncs.
inline constexpr std::chrono::seconds kLatestSync{60};

// path: "/healthz" or "/livez"; NotFound for others.
http::Response AnswerProxyHealth(std::string_view path, const ProxyHealth& health, WallTime now);

// Serves on "HOST:PORT", or ":PORT" for all addresses of the machine, until the result is
// destroyed. health: any thread.
Result<std::unique_ptr<http::Server>> ServeProxyHealth(const std::string& address,
                                                       std::function<ProxyHealth()> health,
                                                       Executor& workers);

// An HTTP server on "HOST:PORT"; without a host, on all addresses of the machine.
Result<std::unique_ptr<http::Server>> ListenForHealth(const std::string& address,
                                                      const http::Handler& handler,
                                                      Executor& workers);

}  // namespace skiff::agent::proxy
