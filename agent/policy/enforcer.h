// PolicyEnforcer: keeps the rules of network policies on this node in force.
//
//   enforcer.Apply(update);               // what the control plane says: policies, address sets
//   enforcer.SetPods(pods);               // the pods that are wanted here, at first and on changes
//   enforcer.Admit(pod, addresses, done); // before a container starts
//   enforcer.Observe(pod, addresses);     // what a look at the pod found
//
// What is in force survives the object and the process. After a restart, the rules of the run
// before are left alone until all pods have been looked at. Where that takes more than moments,
// addresses that they isolate stay isolated, without exception: nobody knows whose they are.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/pods/traffic_rules.h"
#include "agent/policy/model.h"
#include "base/async/executor.h"
#include "base/net/nft.h"

namespace skiff::agent::policy {

// One change of what the control plane says, complete in itself.
struct Update {
  bool full = false;                                      // everything else is gone
  std::map<std::string, std::optional<Policy>> policies;  // by "namespace/name"; none: gone
  std::map<std::string, std::vector<Member>> parts;       // by "SET.PART"; no members: gone
  bool empty() const { return !full && policies.empty() && parts.empty(); }
};

struct Status {
  std::optional<Error> last_error;  // of the last write, until one succeeds
  uint64_t writes = 0;              // that succeeded
  uint64_t failures = 0;            // of writes
  uint64_t repairs = 0;             // after somebody else removed rules
  size_t isolated_pods = 0;         // addresses that policies are about
  size_t last_operations = 0;       // of the last write, in the kernel's terms
};

// Thread-safe: calls return at once.
class PolicyEnforcer : public TrafficRules {
 public:
  // blocking: for netlink; both must outlive it.
  PolicyEnforcer(Executor& blocking, net::Nft& nft);
  // Waits for a write that is under way. Rules stay.
  ~PolicyEnforcer() override;

  void Apply(Update update);
  // Those that the first call names are looked at before anything else is taken for unused.
  void SetPods(std::vector<PodPtr> pods);

  void Admit(PodPtr pod, std::vector<std::string> addresses,
             std::function<void(Result<>)> done) override;
  void Observe(PodPtr pod, std::vector<std::string> addresses) override;
  void Forget(const std::string& uid) override;

  // Calls done, on the blocking executor, once everything told before this call is in force.
  void WhenApplied(Closure done);
  Status GetStatus() const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace skiff::agent::policy
