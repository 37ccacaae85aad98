// The probes of one pod: timers, thresholds and what they mean for its containers.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/probes/runner.h"
#include "agent/probes/tracker.h"
#include "agent/status/pod_status.h"
#include "base/async/executor.h"
#include "proto/k8s/fwd.h"

namespace skiff::agent {

// A running container as probes see it.
struct ProbedContainer {
  std::string id;
  std::string name;
  WallTime started_at;
  bool was_ready = false;    // as reported before the agent restarted
  bool was_started = false;  // likewise
};

// Lives on the pod's strand: every call and every callback.
class PodProber : public std::enable_shared_from_this<PodProber> {
 public:
  struct Deps {
    // Kept alive by probes under way.
    std::shared_ptr<Executor> strand;
    ProbeRunner* runner = nullptr;
    // A probe failed: (container, "Readiness probe failed: ...").
    std::function<void(const std::string&, const std::string&)> on_unhealthy;
    // Some container's health changed.
    std::function<void()> on_change;
  };
  static std::shared_ptr<PodProber> Make(Deps deps);

  // Probes these containers from now on and forgets others. A terminating pod is only probed for
  // readiness.
  void Update(const k8s::core::v1::Pod& pod, const std::string& pod_ip,
              const std::vector<ProbedContainer>& running, bool terminating);
  // Ends all probing.
  void Stop();

  ContainerHealth HealthOf(const std::string& container_id) const;
  // Set when a failed probe demands that the container be restarted: the Killing event's message.
  std::string KillMessage(const std::string& container_id) const;
  // Of the probe that demands it, where it has a grace period of its own.
  std::optional<std::chrono::seconds> KillGrace(const std::string& container_id) const;

 private:
  struct Probe;
  struct Container {
    std::string name;
    std::shared_ptr<Probe> startup;
    std::shared_ptr<Probe> liveness;
    std::shared_ptr<Probe> readiness;
    bool Started() const;
  };

  explicit PodProber(Deps deps) : deps_(std::move(deps)) {}
  void Add(const k8s::core::v1::Pod& pod, const std::string& pod_ip,
           const ProbedContainer& container);
  void Schedule(const std::string& id, const std::shared_ptr<Probe>& probe,
                std::chrono::nanoseconds delay);
  void Fire(const std::string& id, const std::shared_ptr<Probe>& probe);
  void Finish(const std::string& id, const std::shared_ptr<Probe>& probe,
              const ProbeOutcome& outcome);
  void Cancel(Container& container);

  Deps deps_;
  std::map<std::string, Container> containers_;  // by id
  bool terminating_ = false;
};

}  // namespace skiff::agent
