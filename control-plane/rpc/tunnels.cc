#include "control-plane/rpc/tunnels.h"

#include "base/streaming/http_stream.h"
#include "base/streaming/upgrade.h"
#include "control-plane/rpc/bridges.h"
#include "proto/skiff/node/v1/node.pb.h"

namespace skiff::cp {

using node::v1::TunnelRequest;

namespace {

http::Response Refusal(const TunnelAnswer& answer) {
  return StatusResponse(answer.http_status, answer.reason, answer.message);
}

http::Response BadUpgrade(const Error& error) {
  bool forbidden = error.code() == Code::kPermissionDenied;
  return StatusResponse(forbidden ? 403 : 400, forbidden ? "Forbidden" : "BadRequest",
                        error.message());
}

// Leaves HTTP: the connection behind the 101 response.
std::shared_ptr<streaming::Stream> TakeOver(http::ResponseWriter& writer,
                                            const streaming::Upgrade& upgrade) {
  auto connection = streaming::FromRawStream(writer.Hijack());
  connection->Write(streaming::ResponseHead(upgrade), nullptr);
  return connection;
}

}  // namespace

LinkTunnels::LinkTunnels(Executor& executor, TunnelDesk& desk, SendRequest send)
    : executor_(executor), desk_(desk), send_(std::move(send)) {}

void LinkTunnels::Open(const TunnelTarget& target, TunnelRequest request,
                       std::function<void(TunnelAnswer)> done) {
  request.set_namespace_(target.ns);
  request.set_pod(target.pod);
  request.set_pod_uid(target.pod_uid);
  request.set_tunnel_id(desk_.Expect(target.node, std::move(done)));
  send_(target.node, request);
}

void LinkTunnels::ServeLog(TunnelTarget target, LogOptions options, http::Request, Writer writer) {
  TunnelRequest request;
  TunnelRequest::Logs& logs = *request.mutable_logs();
  logs.set_container(target.container);
  logs.set_follow(options.follow);
  logs.set_previous(options.previous);
  logs.set_timestamps(options.timestamps);
  if (options.since_seconds) logs.set_since_seconds(*options.since_seconds);
  logs.set_since_time(options.since_time);
  if (options.tail_lines) logs.set_tail_lines(*options.tail_lines);
  if (options.limit_bytes) logs.set_limit_bytes(*options.limit_bytes);
  Open(target, std::move(request), [&executor = executor_, writer](TunnelAnswer answer) {
    if (answer.messages == nullptr) return writer->Send(Refusal(answer));
    BridgeLog(executor, std::move(answer.messages),
              writer->Stream(200, {{"Content-Type", "text/plain"}}));
  });
}

void LinkTunnels::ServeExec(TunnelTarget target, ExecOptions options, http::Request request,
                            Writer writer) {
  TunnelRequest tunnel_request;
  TunnelRequest::Exec& exec = *tunnel_request.mutable_exec();
  exec.set_container(target.container);
  for (const std::string& word : options.command) exec.add_command(word);
  exec.set_stdin(options.stdin_open);
  exec.set_stdout(options.stdout_open);
  exec.set_stderr(options.stderr_open && !options.tty);
  exec.set_tty(options.tty);
  ServeCommand(target, options, request, writer, std::move(tunnel_request));
}

void LinkTunnels::ServeAttach(TunnelTarget target, ExecOptions options, http::Request request,
                              Writer writer) {
  TunnelRequest tunnel_request;
  TunnelRequest::Attach& attach = *tunnel_request.mutable_attach();
  attach.set_container(target.container);
  attach.set_stdin(options.stdin_open);
  attach.set_stdout(options.stdout_open);
  attach.set_stderr(options.stderr_open && !options.tty);
  attach.set_tty(options.tty);
  ServeCommand(target, options, request, writer, std::move(tunnel_request));
}

void LinkTunnels::ServeCommand(const TunnelTarget& target, const ExecOptions& options,
                               const http::Request& request, const Writer& writer,
                               TunnelRequest tunnel_request) {
  Result<streaming::Upgrade> upgrade = streaming::NegotiateExec(request.headers.fields());
  if (!upgrade.ok()) return writer->Send(BadUpgrade(upgrade.error()));
  streaming::ExecStreams streams{.in = options.stdin_open,
                                 .out = options.stdout_open,
                                 .err = options.stderr_open,
                                 .tty = options.tty};
  Open(target, std::move(tunnel_request),
       [&executor = executor_, writer, upgrade = *upgrade, streams,
        node = target.node](TunnelAnswer answer) {
         if (answer.messages == nullptr) return writer->Send(Refusal(answer));
         streaming::ServeExec(executor, TakeOver(*writer, upgrade), upgrade, streams,
                              [&executor, messages = answer.messages,
                               node](Result<std::shared_ptr<streaming::ExecSession>> session) {
                                // A client that opens no streams has been told by the closed
                                // connection.
                                if (!session.ok()) return messages->Reset();
                                BridgeExec(executor, messages, std::move(*session), node);
                              });
       });
}

void LinkTunnels::ServePortForward(TunnelTarget target, std::vector<int> ports,
                                   http::Request request, Writer writer) {
  Result<streaming::Upgrade> upgrade = streaming::NegotiatePortForward(request.headers.fields());
  if (!upgrade.ok()) return writer->Send(BadUpgrade(upgrade.error()));
  std::vector<uint16_t> checked;
  for (int port : ports) {
    if (port < 1 || port > 65535) {
      return writer->Send(StatusResponse(
          400, "BadRequest", "port " + std::to_string(port) + " is not between 1 and 65535"));
    }
    checked.push_back(static_cast<uint16_t>(port));
  }
  bool channels = upgrade->transport == streaming::Transport::kWebSocket;
  if (channels && (checked.empty() || checked.size() > 128)) {
    return writer->Send(
        StatusResponse(400, "BadRequest", "1 to 128 \"port\" query parameters are required"));
  }
  auto session =
      streaming::ServePortForward(executor_, TakeOver(*writer, *upgrade), *upgrade, checked);
  if (!session.ok()) return;  // the connection is closed with it
  BridgePortForward(
      executor_, std::move(*session),
      [this, target](uint16_t port, std::function<void(TunnelAnswer)> done) {
        TunnelRequest tunnel_request;
        tunnel_request.mutable_port_forward()->add_ports(port);
        Open(target, std::move(tunnel_request), std::move(done));
      },
      !channels || upgrade->version >= 5);
}

}  // namespace skiff::cp
