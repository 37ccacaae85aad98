// Containers: record, layer, cgroup, launch.

#include <dirent.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/log.h"
#include "runtime/core/runtime_impl.h"
#include "runtime/launch/sequence.h"
#include "runtime/linux/capabilities.h"
#include "runtime/linux/devices.h"
#include "runtime/linux/kill.h"
#include "runtime/linux/mountinfo.h"
#include "runtime/linux/seccomp.h"
#include "runtime/linux/userns.h"

namespace skiff::runtime {
namespace {

constexpr std::chrono::seconds kKillPatience{20};
// How long a killed container's end may stay untold before it is looked for.
constexpr std::chrono::seconds kReportPatience{2};
// For a supervisor's answer that is good to have, but not needed.
constexpr std::chrono::seconds kCourtesyPatience{3};

// The root directory of the container is that of its writable layer.
Result<> GiveToPodRoot(const std::string& path, const SandboxSpec& sandbox) {
  const IdMappings& mappings = sandbox.user_namespace;
  std::optional<uint32_t> uid = HostId(mappings.uids, 0);
  std::optional<uint32_t> gid = HostId(mappings.gids, 0);
  if (uid && gid && ::chown(path.c_str(), *uid, *gid) != 0) return Error::Sys(errno, "chown", path);
  return {};
}

}  // namespace

ContainerStatus RuntimeImpl::StatusOf(const ContainerEntry& container) const {
  return {.spec = container.record.spec,
          .state = container.state,
          .created = container.record.created,
          .started = container.started,
          .exit = container.exit,
          .pid = container.pid,
          .user = container.user,
          .cgroup_path = container.record.cgroup_path};
}

Result<ContainerStatus> RuntimeImpl::CreateContainer(const ContainerSpec& spec) {
  TRY(CheckSpec(spec));
  SandboxPtr sandbox = TRY(NeedSandbox(spec.sandbox_id));
  const std::string apparmor = TRY(apparmor_.ProfileFor(spec.apparmor));  // may run a program
  ContainerPtr container;
  {
    std::lock_guard lock(mutex_);
    if (sandbox->state != SandboxState::kReady || sandbox->stopping) {
      return Error(Code::kFailedPrecondition, "sandbox " + spec.sandbox_id + " is not ready");
    }
    if (!sandbox->record.userns_path.empty() && spec.pid == NamespaceMode::kNode) {
      return Error(Code::kInvalidArgument,
                   "a pod with a user namespace cannot use the node's pid namespace");
    }
    ContainerPtr& slot = containers_[spec.id];
    if (!slot) {
      slot = std::make_shared<ContainerEntry>();
      slot->record = {.boot_id = boot_id_,
                      .spec = spec,
                      .created = Clock::Real().WallNow(),
                      .cgroup_path = sandbox->record.cgroup_path + "/" + spec.id,
                      .apparmor_profile = apparmor};
      Result<> named = NameOciRuntime(sandbox, slot->record);
      if (!named.ok()) {
        containers_.erase(spec.id);
        return std::move(named).error();
      }
    }
    container = slot;
  }
  std::lock_guard operation(container->operation);
  {
    std::lock_guard lock(mutex_);
    auto found = containers_.find(spec.id);
    if (found == containers_.end() || found->second != container) {
      return Error(Code::kUnavailable, "container " + spec.id + " is being removed");
    }
    if (Encode(container->record.spec) != Encode(spec)) {
      return Error(Code::kAlreadyExists, "container " + spec.id + " exists with another spec");
    }
    if (container->listed) return StatusOf(*container);
  }
  Result<> made = MakeContainer(container, sandbox);
  std::lock_guard lock(mutex_);
  if (!made.ok()) {
    containers_.erase(spec.id);
    return std::move(made).error();
  }
  container->listed = true;
  return StatusOf(*container);
}

Result<> RuntimeImpl::MakeContainer(const ContainerPtr& container, const SandboxPtr& sandbox) {
  const ContainerRecord& record = container->record;
  const ContainerSpec& spec = record.spec;
  TRY(CheckPropagation(spec.mounts));
  return RunSequence({
      {"record container",
       [&] {
         Result<> folder = MakeDirectories(paths_.Container(spec.id), 0700);
         return folder.ok() ? WriteRecord(paths_.ContainerRecord(spec.id), record) : folder;
       },
       [&] { return RemoveTree(paths_.Container(spec.id)); }},
      {"make container layer",
       [&]() -> Result<> {
         if (spec.rootfs.writable_dir.empty()) return {};
         TRY(MakeDirectories(spec.rootfs.writable_dir + "/upper"));
         TRY(GiveToPodRoot(spec.rootfs.writable_dir + "/upper", sandbox->record.spec));
         return MakeDirectories(spec.rootfs.writable_dir + "/work", 0700);
       },
       [&] {
         const std::string& path = spec.rootfs.writable_dir;
         return path.empty() ? Result<>() : RemoveTree(path);
       }},
      {"make container cgroup",
       [&]() -> Result<> {
         TRY(cgroups_->Create(record.cgroup_path, spec.resources));
         if (spec.privileged) return {};
         return cgroups_->RestrictDevices(record.cgroup_path, TRY(DeviceRules(spec.devices)));
       },
       [&] { return cgroups_->Remove(record.cgroup_path); }},
      {"create container", [&] { return LaunchContainer(container, sandbox); },
       [&]() -> Result<> {
         TRY(KillAndWait(container));
         return ReleaseOci(record);
       }},
      {"record container",
       [&]() -> Result<> {
         ContainerRecord made = record;
         made.stage = Stage::kMade;
         TRY(WriteRecord(paths_.ContainerRecord(spec.id), made));
         std::lock_guard lock(mutex_);
         container->record.stage = Stage::kMade;
         return {};
       },
       {}},
  });
}

Result<LaunchSpec> RuntimeImpl::MakeLaunchSpec(const ContainerSpec& spec,
                                               const std::string& cgroup) const {
  LaunchSpec launch;
  SandboxPtr sandbox = TRY(NeedSandbox(spec.sandbox_id));
  launch.user_namespace = sandbox->record.spec.user_namespace;
  launch.userns_path = sandbox->record.userns_path;
  launch.host_network = sandbox->record.spec.network == NamespaceMode::kNode;
  launch.cgroup_task_files = cgroups_->Files(cgroup).tasks;
  launch.container = spec;
  launch.container.client_data.clear();
  launch.container.seccomp.profile_json.clear();
  launch.seccomp_filter = TRY(SeccompFilterFor(spec.seccomp, spec.capabilities.bounding));
  return launch;
}

Result<> RuntimeImpl::LaunchContainer(const ContainerPtr& container, const SandboxPtr& sandbox) {
  const ContainerSpec& spec = container->record.spec;
  LaunchSpec launch = TRY(MakeLaunchSpec(spec, container->record.cgroup_path));
  launch.kind = LaunchKind::kContainer;
  launch.apparmor_profile = container->record.apparmor_profile;
  launch.scratch_dir = paths_.Container(spec.id);
  launch.overlay_single_layers = overlay_single_layers_;
  launch.cgroup_hierarchies = cgroups_->MountableHierarchies();
  launch.ipc = sandbox->record.spec.ipc;
  launch.devices = TRY(DeviceNodes(spec));
  const bool user_namespace = !launch.user_namespace.empty();
  launch.new_pid_namespace = user_namespace && spec.pid == NamespaceMode::kContainer;
  const bool oci = !container->record.oci_command.empty();
  if (oci) TRY(AddOciLaunch(container->record, sandbox, launch));
  UniqueFd sealed = TRY(SealBytes("skiff-launch", Encode(launch)));

  CgroupFiles cgroup = cgroups_->Files(container->record.cgroup_path);
  CreateContainerRequest request{.id = spec.id,
                                 .pid = spec.pid,
                                 .target_id = spec.target_id,
                                 .terminal = spec.terminal,
                                 .stdin_open = spec.stdin_open,
                                 .stdin_once = spec.stdin_once,
                                 .log = spec.log,
                                 .kill_file = cgroup.kill,
                                 .procs_file = cgroup.members,
                                 .oom_counter_file = cgroup.oom_counter,
                                 .exit_record_path = paths_.ContainerExit(spec.id),
                                 .cgroup = cgroup.unified,
                                 .bundle = launch.oci.bundle,
                                 .user_namespace = user_namespace};
  std::shared_ptr<ShimLink> link = TRY(LinkOf(spec.sandbox_id));
  Message reply = TRY(link->Call(kCreateContainer, request, kStarted, {sealed.get()}));
  Started started = TRY(Decode<Started>(reply.body));
  if (oci) TRY(FinishOciCreate(container->record, started.pid));
  std::lock_guard lock(mutex_);
  container->user = started.user;
  // It may have ended already: its event came behind the reply, but on another thread.
  if (container->state == ContainerState::kCreated) container->pid = started.pid;
  return {};
}

Result<> RuntimeImpl::StartContainer(const std::string& id) {
  ContainerPtr container = TRY(NeedContainer(id));
  std::lock_guard operation(container->operation);
  {
    std::lock_guard lock(mutex_);
    if (container->state == ContainerState::kRunning) return {};
    if (container->state == ContainerState::kExited) {
      return Error(Code::kFailedPrecondition, "container " + id + " has exited");
    }
  }
  std::shared_ptr<ShimLink> link = TRY(LinkOf(container->record.spec.sandbox_id));
  UniqueFd spec;
  std::vector<int> fds;
  if (!container->record.oci_command.empty()) {
    spec = TRY(OciStartSpec(container->record));
    fds.push_back(spec.get());
  }
  Message reply = TRY(link->Call(kStartContainer, ContainerRef{id}, kDone, fds));
  // The supervisor's time, which the next daemon is told too.
  ContainerReport report = TRY(Decode<ContainerReport>(reply.body));
  std::lock_guard lock(mutex_);
  // Unless its end has been heard of already.
  if (container->state == ContainerState::kCreated) {
    container->state = ContainerState::kRunning;
    container->started = report.started;
  }
  return {};
}

Result<> RuntimeImpl::SignalContainer(const std::string& id, int signal_number) {
  return SendSignal(TRY(NeedContainer(id)), signal_number, kShimPatience);
}

Result<> RuntimeImpl::SendSignal(const ContainerPtr& container, int signal_number,
                                 std::chrono::milliseconds patience) const {
  const ContainerSpec& spec = container->record.spec;
  std::shared_ptr<ShimLink> link = TRY(LinkOf(spec.sandbox_id));
  SignalContainerRequest request{spec.id, signal_number};
  TRY(link->Call(kSignalContainer, request, kDone, {}, patience));
  return {};
}

bool RuntimeImpl::HasExited(const ContainerPtr& container) const {
  std::lock_guard lock(mutex_);
  return container->state == ContainerState::kExited;
}

Result<> RuntimeImpl::KillAndWait(const ContainerPtr& container) {
  CgroupFiles cgroup = cgroups_->LeafFiles(container->record.cgroup_path);
  TRY(KillCgroup(cgroup.kill, cgroup.members));
  std::unique_lock lock(mutex_);
  auto exited = [&] { return container->state == ContainerState::kExited; };
  // Never launched, or lost: no event will come.
  if (container->pid == 0 || changed_.wait_for(lock, kReportPatience, exited)) return {};
  Result<PidRef> process = PidRef::Open(container->pid);
  lock.unlock();
  cgroups_->Thaw(container->record.cgroup_path);
  bool dead = !process.ok() || process->WaitEnd(kKillPatience).value_or(false);
  lock.lock();
  if (changed_.wait_for(lock, kReportPatience, exited)) return {};
  if (!dead) {
    return Error(Code::kDeadlineExceeded,
                 "container " + container->record.spec.id + " does not die");
  }
  // Its supervisor is stopped, or stuck itself, and will tell nobody.
  std::vector<ExitEvent> events;
  MarkLost(*container, events);
  changed_.notify_all();
  lock.unlock();
  log::Warning("a container was killed and its supervisor does not tell",
               {{"container", container->record.spec.id}});
  for (const ExitEvent& event : events) on_exit_(event);
  return {};
}

Result<> RuntimeImpl::StopContainer(const std::string& id, std::chrono::milliseconds timeout) {
  Result<ContainerPtr> found = NeedContainer(id);
  if (!found.ok()) return {};
  const ContainerPtr& container = *found;
  bool running = false;
  {
    std::lock_guard lock(mutex_);
    if (container->state == ContainerState::kExited) return {};
    running = container->state == ContainerState::kRunning;
  }
  // Without the operation lock: a kill must not wait for anybody.
  if (running && timeout.count() > 0) {
    auto deadline = std::chrono::steady_clock::now() + timeout;
    // A supervisor that does not answer takes no more than the container's own time.
    Result<> signalled = SendSignal(container, container->record.spec.stop_signal,
                                    std::min<std::chrono::milliseconds>(timeout, kShimPatience));
    std::unique_lock lock(mutex_);
    auto ended = [&] { return container->state == ContainerState::kExited; };
    if (signalled.ok() && changed_.wait_until(lock, deadline, ended)) return {};
    if (ended()) return {};
  }
  return KillAndWait(container);
}

Result<> RuntimeImpl::RemoveContainer(const std::string& id) {
  Result<ContainerPtr> found = NeedContainer(id);
  if (!found.ok()) return {};
  std::lock_guard operation((*found)->operation);
  {
    std::lock_guard lock(mutex_);
    auto still = containers_.find(id);
    if (still == containers_.end() || still->second != *found) return {};
  }
  TRY(RemoveLocked(*found).With("remove container " + id));
  std::lock_guard lock(mutex_);
  containers_.erase(id);
  return {};
}

Result<> RuntimeImpl::RemoveLocked(const ContainerPtr& container) {
  const ContainerRecord& record = container->record;
  TRY(KillAndWait(container));
  Result<std::shared_ptr<ShimLink>> link = LinkOf(record.spec.sandbox_id);
  if (link.ok() && !(*link)->closed()) {
    // A shim that has gone meanwhile has forgotten everything; one that does not answer will keep
    // a few bytes, of a container that is dead.
    Result<Message> told =
        (*link)->Call(kForgetContainer, ContainerRef{record.spec.id}, kDone, {}, kCourtesyPatience);
    bool may_remember = told.ok() || told.error().code() == Code::kUnavailable ||
                        told.error().code() == Code::kUnknownOutcome;
    if (!may_remember) return std::move(told).error();
  }
  return ReleaseContainer(record);
}

// What the record says there may be. The record goes last.
Result<> RuntimeImpl::ReleaseContainer(const ContainerRecord& record) {
  TRY(ReleaseOci(record));
  TRY(cgroups_->Remove(record.cgroup_path));
  const std::string& layer = record.spec.rootfs.writable_dir;
  if (!layer.empty()) TRY(RemoveTree(layer));
  return RemoveTree(paths_.Container(record.spec.id));
}

Result<> RuntimeImpl::UpdateResources(const std::string& id, const ResourceSpec& resources) {
  ContainerPtr container = TRY(NeedContainer(id));
  std::lock_guard operation(container->operation);
  TRY(UpdateOci(container->record, resources).With("update container " + id));
  return cgroups_->Update(container->record.cgroup_path, resources).With("update container " + id);
}

Result<> RuntimeImpl::SetOomScore(const std::string& id, int score) {
  ContainerPtr container = TRY(NeedContainer(id));
  std::lock_guard operation(container->operation);
  std::string members = TRY(ReadFile(cgroups_->Files(container->record.cgroup_path).members));
  std::string_view rest = members;
  while (!rest.empty()) {
    std::string_view pid = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), pid.size() + 1));
    Result<> set =
        WriteControlFile("/proc/" + std::string(pid) + "/oom_score_adj", std::to_string(score));
    // It may have ended; without CAP_SYS_RESOURCE a lower score than it was born with is refused.
    int cause = set.ok() ? 0 : set.error().sys_errno();
    if (cause != 0 && cause != ENOENT && cause != ESRCH && cause != EACCES) return set;
  }
  return {};
}

// In words, for Status and the log.
std::vector<std::string> RuntimeImpl::Degradations() const {
  std::vector<std::string> list = cgroups_->Degradations();
  if (!HasCapability(CAP_SYS_RESOURCE)) {
    std::string own = ReadFile("/proc/self/oom_score_adj").value_or("0");
    while (own.ends_with('\n')) own.pop_back();
    list.push_back("capability CAP_SYS_RESOURCE is missing: an oom_score_adj below " + own +
                   " stays at " + own);
  }
  if (std::string why = apparmor_.Degradation(); !why.empty()) list.push_back(std::move(why));
  return list;
}

Result<ContainerStatus> RuntimeImpl::Container(const std::string& id) const {
  ContainerPtr container = TRY(NeedContainer(id));
  std::lock_guard lock(mutex_);
  if (!container->listed) return Error(Code::kNotFound, "container " + id + " not found");
  return StatusOf(*container);
}

std::vector<ContainerStatus> RuntimeImpl::Containers() const {
  std::vector<ContainerStatus> list;
  std::lock_guard lock(mutex_);
  for (const auto& [id, container] : containers_) {
    if (container->listed) list.push_back(StatusOf(*container));
  }
  return list;
}

Result<CgroupStats> RuntimeImpl::ContainerStats(const std::string& id) const {
  ContainerPtr container = TRY(NeedContainer(id));
  return cgroups_->Stats(container->record.cgroup_path);
}

Result<CgroupMetrics> RuntimeImpl::ContainerMetrics(const std::string& id) const {
  ContainerPtr container = TRY(NeedContainer(id));
  return cgroups_->Metrics(container->record.cgroup_path);
}

Result<RuntimeImpl::ContainerPtr> RuntimeImpl::NeedContainer(const std::string& id) const {
  std::lock_guard lock(mutex_);
  auto found = containers_.find(id);
  if (found == containers_.end()) return Error(Code::kNotFound, "container " + id + " not found");
  return found->second;
}

}  // namespace skiff::runtime
