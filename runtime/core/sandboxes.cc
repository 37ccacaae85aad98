// Sandboxes: record, network namespace, supervisor, pause.

#include <signal.h>

#include <algorithm>

#include "runtime/core/runtime_impl.h"
#include "runtime/launch/sequence.h"
#include "runtime/linux/kill.h"
#include "runtime/linux/netns.h"

namespace skiff::runtime {
namespace {

constexpr std::chrono::seconds kShutdownPatience{10};
constexpr std::chrono::seconds kExitPatience{1};  // of a process that has closed its socket

}  // namespace

SandboxStatus RuntimeImpl::StatusOf(const SandboxEntry& sandbox) const {
  return {.spec = sandbox.record.spec,
          .state = sandbox.state,
          .created = sandbox.record.created,
          .netns_path = sandbox.record.netns_path,
          .cgroup_path = sandbox.record.cgroup_path,
          .pause_pid = sandbox.pause_pid};
}

// Whether the cgroup is ours to remove: it is not there yet, or another sandbox of ours made it.
// With mutex_ held.
bool RuntimeImpl::MakesCgroupParent(const std::string& path) const {
  if (!cgroups_->Exists(path)) return true;
  return std::any_of(sandboxes_.begin(), sandboxes_.end(), [&](const auto& entry) {
    const SandboxRecord& record = entry.second->record;
    return record.cgroup_path == path && record.made_cgroup_parent;
  });
}

// Whatever of a sandbox's cgroups is ours.
Result<> RuntimeImpl::RemoveSandboxCgroups(const SandboxRecord& record) {
  TRY(cgroups_->Remove(record.owns_cgroup ? record.cgroup_path : record.pause_cgroup));
  if (record.made_cgroup_parent) (void)cgroups_->RemoveIfEmpty(record.cgroup_path);
  if (!record.spec.handler.empty()) cgroups_->RemoveElsewhere(record.cgroup_path);
  return {};
}

Result<SandboxStatus> RuntimeImpl::CreateSandbox(const SandboxSpec& spec) {
  TRY(CheckSpec(spec));
  TRY(handlers_->Find(spec.handler));
  SandboxPtr sandbox;
  bool is_new = false;
  {
    std::lock_guard lock(mutex_);
    SandboxPtr& slot = sandboxes_[spec.id];
    is_new = !slot;
    if (is_new) slot = std::make_shared<SandboxEntry>();
    sandbox = slot;
    if (is_new) {
      SandboxRecord& record = sandbox->record;
      record.boot_id = boot_id_;
      record.spec = spec;
      record.created = Clock::Real().WallNow();
      if (spec.network == NamespaceMode::kPod)
        record.netns_path = config_.netns_dir + "/" + spec.id;
      if (!spec.user_namespace.empty()) record.userns_path = paths_.SandboxUserns(spec.id);
      record.owns_cgroup = spec.cgroup_parent.empty();
      record.cgroup_path =
          record.owns_cgroup ? config_.default_cgroup_parent + "/" + spec.id : spec.cgroup_parent;
      record.pause_cgroup = record.cgroup_path + "/" + spec.id;
      record.made_cgroup_parent = !record.owns_cgroup && MakesCgroupParent(record.cgroup_path);
    }
  }
  std::lock_guard operation(sandbox->operation);
  {
    std::lock_guard lock(mutex_);
    auto found = sandboxes_.find(spec.id);
    if (found == sandboxes_.end() || found->second != sandbox) {
      return Error(Code::kUnavailable, "sandbox " + spec.id + " is being removed");
    }
    if (Encode(sandbox->record.spec) != Encode(spec)) {
      return Error(Code::kAlreadyExists, "sandbox " + spec.id + " exists with another spec");
    }
    if (sandbox->record.stage != Stage::kMaking) return StatusOf(*sandbox);
  }
  Result<> made = RunSequence({
      {"record sandbox",
       [&] {
         Result<> folder = MakeDirectories(paths_.Sandbox(spec.id), 0700);
         return folder.ok() ? WriteRecord(paths_.SandboxRecord(spec.id), sandbox->record) : folder;
       },
       [&] { return RemoveTree(paths_.Sandbox(spec.id)); }},
      {"make namespaces", [&] { return PinNamespaces(sandbox->record); },
       [&] { return UnpinNamespaces(sandbox->record); }},
      {"record sandbox", [&] { return SetStage(sandbox, Stage::kMade); }, {}},
  });
  std::lock_guard lock(mutex_);
  if (!made.ok()) {
    sandboxes_.erase(spec.id);
    return std::move(made).error();
  }
  return StatusOf(*sandbox);
}

Result<> RuntimeImpl::PinNamespaces(const SandboxRecord& record) {
  if (!record.userns_path.empty()) return PinUserNamespace(record);
  return record.netns_path.empty() ? Result<>() : PinNetworkNamespace(record.netns_path);
}

Result<> RuntimeImpl::UnpinNamespaces(const SandboxRecord& record) {
  for (const std::string& path : {record.netns_path, record.userns_path}) {
    if (!path.empty()) TRY(UnpinNamespace(path));
  }
  return {};
}

Result<> RuntimeImpl::SetStage(const SandboxPtr& sandbox, Stage stage) {
  SandboxRecord record;
  {
    std::lock_guard lock(mutex_);
    record = sandbox->record;
  }
  record.stage = stage;
  TRY(WriteRecord(paths_.SandboxRecord(record.spec.id), record));
  std::lock_guard lock(mutex_);
  sandbox->record.stage = stage;
  return {};
}

Result<> RuntimeImpl::StartSandbox(const std::string& id) {
  SandboxPtr sandbox = TRY(NeedSandbox(id));
  std::lock_guard operation(sandbox->operation);
  {
    std::lock_guard lock(mutex_);
    if (sandbox->state == SandboxState::kReady) return {};
    if (sandbox->state == SandboxState::kStopped) {
      return Error(Code::kFailedPrecondition, "sandbox " + id + " has been stopped");
    }
    sandbox->stopping = false;
  }
  const SandboxRecord& record = sandbox->record;  // but for the stage it changes no more
  return RunSequence({
      {"record sandbox start", [&] { return SetStage(sandbox, Stage::kStarted); },
       [&] { return SetStage(sandbox, Stage::kMade); }},
      {"make sandbox cgroup", [&] { return cgroups_->CreateLeaf(record.pause_cgroup); },
       [&] { return cgroups_->Remove(record.pause_cgroup); }},
      {"start supervisor", [&] { return StartShim(sandbox); }, [&] { return EndShim(sandbox); }},
      {"start pause", [&] { return StartPauseIn(sandbox); }, {}},
  });
}

Result<> RuntimeImpl::StartShim(const SandboxPtr& sandbox) {
  SpawnedShim shim = TRY(nursery_->Start(paths_.Sandbox(sandbox->record.spec.id)));
  std::shared_ptr<ShimLink> link = MakeLink(sandbox, std::move(shim.control));
  {
    std::lock_guard lock(mutex_);
    sandbox->link = link;
    sandbox->shim = std::make_shared<PidRef>(std::move(shim.process));
  }
  return links_->Add(link);
}

Result<> RuntimeImpl::StartPauseIn(const SandboxPtr& sandbox) {
  const SandboxRecord& record = sandbox->record;
  CgroupFiles cgroup = cgroups_->LeafFiles(record.pause_cgroup);
  LaunchSpec launch;
  launch.kind = LaunchKind::kSandbox;
  launch.cgroup_task_files = cgroup.tasks;
  launch.sandbox = record.spec;
  launch.sandbox.client_data.clear();
  launch.netns_path = record.netns_path;
  const bool user_namespace = !record.userns_path.empty();
  launch.user_namespace = record.spec.user_namespace;
  launch.userns_path = record.userns_path;
  launch.new_pid_namespace = user_namespace;
  launch.scratch_dir = paths_.Sandbox(record.spec.id);
  UniqueFd spec = TRY(SealBytes("skiff-launch", Encode(launch)));
  StartPause request{
      .new_pid_namespace = record.spec.pid != NamespaceMode::kNode && !user_namespace,
      .kill_file = cgroup.kill,
      .exit_record_path = paths_.SandboxExit(record.spec.id),
      .cgroup = cgroup.unified};
  std::shared_ptr<ShimLink> link = TRY(LinkOf(record.spec.id));
  Message reply = TRY(link->Call(kStartPause, request, kStarted, {spec.get()}));
  Started started = TRY(Decode<Started>(reply.body));
  std::lock_guard lock(mutex_);
  sandbox->pause_pid = started.pid;
  sandbox->state = SandboxState::kReady;
  return {};
}

// Ends supervisor, pause and all containers, the hard way where the supervisor does not answer.
Result<> RuntimeImpl::EndShim(const SandboxPtr& sandbox) {
  std::shared_ptr<ShimLink> link;
  std::shared_ptr<PidRef> process;
  {
    std::lock_guard lock(mutex_);
    sandbox->stopping = true;
    link = sandbox->link;
    process = sandbox->shim;
  }
  if (!link || link->closed()) {
    if (!process) return {};
    (void)process->Signal(SIGKILL);  // it may only have lost the connection
    (void)process->WaitEnd(kExitPatience);
    return {};
  }
  for (const std::string& id : ContainersOf(sandbox->record.spec.id)) {
    Result<ContainerPtr> container = NeedContainer(id);
    if (container.ok() && !HasExited(*container)) {
      cgroups_->Thaw((*container)->record.cgroup_path);
    }
  }
  Result<Message> asked = link->Call(kShutdown, ContainerRef{}, kDone, {},
                                     std::chrono::milliseconds(kShutdownPatience));
  if (process && (!asked.ok() || !process->WaitEnd(kShutdownPatience).value_or(false))) {
    (void)process->Signal(SIGKILL);  // it may have ended meanwhile
    (void)process->WaitEnd(kShutdownPatience);
  }
  return {};
}

Result<> RuntimeImpl::StopLocked(const SandboxPtr& sandbox) {
  {
    std::lock_guard lock(mutex_);
    if (sandbox->record.stage == Stage::kStopped) return {};
  }
  TRY(EndShim(sandbox));
  // Whatever a supervisor that is gone left running.
  for (const std::string& id : ContainersOf(sandbox->record.spec.id)) {
    Result<ContainerPtr> container = NeedContainer(id);
    if (container.ok()) TRY(KillAndWait(*container));
  }
  TRY(cgroups_->Remove(sandbox->record.pause_cgroup));
  TRY(SetStage(sandbox, Stage::kStopped));
  std::lock_guard lock(mutex_);
  sandbox->state = SandboxState::kStopped;
  sandbox->pause_pid = 0;
  return {};
}

Result<> RuntimeImpl::StopSandbox(const std::string& id) {
  Result<SandboxPtr> sandbox = NeedSandbox(id);
  if (!sandbox.ok()) return {};
  std::lock_guard operation((*sandbox)->operation);
  return StopLocked(*sandbox).With("stop sandbox " + id);
}

Result<> RuntimeImpl::RemoveSandbox(const std::string& id) {
  Result<SandboxPtr> found = NeedSandbox(id);
  if (!found.ok()) return {};
  const SandboxPtr& sandbox = *found;
  std::lock_guard operation(sandbox->operation);
  {
    std::lock_guard lock(mutex_);
    auto still = sandboxes_.find(id);
    if (still == sandboxes_.end() || still->second != sandbox) return {};
  }
  auto remove = [&]() -> Result<> {
    TRY(StopLocked(sandbox));
    for (const std::string& container : ContainersOf(id)) TRY(RemoveContainer(container));
    const SandboxRecord& record = sandbox->record;
    TRY(UnpinNamespaces(record));
    TRY(RemoveSandboxCgroups(record));
    // The record goes last: until then it says what may be left.
    return RemoveTree(paths_.Sandbox(id));
  };
  TRY(remove().With("remove sandbox " + id));
  std::lock_guard lock(mutex_);
  sandboxes_.erase(id);
  return {};
}

Result<UniqueFd> RuntimeImpl::ConnectToPort(const std::string& sandbox_id, uint16_t port) {
  SandboxPtr sandbox = TRY(NeedSandbox(sandbox_id));
  return ConnectInNamespace(sandbox->record.netns_path, port);
}

Result<SandboxStatus> RuntimeImpl::Sandbox(const std::string& id) const {
  SandboxPtr sandbox = TRY(NeedSandbox(id));
  std::lock_guard lock(mutex_);
  return StatusOf(*sandbox);
}

std::vector<SandboxStatus> RuntimeImpl::Sandboxes() const {
  std::vector<SandboxStatus> list;
  std::lock_guard lock(mutex_);
  for (const auto& [id, sandbox] : sandboxes_) {
    if (sandbox->record.stage != Stage::kMaking) list.push_back(StatusOf(*sandbox));
  }
  return list;
}

Result<CgroupStats> RuntimeImpl::SandboxStats(const std::string& id) const {
  SandboxPtr sandbox = TRY(NeedSandbox(id));
  return cgroups_->Stats(sandbox->record.cgroup_path);
}

Result<CgroupMetrics> RuntimeImpl::SandboxMetrics(const std::string& id) const {
  SandboxPtr sandbox = TRY(NeedSandbox(id));
  return cgroups_->Metrics(sandbox->record.cgroup_path);
}

Result<RuntimeImpl::SandboxPtr> RuntimeImpl::NeedSandbox(const std::string& id) const {
  std::lock_guard lock(mutex_);
  auto found = sandboxes_.find(id);
  if (found == sandboxes_.end()) return Error(Code::kNotFound, "sandbox " + id + " not found");
  return found->second;
}

std::vector<std::string> RuntimeImpl::ContainersOf(const std::string& sandbox_id) const {
  std::vector<std::string> ids;
  std::lock_guard lock(mutex_);
  for (const auto& [id, container] : containers_) {
    if (container->record.spec.sandbox_id == sandbox_id) ids.push_back(id);
  }
  return ids;
}

Result<std::shared_ptr<ShimLink>> RuntimeImpl::LinkOf(const std::string& sandbox_id) const {
  SandboxPtr sandbox = TRY(NeedSandbox(sandbox_id));
  std::lock_guard lock(mutex_);
  if (!sandbox->link) {
    return Error(Code::kFailedPrecondition, "sandbox " + sandbox_id + " does not run");
  }
  return sandbox->link;
}

}  // namespace skiff::runtime
