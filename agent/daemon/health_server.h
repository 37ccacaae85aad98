// The local endpoint: /healthz for supervisors, /metrics for Prometheus.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/daemon/node_network.h"
#include "base/async/executor.h"
#include "base/result.h"

namespace skiff::http {
class Server;
}

namespace skiff::agent {

struct HealthFacts {
  bool link_up = false;
  bool runtime_ready = false;
  size_t pods = 0;
  std::vector<Metric> others = {};
};

// Serves on an address such as "127.0.0.1:10248" until the result is destroyed. facts: any thread.
Result<std::shared_ptr<http::Server>> StartHealthServer(const std::string& address,
                                                        std::function<HealthFacts()> facts,
                                                        Executor& workers);

}  // namespace skiff::agent
