// Runs single probes and HTTP lifecycle hooks.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "agent/cri_client/cri_client.h"
#include "base/async/executor.h"

namespace skiff::agent {

struct HttpProbe {
  std::string host;  // an address
  int port = 0;
  std::string path;    // "/healthz?x=1"
  bool https = false;  // certificates are not verified, as Kubernetes documents
  std::vector<std::pair<std::string, std::string>> headers;
};
struct TcpProbe {
  std::string host;
  int port = 0;
};
struct ExecProbe {
  std::string container_id;
  std::vector<std::string> command;
};
struct GrpcProbe {
  std::string host;
  int port = 0;
  std::string service;
};
using ProbeTarget = std::variant<HttpProbe, TcpProbe, ExecProbe, GrpcProbe>;

struct ProbeOutcome {
  enum class Kind {
    kSuccess,
    kFailure,
    kUnknown,  // the probe itself could not be made: counts as nothing
  };
  Kind kind = Kind::kUnknown;
  std::string output;  // for events: what was wrong
};

// Thread-safe.
class ProbeRunner {
 public:
  using Done = std::function<void(ProbeOutcome)>;
  virtual ~ProbeRunner() = default;
  // done: once, on any thread, within the timeout and a little.
  virtual void Run(const ProbeTarget& target, std::chrono::seconds timeout, Done done) = 0;
};

// Probes over the node's network on one thread of its own, and commands through the runtime on the
// blocking executor. Both must outlive the runner; probes under way when it is destroyed are never
// done.
std::unique_ptr<ProbeRunner> MakeProbeRunner(CriClient& cri, Executor& blocking);

}  // namespace skiff::agent
