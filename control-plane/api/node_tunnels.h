// NodeTunnels: how the API server reaches into a node (log, exec, attach, port-forward) although
// the node accepts no connection. Implemented by control-plane/rpc over the node link.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/http/message.h"
#include "base/http/server.h"

namespace skiff::cp {

// Which pod. The API server has checked that it exists, is bound to the node, and that the
// container is one of its own (or filled in the only one).
struct TunnelTarget {
  std::string node;
  std::string ns;
  std::string pod;
  std::string pod_uid;
  std::string container;  // empty for port-forward
};

// As meta core/v1 PodLogOptions, checked.
struct LogOptions {
  bool follow = false;
  bool previous = false;
  bool timestamps = false;
  std::optional<int64_t> since_seconds;
  std::string since_time;  // RFC 3339 or empty
  std::optional<int64_t> tail_lines;
  std::optional<int64_t> limit_bytes;
};

struct ExecOptions {
  std::vector<std::string> command;  // empty for attach
  bool stdin_open = false;
  bool stdout_open = false;
  bool stderr_open = false;
  bool tty = false;
};

// Thread-safe. Each call returns at once and answers through the writer: a stream for logs, a
// hijacked connection for the others (SPDY/3.1 or WebSocket, as the request's Upgrade header
// says), a Status object when the node is away (503) or refuses.
class NodeTunnels {
 public:
  using Writer = std::shared_ptr<http::ResponseWriter>;
  virtual ~NodeTunnels() = default;

  virtual void ServeLog(TunnelTarget target, LogOptions options, http::Request request,
                        Writer writer) = 0;
  virtual void ServeExec(TunnelTarget target, ExecOptions options, http::Request request,
                         Writer writer) = 0;
  virtual void ServeAttach(TunnelTarget target, ExecOptions options, http::Request request,
                           Writer writer) = 0;
  // ports: from the query, for WebSocket clients; SPDY clients name them per stream.
  virtual void ServePortForward(TunnelTarget target, std::vector<int> ports, http::Request request,
                                Writer writer) = 0;
};

// A Status object as an HTTP answer, for implementers: {"kind":"Status",...}.
http::Response StatusResponse(int http_code, std::string_view reason, std::string_view message);

}  // namespace skiff::cp
