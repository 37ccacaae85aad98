// Tunnels: serves logs, exec, attach and port-forward over the node link.
#pragma once

#include <functional>
#include <memory>

#include "agent/cri_client/cri_client.h"
#include "agent/link/node_link.h"
#include "agent/pods/workers.h"
#include "base/async/executor.h"
#include "base/streaming/client.h"

namespace skiff::node::v1 {
class TunnelRequest;
}

namespace skiff::agent {

struct TunnelDeps {
  const PodWorkers& workers;
  CriClient& cri;
  NodeLink& link;
  // Each tunnel blocks a few of its threads for as long as it lasts.
  Executor& blocking;
  streaming::IoThread& io;
  std::string log_dir;  // "/var/log/pods"
  // To the runtime.
  streaming::ClientTransport transport = streaming::ClientTransport::kWebSocket;
};

// Thread-safe. The executor must be stopped before what the deps name goes away.
class Tunnels {
 public:
  explicit Tunnels(TunnelDeps deps) : deps_(std::move(deps)) {}
  // Serves the request on the blocking executor; refusals go over the link.
  void Handle(const skiff::node::v1::TunnelRequest& request);

 private:
  TunnelDeps deps_;
};

}  // namespace skiff::agent
