// StreamingServer: serves exec, attach and port-forward sessions at one-time URLs on loopback.
//
// Each Offer gives a URL with an unguessable token, good for one request within a minute. The
// request upgrades to SPDY/3.1 or WebSocket (base/streaming), and the session's streams are pumped
// to the process's pipes or terminal, or to a connection in the pod's network. Thread-safe.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "base/async/executor.h"
#include "base/result.h"
#include "base/streaming/exec_session.h"
#include "runtime/runtime.h"

namespace skiff::cri {

class StreamingServer {
 public:
  // address: "127.0.0.1:0". blocking: for calls into the runtime, and whose clock says how old a
  // URL is; both must outlive the server.
  static Result<std::unique_ptr<StreamingServer>> Start(const std::string& address,
                                                        runtime::Runtime& runtime,
                                                        Executor& blocking);
  // Ends the sessions; processes started by exec are killed.
  virtual ~StreamingServer() = default;

  virtual std::string OfferExec(runtime::ExecSpec spec, streaming::ExecStreams streams) = 0;
  // accepts_stdin: whether the container has an open standard input; if not, what the client sends
  // is read and thrown away.
  virtual std::string OfferAttach(std::string container_id, streaming::ExecStreams streams,
                                  bool accepts_stdin) = 0;
  virtual std::string OfferPortForward(std::string sandbox_id, std::vector<uint16_t> ports) = 0;
};

}  // namespace skiff::cri
