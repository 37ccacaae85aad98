// The client's side over WebSocket, for the agent that reaches into a container through the URL a
// CRI runtime gave it (CRI Exec, Attach, PortForward).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/streaming/exec_session.h"
#include "base/streaming/fd_stream.h"
#include "base/streaming/port_forward.h"

namespace skiff::streaming {

// A remote command as seen by who started it. Thread-safe; the connection ends with the last
// shared_ptr.
class ExecClient {
 public:
  virtual ~ExecClient() = default;
  // in is written (CloseWrite needs protocol 5; on 4 it does nothing), out and err are read. Null
  // when not asked for.
  virtual std::shared_ptr<Stream> in() = 0;
  virtual std::shared_ptr<Stream> out() = 0;
  virtual std::shared_ptr<Stream> err() = 0;
  virtual void Resize(TerminalSize size) = 0;
  // Called once, with the command's end, or Unavailable when the connection was lost. Output may
  // still be unread then. Set once.
  virtual void OnStatus(std::function<void(Result<ExecStatus>)> handler) = 0;
};

// Dials "http://host:port/path" (an address, not a name) and upgrades to v5 or v4.channel.k8s.io.
// done: the session, or the server's refusal (its HTTP status in the text), or DeadlineExceeded.
void DialExec(IoThread& io, Executor& executor, const std::string& url, const ExecStreams& streams,
              std::chrono::milliseconds timeout,
              std::function<void(Result<std::shared_ptr<ExecClient>>)> done);

// One forwarded connection: dials the URL with ?port=N added. The result keeps the connection alive
// through its streams.
void DialPortForward(IoThread& io, Executor& executor, const std::string& url, uint16_t port,
                     std::chrono::milliseconds timeout,
                     std::function<void(Result<PortConnection>)> done);

}  // namespace skiff::streaming
