// The client's side, for the agent that reaches into a container through the URL a CRI runtime gave
// it (CRI Exec, Attach, PortForward).
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
  // in is written, out and err are read. Null when not asked for. in's CloseWrite does nothing with
  // a server that speaks version 4 over WebSocket, which cannot say it.
  virtual std::shared_ptr<Stream> in() = 0;
  virtual std::shared_ptr<Stream> out() = 0;
  virtual std::shared_ptr<Stream> err() = 0;
  virtual void Resize(TerminalSize size) = 0;
  // Called once, with the command's end, or Unavailable when the connection was lost. Output may
  // still be unread then. Set once.
  virtual void OnStatus(std::function<void(Result<ExecStatus>)> handler) = 0;
};

// What streams are carried by. Every CRI runtime speaks SPDY/3.1, as kubelet does; over WebSocket
// those before 2024 cannot end a command's input, and none but ours the input of a forwarded
// connection. A URL is good for one attempt.
enum class ClientTransport { kWebSocket, kSpdy };

// Dials "http://host:port/path" (an address, not a name) and upgrades to v5 or v4.channel.k8s.io.
// done: the session, or the server's refusal (its HTTP status in the text), or DeadlineExceeded.
void DialExec(IoThread& io, Executor& executor, const std::string& url, ClientTransport transport,
              const ExecStreams& streams, std::chrono::milliseconds timeout,
              std::function<void(Result<std::shared_ptr<ExecClient>>)> done);

// One forwarded connection; over WebSocket the URL is given ?port=N. The result keeps the
// connection to the server alive through its streams, until both have ended both ways or are gone.
void DialPortForward(IoThread& io, Executor& executor, const std::string& url,
                     ClientTransport transport, uint16_t port, std::chrono::milliseconds timeout,
                     std::function<void(Result<PortConnection>)> done);

}  // namespace skiff::streaming
