// The state of a PodWorker; only for its own source files.
#pragma once

#include "agent/pods/worker.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::agent {

// A container being started. There is at most one in a pod, as kubelet starts them in order.
struct StartUnderWay {
  std::string name;
  uint32_t attempt = 0;
  uint64_t generation = 0;
  bool pulling = true;  // nothing of it is in the runtime yet: it may be abandoned
};

struct StopUnderWay {
  WallTime deadline;    // when its grace ends
  bool failed = false;  // waiting to be tried again
};

struct PodWorker::State {
  Phase phase = Phase::kSyncing;
  PodPtr pod;
  PodShape shape;
  std::string log_directory;
  bool object_gone = false;
  bool stopped = false;  // Stop(): results are dropped

  bool looking = false;
  bool look_again = false;
  uint64_t mutations = 0;  // counts the beginnings and ends of changes to the runtime
  ObservedPod observed;
  bool observed_once = false;
  std::map<std::string, std::string> messages;  // of ended containers, by id

  std::optional<StartUnderWay> start;
  uint64_t start_generation = 0;
  bool sandbox_starting = false;
  std::map<std::string, StopUnderWay> stopping;  // by container id
  std::set<std::string> removing;                // containers and sandboxes, by id
  std::set<std::string> stopping_sandboxes;
  std::set<std::string> stopped_sandboxes;
  bool releasing = false;
  bool refreshing = false;
  bool refresh_again = false;

  std::optional<VolumePaths> volumes;
  BackOff restart_back_off;
  BackOff pull_back_off;                       // keys: image names
  int sandbox_attempts_failed = 0;             // in a row, to make one
  int sandbox_deaths = 0;                      // in a row, that died soon after they were made
  std::map<std::string, WallTime> not_before;  // "" is the sandbox
  std::map<std::string, WaitingReason> waiting;
  std::set<std::string> early_failures;  // containers whose last start failed before they existed
  std::map<std::string, WallTime> noted_back_off;  // the end of the back-off last told in an event

  std::shared_ptr<PodProber> prober;
  std::string failure_reason;  // of a pod that was stopped by the agent
  std::string failure_message;
  std::optional<WallTime> termination_deadline;
  std::optional<k8s::core::v1::PodStatus> status;  // the last one reported, or read from the API
  std::string reported;                            // its bytes, once reported by this process
  bool gone_reported = false;

  Executor::TimerId timer = 0;
  std::optional<SteadyTime> timer_at;
};

}  // namespace skiff::agent
