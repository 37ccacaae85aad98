// Opening the state directory, and adopting what an earlier daemon left.
//
// A record is all that is believed. What it says of another boot is void; what was being made when
// the daemon died is undone, for nobody was told of it; what runs is found through its shim.

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>

#include "base/log.h"
#include "base/random.h"
#include "runtime/core/runtime_impl.h"
#include "runtime/linux/kill.h"
#include "runtime/linux/mounts.h"
#include "runtime/linux/netns.h"

namespace skiff::runtime {

Result<std::unique_ptr<Runtime>> Runtime::Open(RuntimeConfig config, ExitCallback on_exit) {
  auto runtime = std::make_unique<RuntimeImpl>(std::move(config), std::move(on_exit));
  TRY(runtime->Start());
  return std::unique_ptr<Runtime>(std::move(runtime));
}

RuntimeImpl::~RuntimeImpl() {
  if (links_) links_->Stop();
}

Result<> RuntimeImpl::Start() {
  TRY(CheckCgroupPath(config_.default_cgroup_parent));
  TRY(MakeDirectories(paths_.Sandboxes(), 0700));
  TRY(MakeDirectories(paths_.Containers(), 0700));
  TRY(MakeDirectories(config_.netns_dir));
  TRY(LockStateDirectory());
  boot_id_ = TRY(ReadBootId());
  programs_ = TRY(ShimPrograms::Load(config_.binary_dir).With("runtime programs"));
  nursery_ = std::make_unique<ShimNursery>(programs_);
  TRY(nursery_->Prepare());
  handlers_ = TRY(OciHandlers::Open(config_.oci_handlers, paths_.root()));
  cgroups_ = TRY(Cgroups::Open());
  links_ = TRY(ShimLinks::Open());
  overlay_single_layers_ = !config_.force_fallbacks && OverlayTakesSingleLayers();
  // An exec that outlived an earlier daemon must not be taken for one of ours.
  std::string seed = RandomBytes(sizeof last_exec_);
  seed.copy(reinterpret_cast<char*>(&last_exec_), sizeof last_exec_);
  last_exec_ &= 0x3fffffff;

  // Containers before their shims are asked, so that what those report finds them.
  TRY(RecoverContainers());
  TRY(RecoverSandboxes());
  std::vector<ContainerPtr> all;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [id, container] : containers_) all.push_back(container);
  }
  for (const ContainerPtr& container : all) {
    Result<> settled = SettleContainer(container);
    if (!settled.ok()) {
      log::Warning("what is left of a container cannot be ended; its removal tries again",
                   {{"container", container->record.spec.id}, {"error", settled.error()}});
    }
  }
  RemoveUnknown();
  return {};
}

// Cgroups below our own parent and pinned namespaces that no record names: of a state directory
// that was lost.
void RuntimeImpl::RemoveUnknown() {
  auto sweep = [&](const std::string& what, const std::vector<std::string>& names, auto remove) {
    for (const std::string& name : names) {
      // A record that cannot be read counts too: its directory is there.
      if (!CheckId(name).ok() || PathExists(paths_.Sandbox(name))) continue;
      Result<> removed = remove(name);
      if (removed.ok()) {
        log::Info("removed what no record names", {{"kind", what}, {"name", name}});
      } else {
        log::Warning("cannot remove what no record names; trying again at the next start",
                     {{"kind", what}, {"name", name}, {"error", removed.error()}});
      }
    }
  };
  sweep("cgroup", cgroups_->Children(config_.default_cgroup_parent), [&](const std::string& name) {
    return cgroups_->Remove(config_.default_cgroup_parent + "/" + name);
  });
  sweep("network namespace", ListDirectory(config_.netns_dir).value_or({}),
        [&](const std::string& name) { return UnpinNamespace(config_.netns_dir + "/" + name); });
}

Result<> RuntimeImpl::LockStateDirectory() {
  lock_ = TRY(OpenFile(paths_.Lock(), O_RDWR | O_CREAT, 0600));
  if (::flock(lock_.get(), LOCK_EX | LOCK_NB) == 0) return {};
  if (errno == EWOULDBLOCK) {
    return Error(Code::kFailedPrecondition, paths_.root() + " is in use by another process");
  }
  return Error::Sys(errno, "flock", paths_.Lock());
}

Result<> RuntimeImpl::RecoverContainers() {
  for (const std::string& id : TRY(ListDirectory(paths_.Containers()))) {
    Result<> recovered = RecoverContainer(id);
    if (!recovered.ok()) {
      log::Warning("a container's record cannot be used; leaving its directory alone",
                   {{"container", id}, {"error", recovered.error()}});
    }
  }
  return {};
}

Result<> RuntimeImpl::RecoverContainer(const std::string& id) {
  TRY(CheckId(id));
  if (!PathExists(paths_.ContainerRecord(id))) return RemoveTree(paths_.Container(id));
  auto record = TRY(ReadRecord<ContainerRecord>(paths_.ContainerRecord(id)));
  if (record.boot_id != boot_id_) {
    VoidContainer(record);
    return {};
  }
  auto container = std::make_shared<ContainerEntry>();
  container->record = std::move(record);
  std::lock_guard lock(mutex_);
  containers_[id] = std::move(container);
  return {};
}

// Of another boot: nothing of it is there but files.
void RuntimeImpl::VoidContainer(const ContainerRecord& record) {
  Result<> released = ReleaseContainer(record);
  if (released.ok()) return;
  log::Warning("cannot remove a container of an earlier boot; trying again at the next start",
               {{"container", record.spec.id}, {"error", released.error()}});
}

void RuntimeImpl::VoidSandbox(const SandboxRecord& record) {
  auto remove = [&]() -> Result<> {
    TRY(UnpinNamespaces(record));
    TRY(RemoveSandboxCgroups(record));
    return RemoveTree(paths_.Sandbox(record.spec.id));
  };
  Result<> removed = remove();
  if (removed.ok()) return;
  log::Warning("cannot remove what is left of a sandbox; trying again at the next start",
               {{"sandbox", record.spec.id}, {"error", removed.error()}});
}

Result<> RuntimeImpl::RecoverSandboxes() {
  for (const std::string& id : TRY(ListDirectory(paths_.Sandboxes()))) {
    Result<> recovered = RecoverSandbox(id);
    if (!recovered.ok()) {
      log::Warning("a sandbox's record cannot be used; leaving its directory alone",
                   {{"sandbox", id}, {"error", recovered.error()}});
    }
  }
  return {};
}

Result<> RuntimeImpl::RecoverSandbox(const std::string& id) {
  TRY(CheckId(id));
  if (!PathExists(paths_.SandboxRecord(id))) return RemoveTree(paths_.Sandbox(id));
  auto record = TRY(ReadRecord<SandboxRecord>(paths_.SandboxRecord(id)));
  if (record.boot_id != boot_id_ || record.stage == Stage::kMaking) {
    VoidSandbox(record);
    return {};
  }
  auto sandbox = std::make_shared<SandboxEntry>();
  sandbox->record = std::move(record);
  {
    std::lock_guard lock(mutex_);
    sandboxes_[id] = sandbox;
  }
  if (sandbox->record.stage == Stage::kMade) return {};
  if (sandbox->record.stage == Stage::kStarted) {
    Result<> adopted = AdoptShim(sandbox);
    if (adopted.ok()) return {};
    log::Debug("no supervisor to adopt", {{"sandbox", id}, {"error", adopted.error()}});
  }
  // Its supervisor is gone: what it left is ended by SettleContainer and the next StopSandbox.
  std::lock_guard lock(mutex_);
  sandbox->state = SandboxState::kStopped;
  return {};
}

Result<> RuntimeImpl::AdoptShim(const SandboxPtr& sandbox) {
  UniqueFd socket = TRY(ConnectToShim(paths_.Sandbox(sandbox->record.spec.id)));
  std::shared_ptr<ShimLink> link = MakeLink(sandbox, std::move(socket));
  TRY(links_->Add(link));
  Message reply = TRY(link->Call(kHello, ShimHello{}, kHelloReply));
  auto hello = TRY(Decode<HelloReply>(reply.body));
  // The socket's peer is the shim, so its pid is its own while the link is open.
  Result<PidRef> process = PidRef::Open(hello.shim_pid);
  {
    std::lock_guard lock(mutex_);
    sandbox->link = link;
    if (process.ok()) sandbox->shim = std::make_shared<PidRef>(std::move(*process));
    sandbox->pause_pid = hello.pause_pid;
    sandbox->state = SandboxState::kReady;
  }
  if (hello.pause_pid != 0) return {};
  // Its start was cut off, or pause has died: there is nothing to go on with.
  TRY(EndShim(sandbox));
  return Error(Code::kNotFound, "pause does not run");
}

// After all shims have told what they have.
Result<> RuntimeImpl::SettleContainer(const ContainerPtr& container) {
  const std::string& id = container->record.spec.id;
  bool known = false;
  {
    std::lock_guard lock(mutex_);
    known = container->pid != 0 || container->state == ContainerState::kExited;
  }
  if (container->record.stage == Stage::kMaking) {
    // Nobody was told of it.
    Result<> removed = RemoveLocked(container);
    if (!removed.ok()) {
      log::Warning("cannot undo an unfinished container; trying again at the next start",
                   {{"container", id}, {"error", removed.error()}});
    }
    std::lock_guard lock(mutex_);
    containers_.erase(id);
    return {};
  }
  // Execs whose caller died with the earlier daemon.
  for (const std::string& child : cgroups_->Children(container->record.cgroup_path)) {
    if (child.starts_with("exec-")) {
      (void)cgroups_->Remove(container->record.cgroup_path + "/" + child);
    }
  }
  std::vector<ExitEvent> events;
  {
    std::lock_guard lock(mutex_);
    container->listed = true;
    if (known) return {};
    MarkLost(*container, events);
  }
  CgroupFiles cgroup = cgroups_->LeafFiles(container->record.cgroup_path);
  TRY(KillCgroup(cgroup.kill, cgroup.members));
  for (const ExitEvent& event : events) on_exit_(event);
  return {};
}

}  // namespace skiff::runtime
