// HealthPorts: tells load balancers which nodes have endpoints of a Service.
//
// A Service of type LoadBalancer with externalTrafficPolicy: Local has a health check port, at
// which every node answers as kube-proxy does: 200 where the Service has ready endpoints on the
// node, 503 elsewhere, with their number as JSON and as a weight. A port is open only as long as a
// Service has it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "agent/proxy/plan.h"
#include "base/async/executor.h"
#include "base/http/message.h"
#include "base/result.h"

namespace skiff::agent::proxy {

// How many of the Service's endpoints on this node are ready: addresses, whatever their ports.
size_t CountLocalEndpoints(const ServiceState& state);

// What is answered about a Service.
http::Response HealthAnswer(const ObjectKey& service, size_t local_endpoints, bool proxy_healthy);

// One call at a time; closing a port blocks until its answers under way are sent.
class HealthPorts {
 public:
  struct Deps {
    // For the requests. Must outlive it.
    Executor& workers;
    // Whether rules can be written at present. On any thread.
    std::function<bool()> healthy;
    // Where ports are opened, but for the port; for tests. Empty: at all addresses.
    std::string address = {};
    // A port could not be opened; told once for each Service and port.
    std::function<void(const ObjectKey& service, uint16_t port, const Error& error)> failed = {};
  };
  explicit HealthPorts(Deps deps);
  // Closes all ports.
  ~HealthPorts();

  // The state of a Service whose rules are in force; null: it is gone.
  void Set(const ObjectKey& service, const ServiceState* state);
  // The states of all.
  void Replace(const std::map<ObjectKey, std::shared_ptr<const ServiceState>>& states);
  // Tries again to open those ports that could not be opened (another program has them).
  void Retry();

 private:
  struct Port;
  void Open(const ObjectKey& service, const std::shared_ptr<Port>& port);

  const Deps deps_;
  std::map<ObjectKey, std::shared_ptr<Port>> ports_;
};

}  // namespace skiff::agent::proxy
