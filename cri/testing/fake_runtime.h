// A runtime without processes: it keeps states, obeys, and fails where a test says so.
#pragma once

#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "runtime/runtime.h"

namespace skiff::cri::testing {

class FakeRuntime : public runtime::Runtime {
 public:
  using SandboxState = runtime::SandboxState;
  using ContainerState = runtime::ContainerState;

  // The next call of this name ("StartSandbox") fails with Internal.
  void FailNext(const std::string& call) {
    std::lock_guard lock(mutex_);
    failures_.insert(call);
  }
  // The container's process ends; the test calls the service's OnExit.
  runtime::ExitEvent Exit(const std::string& id, int code, bool oom_killed = false) {
    std::lock_guard lock(mutex_);
    return EndLocked(id, {code, 0}, oom_killed);
  }
  std::vector<std::string> calls() const {
    std::lock_guard lock(mutex_);
    return calls_;
  }

  std::vector<runtime::HandlerStatus> Handlers() const override {
    return {{.recursive_read_only_mounts = true},
            {.name = "crun", .version = "crun version 1", .recursive_read_only_mounts = true}};
  }

  Result<runtime::SandboxStatus> CreateSandbox(const runtime::SandboxSpec& spec) override {
    std::lock_guard lock(mutex_);
    TRY(Begin("CreateSandbox"));
    if (!spec.handler.empty() && spec.handler != "crun") {
      return Error(Code::kNotFound, "no runtime handler named \"" + spec.handler + "\"");
    }
    runtime::SandboxStatus& status = sandboxes_[spec.id];
    status.spec = spec;
    status.created = Clock::Real().WallNow();
    status.netns_path = "/run/netns/" + spec.id;
    return status;
  }
  Result<> StartSandbox(const std::string& id) override {
    std::lock_guard lock(mutex_);
    TRY(Begin("StartSandbox"));
    sandboxes_.at(id).state = SandboxState::kReady;
    return {};
  }
  Result<> StopSandbox(const std::string& id) override {
    std::lock_guard lock(mutex_);
    TRY(Begin("StopSandbox"));
    if (!sandboxes_.contains(id)) return {};
    for (auto& [container_id, container] : containers_) {
      if (container.spec.sandbox_id == id && container.state == ContainerState::kRunning) {
        EndLocked(container_id, {0, 9}, false);
      }
    }
    sandboxes_[id].state = SandboxState::kStopped;
    return {};
  }
  Result<> RemoveSandbox(const std::string& id) override {
    std::lock_guard lock(mutex_);
    TRY(Begin("RemoveSandbox"));
    std::erase_if(containers_, [&](const auto& c) { return c.second.spec.sandbox_id == id; });
    sandboxes_.erase(id);
    return {};
  }

  Result<runtime::ContainerStatus> CreateContainer(const runtime::ContainerSpec& spec) override {
    std::lock_guard lock(mutex_);
    TRY(Begin("CreateContainer"));
    runtime::ContainerStatus& status = containers_[spec.id];
    status.spec = spec;
    status.created = Clock::Real().WallNow();
    return status;
  }
  Result<> StartContainer(const std::string& id) override {
    std::lock_guard lock(mutex_);
    TRY(Begin("StartContainer"));
    containers_.at(id).state = ContainerState::kRunning;
    containers_.at(id).started = Clock::Real().WallNow();
    return {};
  }
  Result<> SignalContainer(const std::string&, int) override { return {}; }
  Result<> StopContainer(const std::string& id, std::chrono::milliseconds) override {
    std::lock_guard lock(mutex_);
    TRY(Begin("StopContainer"));
    const auto it = containers_.find(id);
    if (it != containers_.end() && it->second.state != ContainerState::kExited) {
      EndLocked(id, {0, 15}, false);
    }
    return {};
  }
  Result<> RemoveContainer(const std::string& id) override {
    std::lock_guard lock(mutex_);
    TRY(Begin("RemoveContainer"));
    containers_.erase(id);
    return {};
  }

  Result<std::unique_ptr<runtime::ExecProcess>> Exec(const runtime::ExecSpec&,
                                                     runtime::Stdio) override {
    return Error(Code::kUnimplemented, "fake");
  }
  Result<runtime::ExecOutput> ExecSync(const runtime::ExecSpec& spec,
                                       const runtime::ExecLimits&) override {
    if (spec.argv[0] == "hang") return Error(Code::kDeadlineExceeded, "hang: timed out");
    runtime::ExecOutput output;
    output.out = spec.argv[0];
    return output;
  }
  Result<> Attach(const std::string&, runtime::Stdio) override { return {}; }
  Result<> ResizeTerminal(const std::string&, uint16_t, uint16_t) override { return {}; }
  Result<> ReopenLog(const std::string&) override { return {}; }
  Result<> UpdateResources(const std::string&, const runtime::ResourceSpec&) override { return {}; }
  Result<> SetOomScore(const std::string&, int) override { return {}; }
  Result<UniqueFd> ConnectToPort(const std::string&, uint16_t) override {
    return Error(Code::kUnavailable, "connection refused");
  }

  Result<runtime::SandboxStatus> Sandbox(const std::string& id) const override {
    std::lock_guard lock(mutex_);
    const auto it = sandboxes_.find(id);
    if (it == sandboxes_.end()) return Error(Code::kNotFound, id);
    return it->second;
  }
  Result<runtime::ContainerStatus> Container(const std::string& id) const override {
    std::lock_guard lock(mutex_);
    const auto it = containers_.find(id);
    if (it == containers_.end()) return Error(Code::kNotFound, id);
    return it->second;
  }
  std::vector<runtime::SandboxStatus> Sandboxes() const override {
    std::lock_guard lock(mutex_);
    std::vector<runtime::SandboxStatus> list;
    for (const auto& [id, status] : sandboxes_) list.push_back(status);
    return list;
  }
  std::vector<runtime::ContainerStatus> Containers() const override {
    std::lock_guard lock(mutex_);
    std::vector<runtime::ContainerStatus> list;
    for (const auto& [id, status] : containers_) list.push_back(status);
    return list;
  }
  Result<runtime::CgroupStats> ContainerStats(const std::string& id) const override {
    std::lock_guard lock(mutex_);
    const auto it = containers_.find(id);
    if (it == containers_.end() || it->second.state != ContainerState::kRunning) {
      return Error(Code::kNotFound, id);
    }
    runtime::CgroupStats stats;
    stats.time = Clock::Real().WallNow();
    stats.cpu_usage_nanos = 5;
    stats.memory_usage_bytes = 7;
    return stats;
  }
  Result<runtime::CgroupStats> SandboxStats(const std::string& id) const override {
    return Error(Code::kNotFound, id);
  }
  Result<runtime::CgroupMetrics> ContainerMetrics(const std::string& id) const override {
    runtime::CgroupMetrics metrics;
    metrics.stats = TRY(ContainerStats(id));
    return metrics;
  }
  Result<runtime::CgroupMetrics> SandboxMetrics(const std::string& id) const override {
    return Error(Code::kNotFound, id);
  }
  bool cgroup_v2() const override { return true; }
  Result<> CheckUserNamespaces(const std::string&) const override {
    if (user_namespaces) return {};
    return Error(Code::kUnimplemented, "user namespaces: this machine has none");
  }
  std::vector<std::string> Degradations() const override { return {}; }
  bool user_namespaces = true;

 private:
  Result<> Begin(const std::string& call) {
    calls_.push_back(call);
    if (failures_.erase(call) > 0) return Error(Code::kInternal, call + " failed");
    return {};
  }
  runtime::ExitEvent EndLocked(const std::string& id, ExitStatus status, bool oom_killed) {
    runtime::ContainerStatus& container = containers_.at(id);
    container.state = ContainerState::kExited;
    container.exit = runtime::ContainerExit{status, Clock::Real().WallNow(), oom_killed, ""};
    return {container.spec.sandbox_id, id, *container.exit};
  }

  mutable std::mutex mutex_;  // guards all below
  std::map<std::string, runtime::SandboxStatus> sandboxes_;
  std::map<std::string, runtime::ContainerStatus> containers_;
  std::set<std::string> failures_;
  std::vector<std::string> calls_;
};

}  // namespace skiff::cri::testing
