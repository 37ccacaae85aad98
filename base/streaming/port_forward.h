// The server's side of kubectl port-forward and crictl port-forward, over SPDY (streams made by the
// client for each connection, port and request id in their headers) or WebSocket (ports fixed in
// the query, two channels a port).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/async/executor.h"
#include "base/streaming/stream.h"
#include "base/streaming/upgrade.h"

namespace skiff::streaming {

struct PortConnection {
  uint16_t port = 0;
  std::shared_ptr<Stream> data;
  // Text written here is shown to the user and ends the connection. Close it in any case.
  std::shared_ptr<Stream> error;
};

// Thread-safe. The connection ends with the last shared_ptr.
class PortForwardSession {
 public:
  virtual ~PortForwardSession() = default;
  // on_connection: each forwarded connection. on_gone: once, when the client is gone. Both run on
  // the session's strand and must not block. To be called once; connections wait until then.
  virtual void Start(std::function<void(PortConnection)> on_connection,
                     std::function<void()> on_gone) = 0;
  // Ends the session and all of its connections.
  virtual void Close() = 0;
};

// Serves on a connection whose 101 response is sent. ports: of the query, needed by WebSocket
// clients and at most 128. executor must outlive the session.
Result<std::shared_ptr<PortForwardSession>> ServePortForward(Executor& executor,
                                                             std::shared_ptr<Stream> connection,
                                                             const Upgrade& upgrade,
                                                             const std::vector<uint16_t>& ports);

}  // namespace skiff::streaming
