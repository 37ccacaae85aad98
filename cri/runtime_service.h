// RuntimeService: the calls of runtime.v1.RuntimeService as plain blocking methods.
//
// One translating layer over runtime::Runtime: a call is checked and planned (translate.h), carried
// out in the order record, acquire, use, and the table is brought up to date; lists and statuses
// are answered from the table alone. Thread-safe. Calls that change one sandbox or container run
// one after another; a failed call leaves nothing behind, with time of its own for that.
#pragma once

#include <memory>
#include <mutex>
#include <stop_token>
#include <string>

#include "base/async/executor.h"
#include "base/result.h"
#include "cni/network.h"
#include "cri/events.h"
#include "cri/stats.h"
#include "cri/streaming_server.h"
#include "cri/table.h"
#include "proto/cri/runtime/v1/api.pb.h"
#include "runtime/image/image_store.h"
#include "runtime/runtime.h"

namespace skiff::cri {

class RuntimeService {
 public:
  struct Deps {
    runtime::Runtime* runtime = nullptr;
    runtime::ImageStore* images = nullptr;
    cni::PodNetwork* network = nullptr;
    StreamingServer* streaming = nullptr;
    Executor* blocking = nullptr;  // for what runs beside a call
    std::string state_dir;
    std::string version;
    runtime::LogSpec logs = {};  // CriOptions::logs
    std::vector<std::string> cdi_dirs = {};
  };
  explicit RuntimeService(Deps deps)
      : deps_(std::move(deps)), stats_(*deps_.runtime, *deps_.blocking) {}

  // Fills the table from the runtime's records; removes what a killed predecessor left half made
  // and what no record names.
  Result<> Recover();
  // From the runtime's exit callback, on any thread that may block.
  void OnExit(const runtime::ExitEvent& event);
  EventLog& events() { return events_; }

  Result<> Version(const api::VersionRequest&, api::VersionResponse*);
  Result<> Status(const api::StatusRequest&, api::StatusResponse*);
  Result<> RuntimeConfig(const api::RuntimeConfigRequest&, api::RuntimeConfigResponse*);
  Result<> UpdateRuntimeConfig(const api::UpdateRuntimeConfigRequest&,
                               api::UpdateRuntimeConfigResponse*);

  Result<> RunPodSandbox(const api::RunPodSandboxRequest&, api::RunPodSandboxResponse*);
  Result<> StopPodSandbox(const api::StopPodSandboxRequest&, api::StopPodSandboxResponse*);
  Result<> RemovePodSandbox(const api::RemovePodSandboxRequest&, api::RemovePodSandboxResponse*);
  Result<> PodSandboxStatus(const api::PodSandboxStatusRequest&, api::PodSandboxStatusResponse*);
  Result<> ListPodSandbox(const api::ListPodSandboxRequest&, api::ListPodSandboxResponse*);
  Result<> UpdatePodSandboxResources(const api::UpdatePodSandboxResourcesRequest&,
                                     api::UpdatePodSandboxResourcesResponse*);

  Result<> CreateContainer(const api::CreateContainerRequest&, api::CreateContainerResponse*);
  Result<> StartContainer(const api::StartContainerRequest&, api::StartContainerResponse*);
  Result<> StopContainer(const api::StopContainerRequest&, api::StopContainerResponse*);
  Result<> RemoveContainer(const api::RemoveContainerRequest&, api::RemoveContainerResponse*);
  Result<> ListContainers(const api::ListContainersRequest&, api::ListContainersResponse*);
  Result<> ContainerStatus(const api::ContainerStatusRequest&, api::ContainerStatusResponse*);
  Result<> UpdateContainerResources(const api::UpdateContainerResourcesRequest&,
                                    api::UpdateContainerResourcesResponse*);
  Result<> ReopenContainerLog(const api::ReopenContainerLogRequest&,
                              api::ReopenContainerLogResponse*);
  Result<> CheckpointContainer(const api::CheckpointContainerRequest&,
                               api::CheckpointContainerResponse*);

  // stop: asked for when nobody waits for the answer any more; all that was started is killed.
  Result<> ExecSync(const api::ExecSyncRequest&, api::ExecSyncResponse*, std::stop_token stop = {});
  Result<> Exec(const api::ExecRequest&, api::ExecResponse*);
  Result<> Attach(const api::AttachRequest&, api::AttachResponse*);
  Result<> PortForward(const api::PortForwardRequest&, api::PortForwardResponse*);

  Result<> ContainerStats(const api::ContainerStatsRequest&, api::ContainerStatsResponse*);
  Result<> ListContainerStats(const api::ListContainerStatsRequest&,
                              api::ListContainerStatsResponse*);
  Result<> PodSandboxStats(const api::PodSandboxStatsRequest&, api::PodSandboxStatsResponse*);
  Result<> ListPodSandboxStats(const api::ListPodSandboxStatsRequest&,
                               api::ListPodSandboxStatsResponse*);
  Result<> ListMetricDescriptors(const api::ListMetricDescriptorsRequest&,
                                 api::ListMetricDescriptorsResponse*);
  Result<> ListPodSandboxMetrics(const api::ListPodSandboxMetricsRequest&,
                                 api::ListPodSandboxMetricsResponse*);
  // Stops and removes everything.
  Result<> RemoveAll();

 private:
  // The last that is written of a sandbox: where it is missing, the sandbox did not come up whole.
  static constexpr const char* kLastSandboxFile = "hosts";

  // status.cc
  const Result<>& UserNamespaces();

  // sandboxes.cc
  Result<> BringUp(const SandboxPtr& sandbox, const cni::AttachRequest& network);
  Result<> WriteSandboxFiles(const Sandbox& sandbox) const;
  Result<> Halt(const SandboxPtr& sandbox);
  Result<> Dispose(const SandboxPtr& sandbox);
  void Observe(Sandbox& sandbox);
  std::string SandboxDirectory(const std::string& id) const;

  // containers.cc
  Result<ContainerPtr> Assemble(const api::CreateContainerRequest& request,
                                const SandboxPtr& sandbox, const std::string& id,
                                runtime::ContainerSpec* spec);
  Result<std::map<int, std::vector<std::string>>> ResolveImageMounts(
      const api::ContainerConfig& config, const std::string& id);
  static std::string VolumeSnapshot(const std::string& id, int index);
  // What CreateContainer took of the image store: the container's layer and its image volumes.
  Result<> DeleteSnapshots(const std::string& id,
                           const google::protobuf::RepeatedPtrField<api::Mount>& mounts);
  Result<> Discard(const ContainerPtr& container);
  void Observe(Container& container);
  Result<ContainerPtr> FindRunning(const std::string& id) const;

  // recover.cc: appends to the event log what has not been told yet of the thing's way up to and
  // with this step, in order and each once, whichever thread comes first.
  void Tell(const ContainerPtr& container, api::ContainerEventType type);
  void Tell(const SandboxPtr& sandbox, api::ContainerEventType type);
  void Append(api::ContainerEventType type, const std::string& id, const Sandbox* sandbox);
  // recover.cc
  Result<> RecoverSandboxes();
  Result<> RecoverContainers();
  Result<> DropOrphans();

  const Deps deps_;
  Table table_;
  EventLog events_;
  std::mutex telling_;  // so that an event with newer statuses follows one with older
  StatsReader stats_;
  std::once_flag user_namespaces_probed_;
  Result<> user_namespaces_;
};

}  // namespace skiff::cri
