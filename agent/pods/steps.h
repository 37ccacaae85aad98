// The long steps of a pod's life, each one blocking call that keeps no state: the worker runs them
// on the pools and takes their results on its strand.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/pods/deps.h"
#include "agent/pods/observed.h"

namespace skiff::agent {

// Why a container or a sandbox did not start, as its status and an event say it. Empty: it did.
struct StartFailure {
  std::string reason;  // "ErrImagePull", "CreateContainerConfigError", ...
  std::string message;
  bool created = false;  // the container exists: its end counts as a crash
};

using VolumePaths = std::map<std::string, std::string>;
using PodPtr = std::shared_ptr<const k8s::core::v1::Pod>;

// Reads the pod's state, with the termination messages of its ended containers. known: messages
// read before, by container id.
Result<ObservedPod> ObservePod(const PodDeps& deps, const std::string& uid,
                               const std::string& log_directory,
                               const std::map<std::string, std::string>& known);

struct SandboxStep {
  PodPtr pod;
  uint32_t attempt = 0;
  std::vector<std::string> replaces;  // ids of sandboxes before, stopped first
};
struct SandboxResult {
  std::optional<StartFailure> failure;
  VolumePaths volumes;
};
// Volumes, then the sandbox.
SandboxResult RunSandboxStep(const PodDeps& deps, const SandboxStep& step);

struct ContainerStep {
  PodPtr pod;
  std::string name;
  uint32_t attempt = 0;
  ObservedSandbox sandbox;
  std::optional<VolumePaths> volumes;  // unset: set them up first (the agent has restarted)
};

// What a pull policy asks for; message of a failure in kubelet's words.
struct ImageDecision {
  bool pull = false;
  std::optional<ImageInfo> present;
  std::optional<StartFailure> failure;
};
ImageDecision DecideImage(const PodDeps& deps, const ContainerStep& step);
// Pulls and looks the image up. Emits Pulling, Pulled and Failed events.
Result<ImageInfo> PullImageStep(const PodDeps& deps, const ContainerStep& step);

struct ContainerResult {
  std::optional<StartFailure> failure;
  VolumePaths volumes;
};
// Creates and starts the container and runs its postStart hook.
ContainerResult RunContainerStep(const PodDeps& deps, const ContainerStep& step,
                                 const ImageInfo& image);

struct StopStep {
  PodPtr pod;  // null: an orphan, of which only the runtime knows
  ObservedContainer container;
  std::string pod_ip;
  std::string message;  // of the Killing event
  std::chrono::seconds grace{30};
  bool run_pre_stop = true;
};
Result<> StopContainerStep(const PodDeps& deps, const StopStep& step);

// Stops a sandbox of a pod of which nothing else runs, and removes the pod's cgroup.
Result<> StopSandboxStep(const PodDeps& deps, const std::string& uid, const std::string& id);

// The uids of pods that left a directory or a cgroup on this node.
std::vector<std::string> FindLeftovers(const PodDeps& deps);

// Removes everything of the pod from the runtime and the disk.
Result<> ReleasePodStep(const PodDeps& deps, const std::string& uid,
                        const std::string& log_directory);

}  // namespace skiff::agent
