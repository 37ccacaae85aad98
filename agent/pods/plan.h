// The planner: what a pod needs next, from what is wanted and what is there. Pure.
//
// The rules are Kubernetes' pod lifecycle
// (https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/ and .../init-containers/,
// .../sidecar-containers/). The worker observes, plans and applies until a plan is empty.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/pods/backoff.h"
#include "agent/pods/observed.h"
#include "base/clock.h"

namespace skiff::agent {

enum class RestartPolicy { kAlways, kOnFailure, kNever };

enum class ContainerKind {
  kInit,     // runs to success before the next one
  kSidecar,  // an init container that keeps running (restartPolicy: Always)
  kMain,
};

struct ContainerShape {
  std::string name;
  ContainerKind kind = ContainerKind::kMain;
  RestartPolicy restart = RestartPolicy::kAlways;
  std::string spec_hash;
};

// What planning needs of a pod's spec.
struct PodShape {
  std::vector<ContainerShape> init;  // in order: init containers and sidecars
  std::vector<ContainerShape> main;  // in order
  RestartPolicy restart = RestartPolicy::kAlways;

  const ContainerShape* Find(std::string_view name) const;
};

// What the worker knows of a running container beside the runtime's view.
struct ContainerFacts {
  bool started = false;  // its startup probe, if any, has passed
  bool busy = false;     // the worker is creating, starting or stopping it: leave it alone
  // Why it must be stopped though it runs: the reason of the event, e.g. a failed liveness probe.
  std::string kill_message;
};

struct PlanInput {
  const PodShape* shape = nullptr;
  const ObservedPod* observed = nullptr;
  std::map<std::string, ContainerFacts> facts;  // by container id
  const BackOff* restart_back_off = nullptr;    // keys: container names
  // Earliest next attempt of containers whose pull or creation failed, by name.
  std::map<std::string, WallTime> not_before;
  // A start is under way (a sandbox or a container): no further one is planned.
  bool start_busy = false;
  WallTime now;
};

struct StopAction {
  std::string container_id;
  std::string name;
  std::string message;  // of the Killing event
  bool operator==(const StopAction&) const = default;
};

struct StartAction {
  std::string name;
  uint32_t attempt = 0;
  bool operator==(const StartAction&) const = default;
};

// A container that will start later, as its status shows it.
struct Wait {
  std::string name;
  WallTime until;
  std::chrono::seconds delay{0};
  bool operator==(const Wait&) const = default;
};

enum class PodOutcome { kSucceeded, kFailed };

struct PodPlan {
  std::vector<StopAction> stop;                // concurrently
  std::optional<uint32_t> create_sandbox;      // its attempt; stops and replaces what was before
  bool sandbox_changed = false;                // the sandbox replaces one that died
  std::optional<StartAction> start;            // one at a time, in the order of the spec
  std::vector<Wait> crash_back_off;            // containers waiting for their back-off
  std::vector<std::string> remove_containers;  // dead ones nobody needs, by id
  std::vector<std::string> remove_sandboxes;   // dead ones without containers, by id
  std::optional<WallTime> wake_at;             // when time alone changes the plan
  std::optional<PodOutcome> outcome;           // the pod is done: terminate it, keep its containers
};

// The plan of a pod that should run.
PodPlan PlanSync(const PlanInput& input);

struct TerminationPlan {
  std::vector<StopAction> stop;             // concurrently; sidecars come after the main containers
  std::vector<std::string> stop_sandboxes;  // once no container runs
  bool stopped = false;                     // nothing of the pod runs any more
};
// The plan of a pod that should stop. stopped_sandboxes: those already stopped by the worker,
// because a stop releases the address even where the sandbox is dead already.
TerminationPlan PlanTermination(const PlanInput& input,
                                const std::set<std::string>& stopped_sandboxes);

// How the pod ended, from its containers: failed when one of the main containers did, or an init
// container for good; unknown while one of them has not ended.
std::optional<PodOutcome> ComputeOutcome(const PodShape& shape, const ObservedPod& observed);

}  // namespace skiff::agent
