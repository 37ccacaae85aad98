// HeldRequests: requests for tunnels into nodes that have no session at this moment. An agent that
// is restarted or upgraded is back within a second, and whoever runs an exec meanwhile need not
// notice.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/async/executor.h"
#include "control-plane/rpc/tunnel.h"
#include "proto/skiff/node/v1/node.pb.h"

namespace skiff::cp {

// Confined to one strand.
class HeldRequests {
 public:
  static constexpr std::chrono::seconds kGrace{5};

  // strand: runs the refusals; it and the desk outlive what is held.
  HeldRequests(Executor& strand, TunnelDesk& desk);

  // Refused through the desk, in the words of a node that is not connected, unless it is taken
  // within the grace.
  void Hold(const std::string& node, node::v1::TunnelRequest request);
  // What is held for a node, oldest first.
  std::vector<node::v1::TunnelRequest> Take(const std::string& node);

 private:
  using Held = std::map<std::string, std::vector<node::v1::TunnelRequest>>;

  Executor& strand_;
  TunnelDesk& desk_;
  const std::shared_ptr<Held> held_ = std::make_shared<Held>();  // timers do not keep it alive
};

}  // namespace skiff::cp
