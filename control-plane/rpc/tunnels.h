// The API server's way into nodes, over the links that nodes hold open.
#pragma once

#include <functional>
#include <string>

#include "control-plane/api/node_tunnels.h"
#include "control-plane/rpc/tunnel.h"

namespace skiff::node::v1 {
class TunnelRequest;
}  // namespace skiff::node::v1

namespace skiff::cp {

class LinkTunnels : public NodeTunnels {
 public:
  // Sends a request to a node, or refuses it through the desk. Thread-safe.
  using SendRequest =
      std::function<void(const std::string& node, const node::v1::TunnelRequest& request)>;

  // executor and desk must outlive this and every session it serves.
  LinkTunnels(Executor& executor, TunnelDesk& desk, SendRequest send);

  void ServeLog(TunnelTarget target, LogOptions options, http::Request request,
                Writer writer) override;
  void ServeExec(TunnelTarget target, ExecOptions options, http::Request request,
                 Writer writer) override;
  void ServeAttach(TunnelTarget target, ExecOptions options, http::Request request,
                   Writer writer) override;
  void ServePortForward(TunnelTarget target, std::vector<int> ports, http::Request request,
                        Writer writer) override;

 private:
  // Asks the node for a tunnel; done runs once.
  void Open(const TunnelTarget& target, node::v1::TunnelRequest request,
            std::function<void(TunnelAnswer)> done);
  void ServeCommand(const TunnelTarget& target, const ExecOptions& options,
                    const http::Request& request, const Writer& writer,
                    node::v1::TunnelRequest tunnel_request);

  Executor& executor_;
  TunnelDesk& desk_;
  SendRequest send_;
};

}  // namespace skiff::cp
