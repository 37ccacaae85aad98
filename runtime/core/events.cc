// What shims tell: on the thread of ShimLinks, so nothing here blocks for long.

#include <signal.h>

#include "base/log.h"
#include "base/os/files.h"
#include "runtime/core/exec.h"
#include "runtime/core/runtime_impl.h"
#include "runtime/linux/kill.h"

namespace skiff::runtime {

std::shared_ptr<ShimLink> RuntimeImpl::MakeLink(const SandboxPtr& sandbox, UniqueFd socket) {
  // The link must not keep the sandbox alive, for the sandbox keeps the link.
  std::weak_ptr<SandboxEntry> weak = sandbox;
  auto with = [this, weak](auto handle) {
    if (SandboxPtr entry = weak.lock()) handle(entry);
  };
  return std::make_shared<ShimLink>(
      std::move(socket),
      ShimLink::Listener{
          .on_event =
              [this, with](const Message& message) {
                with([&](const SandboxPtr& entry) { OnShimEvent(entry, message); });
              },
          .on_closed = [this,
                        with] { with([&](const SandboxPtr& entry) { OnShimClosed(entry); }); }});
}

void RuntimeImpl::ApplyReport(const ContainerReport& report, std::vector<ExitEvent>& events) {
  auto found = containers_.find(report.id);
  if (found == containers_.end()) return;
  ContainerEntry& container = *found->second;
  if (container.state == ContainerState::kExited) return;  // told already
  container.state = report.state;
  container.user = report.user;
  container.pid = report.state == ContainerState::kExited ? 0 : report.pid;
  if (report.started) container.started = report.started;
  if (report.exit) container.exit = report.exit->ToExit();
  if (report.state == ContainerState::kExited && container.exit) {
    events.push_back({container.record.spec.sandbox_id, report.id, *container.exit});
  }
}

void RuntimeImpl::OnShimEvent(const SandboxPtr& sandbox, const Message& message) {
  std::vector<ExitEvent> events;
  switch (message.type) {
    case kContainerState:
    case kContainerExited: {
      Result<ContainerReport> report = Decode<ContainerReport>(message.body);
      if (!report.ok()) return;
      std::lock_guard lock(mutex_);
      ApplyReport(*report, events);
      changed_.notify_all();
      break;
    }
    case kExecExited: {
      Result<ExecExited> exited = Decode<ExecExited>(message.body);
      if (exited.ok()) OnExecExited(*exited);
      return;
    }
    case kPauseExited: {
      Result<PauseExited> exited = Decode<PauseExited>(message.body);
      std::lock_guard lock(mutex_);
      bool expected = sandbox->stopping;
      sandbox->state = SandboxState::kStopped;
      sandbox->pause_pid = 0;
      if (exited.ok() && !expected) {
        events.push_back({sandbox->record.spec.id, "", exited->exit.ToExit()});
      }
      break;
    }
    default: return;  // of a newer shim
  }
  for (const ExitEvent& event : events) on_exit_(event);
}

// What its supervisor wrote down still counts; without that it was killed, and nobody is left to
// say how it ended.
void RuntimeImpl::MarkLost(ContainerEntry& container, std::vector<ExitEvent>& events) {
  if (container.state == ContainerState::kExited) return;
  Result<std::string> text = ReadFile(paths_.ContainerExit(container.record.spec.id));
  if (text.ok()) {
    Result<ContainerReport> report = Decode<ContainerReport>(*text);
    if (report.ok()) ApplyReport(*report, events);
    if (container.state == ContainerState::kExited) return;
  }
  container.state = ContainerState::kExited;
  container.pid = 0;
  container.exit =
      ContainerExit{.status = {.code = 0, .signal = 9}, .finished = Clock::Real().WallNow()};
  const ContainerSpec& spec = container.record.spec;
  events.push_back({spec.sandbox_id, spec.id, *container.exit});
}

void RuntimeImpl::OnShimClosed(const SandboxPtr& sandbox) {
  const std::string id = sandbox->record.spec.id;
  std::vector<ExitEvent> events;
  std::vector<std::string> cgroups;
  bool expected = false;
  std::shared_ptr<PidRef> process;
  {
    std::lock_guard lock(mutex_);
    expected = sandbox->stopping;
    process = sandbox->shim;
    cgroups.push_back(sandbox->record.pause_cgroup);
    for (const auto& [name, container] : containers_) {
      if (container->record.spec.sandbox_id == id) cgroups.push_back(container->record.cgroup_path);
    }
  }
  // Whoever stops the sandbox does all this; other pods are not to wait for it.
  if (!expected) {
    // Without its supervisor nobody reads a container's output or learns how it ends: it ends now.
    log::Warning("the supervisor of a sandbox is gone; its containers are killed",
                 {{"sandbox", id}});
    for (const std::string& path : cgroups) {
      CgroupFiles files = cgroups_->LeafFiles(path);
      (void)KillCgroup(files.kill, files.members);  // RemoveSandbox tries again
    }
    // One that lives and has only lost the connection is of no use to anybody any more.
    if (process) (void)process->Signal(SIGKILL);
  }
  {
    std::lock_guard lock(mutex_);
    bool ready = sandbox->state == SandboxState::kReady;
    if (!expected) sandbox->state = SandboxState::kStopped;
    sandbox->pause_pid = 0;
    sandbox->link.reset();
    for (const auto& [name, container] : containers_) {
      if (container->record.spec.sandbox_id == id) MarkLost(*container, events);
    }
    if (ready && !expected) {
      events.push_back(
          {id, "", {.status = {.code = 0, .signal = 9}, .finished = Clock::Real().WallNow()}});
    }
    changed_.notify_all();
  }
  FailExecs(id);
  for (const ExitEvent& event : events) on_exit_(event);
}

}  // namespace skiff::runtime
