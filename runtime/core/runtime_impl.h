// RuntimeImpl: the Runtime of this machine. Tables of what there is, guarded by one mutex that is
// held only to read and change them; the work on one sandbox or container is put in order by its
// entry's own mutex.
#pragma once

#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>

#include "runtime/core/shim_link.h"
#include "runtime/linux/apparmor.h"
#include "runtime/linux/cgroup.h"
#include "runtime/oci/handlers.h"
#include "runtime/runtime.h"
#include "runtime/state/paths.h"
#include "runtime/state/records.h"

namespace skiff::runtime {

class RunningExec;

// Lock order: SandboxEntry::operation, ContainerEntry::operation, RuntimeImpl::mutex_.
struct SandboxEntry {
  std::mutex operation;
  // The rest is guarded by RuntimeImpl::mutex_.
  SandboxRecord record;
  SandboxState state = SandboxState::kCreated;
  pid_t pause_pid = 0;
  bool stopping = false;  // the end of pause and shim is our own doing
  std::shared_ptr<ShimLink> link;
  std::shared_ptr<PidRef> shim;  // null: not known
};

struct ContainerEntry {
  std::mutex operation;
  ContainerRecord record;
  ContainerState state = ContainerState::kCreated;
  bool listed = false;  // made: callers may see it
  pid_t pid = 0;
  ResolvedUser user;
  std::optional<WallTime> started;
  std::optional<ContainerExit> exit;
  // Cgroups of execs that have ended and left processes behind.
  std::vector<std::string> lingering_execs;
};

class RuntimeImpl final : public Runtime {
 public:
  RuntimeImpl(RuntimeConfig config, ExitCallback on_exit)
      : config_(std::move(config)), on_exit_(std::move(on_exit)), paths_(config_.state_dir) {}
  ~RuntimeImpl() override;
  Result<> Start();  // open.cc

  std::vector<HandlerStatus> Handlers() const override;
  Result<SandboxStatus> CreateSandbox(const SandboxSpec& spec) override;
  Result<> StartSandbox(const std::string& id) override;
  Result<> StopSandbox(const std::string& id) override;
  Result<> RemoveSandbox(const std::string& id) override;
  Result<ContainerStatus> CreateContainer(const ContainerSpec& spec) override;
  Result<> StartContainer(const std::string& id) override;
  Result<> SignalContainer(const std::string& id, int signal_number) override;
  Result<> StopContainer(const std::string& id, std::chrono::milliseconds timeout) override;
  Result<> RemoveContainer(const std::string& id) override;
  Result<std::unique_ptr<ExecProcess>> Exec(const ExecSpec& spec, Stdio stdio) override;
  Result<ExecOutput> ExecSync(const ExecSpec& spec, const ExecLimits& limits) override;
  Result<> Attach(const std::string& id, Stdio stdio) override;
  Result<> ResizeTerminal(const std::string& id, uint16_t rows, uint16_t columns) override;
  Result<> ReopenLog(const std::string& id) override;
  Result<> UpdateResources(const std::string& id, const ResourceSpec& resources) override;
  Result<> SetOomScore(const std::string& id, int score) override;
  Result<UniqueFd> ConnectToPort(const std::string& sandbox_id, uint16_t port) override;
  Result<SandboxStatus> Sandbox(const std::string& id) const override;
  Result<ContainerStatus> Container(const std::string& id) const override;
  std::vector<SandboxStatus> Sandboxes() const override;
  std::vector<ContainerStatus> Containers() const override;
  Result<CgroupStats> ContainerStats(const std::string& id) const override;
  Result<CgroupStats> SandboxStats(const std::string& id) const override;
  Result<CgroupMetrics> ContainerMetrics(const std::string& id) const override;
  Result<CgroupMetrics> SandboxMetrics(const std::string& id) const override;
  Result<> CheckUserNamespaces(const std::string& directory) const override;
  bool cgroup_v2() const override { return cgroups_->v2(); }
  std::vector<std::string> Degradations() const override;

 private:
  friend class RunningExec;
  using SandboxPtr = std::shared_ptr<SandboxEntry>;
  using ContainerPtr = std::shared_ptr<ContainerEntry>;

  struct ExecEntry {
    std::weak_ptr<RunningExec> handle;
    ContainerPtr container;
    std::string cgroup;
  };

  // open.cc: adoption of what an earlier daemon left.
  Result<> LockStateDirectory();
  Result<> RecoverSandboxes();
  Result<> RecoverSandbox(const std::string& id);
  Result<> AdoptShim(const SandboxPtr& sandbox);
  Result<> RecoverContainers();
  Result<> RecoverContainer(const std::string& id);
  Result<> SettleContainer(const ContainerPtr& container);
  void VoidContainer(const ContainerRecord& record);
  bool MakesCgroupParent(const std::string& path) const;
  Result<> RemoveSandboxCgroups(const SandboxRecord& record);
  void VoidSandbox(const SandboxRecord& record);
  void RemoveUnknown();

  // user_namespaces.cc
  // With the network namespace that it owns, where the pod has one of its own.
  Result<> PinUserNamespace(const SandboxRecord& record);
  Result<> ProbeUserNamespaces(const std::string& work) const;

  // sandboxes.cc
  Result<> PinNamespaces(const SandboxRecord& record);
  static Result<> UnpinNamespaces(const SandboxRecord& record);
  Result<> StartShim(const SandboxPtr& sandbox);
  Result<> StartPauseIn(const SandboxPtr& sandbox);
  Result<> EndShim(const SandboxPtr& sandbox);
  Result<> StopLocked(const SandboxPtr& sandbox);
  Result<> SetStage(const SandboxPtr& sandbox, Stage stage);
  SandboxStatus StatusOf(const SandboxEntry& sandbox) const;  // mutex_ held
  std::vector<std::string> ContainersOf(const std::string& sandbox_id) const;

  // containers.cc
  Result<> MakeContainer(const ContainerPtr& container, const SandboxPtr& sandbox);
  Result<> LaunchContainer(const ContainerPtr& container, const SandboxPtr& sandbox);
  Result<LaunchSpec> MakeLaunchSpec(const ContainerSpec& spec, const std::string& cgroup) const;
  Result<> RemoveLocked(const ContainerPtr& container);
  Result<> KillAndWait(const ContainerPtr& container);
  bool HasExited(const ContainerPtr& container) const;
  Result<> SendSignal(const ContainerPtr& container, int signal_number,
                      std::chrono::milliseconds patience) const;
  ContainerStatus StatusOf(const ContainerEntry& container) const;  // mutex_ held
  Result<> ReleaseContainer(const ContainerRecord& record);

  // oci.cc: what is different about a container that an OCI runtime makes.
  Result<> NameOciRuntime(const SandboxPtr& sandbox, ContainerRecord& record) const;
  Result<> AddOciLaunch(const ContainerRecord& record, const SandboxPtr& sandbox,
                        LaunchSpec& launch);
  std::string OciResourcesOf(const ContainerSpec& spec, const ResourceSpec& limits,
                             const std::string& cgroup) const;
  Result<> FinishOciCreate(const ContainerRecord& record, pid_t pid);
  Result<UniqueFd> OciStartSpec(const ContainerRecord& record) const;
  Result<> UpdateOci(const ContainerRecord& record, const ResourceSpec& limits) const;
  Result<> ReleaseOci(const ContainerRecord& record);

  // events.cc: on the thread of links_.
  std::shared_ptr<ShimLink> MakeLink(const SandboxPtr& sandbox, UniqueFd socket);
  void OnShimEvent(const SandboxPtr& sandbox, const Message& message);
  void OnShimClosed(const SandboxPtr& sandbox);
  void ApplyReport(const ContainerReport& report, std::vector<ExitEvent>& events);
  void MarkLost(ContainerEntry& container, std::vector<ExitEvent>& events);

  // exec.cc
  // UnknownOutcome when the supervisor has not answered within the patience; then nothing runs.
  Result<std::unique_ptr<ExecProcess>> ExecWithin(const ExecSpec& spec, Stdio stdio,
                                                  std::chrono::milliseconds patience);
  void OnExecExited(const ExecExited& event);
  void FailExecs(const std::string& sandbox_id);

  Result<SandboxPtr> NeedSandbox(const std::string& id) const;
  Result<ContainerPtr> NeedContainer(const std::string& id) const;
  // The container's shim, while it has one.
  Result<std::shared_ptr<ShimLink>> LinkOf(const std::string& sandbox_id) const;

  const RuntimeConfig config_;
  const ExitCallback on_exit_;
  const StatePaths paths_;
  std::string boot_id_;
  UniqueFd lock_;
  ShimPrograms programs_;
  std::unique_ptr<ShimNursery> nursery_;
  std::unique_ptr<OciHandlers> handlers_;
  bool overlay_single_layers_ = false;
  std::unique_ptr<Cgroups> cgroups_;
  mutable AppArmor apparmor_;
  std::unique_ptr<ShimLinks> links_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;  // some container's state
  std::map<std::string, SandboxPtr> sandboxes_;
  std::map<std::string, ContainerPtr> containers_;
  uint32_t last_exec_ = 0;
  std::map<uint32_t, ExecEntry> execs_;
};

}  // namespace skiff::runtime
