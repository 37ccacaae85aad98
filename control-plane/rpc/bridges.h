// What a client of the API sees of a tunnel: an HTTP answer (logs) or an upgraded connection (exec,
// attach, port-forward) on one side, the node's frames on the other. Each bridge keeps itself alive
// until both sides are done; when one side is lost it ends the other.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/async/executor.h"
#include "base/http/server.h"
#include "base/streaming/exec_session.h"
#include "base/streaming/port_forward.h"
#include "control-plane/rpc/tunnel.h"

namespace skiff::cp {

// Channel 1 of the tunnel as a chunked text answer.
void BridgeLog(Executor& executor, std::shared_ptr<streaming::Stream> messages,
               std::shared_ptr<http::ResponseStream> answer);

// node: for messages to the user.
void BridgeExec(Executor& executor, std::shared_ptr<streaming::Stream> messages,
                std::shared_ptr<streaming::ExecSession> session, const std::string& node);

// Every forwarded connection gets a tunnel of its own, so that none holds up another. open asks the
// node for one.
using OpenPortTunnel = std::function<void(uint16_t port, std::function<void(TunnelAnswer)> done)>;
// half_close: the client's transport can end one direction of a connection.
void BridgePortForward(Executor& executor, std::shared_ptr<streaming::PortForwardSession> session,
                       OpenPortTunnel open, bool half_close);

}  // namespace skiff::cp
