// Agent: the parts of the node daemon, wired together. The one place of agent/ that knows the
// built-in runtime and network.
#pragma once

#include <memory>

#include "agent/daemon/config.h"
#include "base/result.h"

namespace skiff::agent {

class Agent {
 public:
  // Starts everything; pods known from the disk are looked after from here on, whether or not the
  // control plane can be reached.
  static Result<std::unique_ptr<Agent>> Start(const AgentConfig& config);
  // Stops the agent's own work; pods go on.
  ~Agent();

 private:
  struct Parts;
  explicit Agent(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

// Removes every pod, network interface, cgroup, mount and rule that Skiff made on this machine, and
// its state unless it is to be kept. Idempotent; FailedPrecondition while an agent runs.
Result<> ResetNode(const AgentConfig& config, bool keep_state);

}  // namespace skiff::agent
