// PolicyLink: feeds the network policies of the desired state to their enforcer.
#pragma once

#include <memory>

#include "agent/desired/desired_state.h"
#include "agent/policy/enforcer.h"
#include "base/async/executor.h"

namespace skiff::agent {

// Calls come from one thread at a time; the executor must outlive it.
class PolicyLink {
 public:
  explicit PolicyLink(Executor& blocking);
  ~PolicyLink();

  void ApplyChange(const DesiredState& desired, const DesiredChange& change);
  policy::PolicyEnforcer& enforcer() { return *enforcer_; }

 private:
  const std::unique_ptr<net::Nft> nft_;
  const std::unique_ptr<policy::PolicyEnforcer> enforcer_;
};

}  // namespace skiff::agent
