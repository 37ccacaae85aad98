// The shim's children: pause, the containers, and execs in them. Owned by the Shim.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "runtime/shim/oci_command.h"
#include "runtime/shim/process.h"
#include "runtime/shim/streams.h"
#include "runtime/wire/channel.h"
#include "runtime/wire/messages.h"

namespace skiff::runtime {

class Shim;

class PauseProcess : public LaunchedProcess::Owner {
 public:
  PauseProcess(Shim& shim, StartPause request, uint32_t number);
  Result<> Start(int spec);
  LaunchedProcess& process() { return process_; }
  bool running() const { return process_.state() == LaunchedProcess::State::kRunning; }
  bool ended() const { return process_.state() == LaunchedProcess::State::kEnded; }

 private:
  void OnReady(const LaunchReady& ready, UniqueFd terminal) override;
  void OnRunning() override;
  void OnLaunchFailed(const LaunchFailure& failure) override;
  void OnEnded(ExitStatus status) override;

  Shim& shim_;
  const StartPause request_;
  std::optional<uint32_t> pending_request_;  // until it is answered
  bool ran_ = false;
  LaunchedProcess process_;
};

class PodContainer : public LaunchedProcess::Owner {
 public:
  PodContainer(Shim& shim, CreateContainerRequest request, uint32_t number);
  // namespaces: a pidfd of pause.
  Result<> Start(int spec, int namespaces, const Birthplace& birthplace);

  const std::string& id() const { return request_.id; }
  LaunchedProcess& process() { return process_; }
  // The OCI runtime at work for it; null most of the time.
  OciCommand* command() { return command_.get(); }
  Streams& streams() { return streams_; }
  const ContainerReport& report() const { return report_; }
  // Being set up: neither listed nor to be used yet.
  bool ready() const { return ready_; }
  // Exited, its output read, its record written.
  bool finished() const { return report_.state == ContainerState::kExited; }

  // spec: of the OCI runtime's "start"; -1 without one.
  Result<> Run(uint32_t request, int spec);
  // Kills all its processes.
  void Kill();
  // Of one that is not ready: ends it and answers the request when it is gone.
  void Abandon(uint32_t request);
  // The daemon is gone: its requests are not answered to the next one.
  void ForgetCaller();

 private:
  void OnReady(const LaunchReady& ready, UniqueFd terminal) override;
  void OnRunning() override;
  void OnLaunchFailed(const LaunchFailure& failure) override;
  void OnEnded(ExitStatus status) override;
  Result<> StartProcess(int spec, int namespaces, const Birthplace& birthplace);
  void Finish();
  bool OutOfMemory() const;
  void Vanish();

  // oci_container.cc
  Result<> StartOci(InitFds fds);
  void OnOciCreated(const OciCommand::Outcome& outcome);
  Result<> AdoptOci();
  Result<> RunOci(uint32_t request, int spec);
  void OnOciStarted(const OciCommand::Outcome& outcome);

  Shim& shim_;
  const CreateContainerRequest request_;
  std::optional<uint32_t> create_request_;
  std::optional<uint32_t> start_request_;
  std::optional<uint32_t> forget_request_;
  bool ready_ = false;
  ContainerReport report_;
  std::optional<LaunchFailure> failure_;
  std::optional<ExitReport> exit_;  // set at the end; reported once the output is read
  EventLoop::TimerId drain_timer_ = 0;
  Streams streams_;
  LaunchedProcess process_;
  std::unique_ptr<OciCommand> command_;
  std::unique_ptr<ConsoleSocket> console_;
  std::optional<WallTime>
      start_began_;  // of that command: the process runs from somewhen behind it
  // Of a process that ended before the command that started it.
  std::optional<ExitStatus> early_end_;
};

class ContainerExec : public LaunchedProcess::Owner {
 public:
  ContainerExec(Shim& shim, StartExec request, uint32_t number);
  Result<> Start(Message& message, PodContainer& container);
  LaunchedProcess& process() { return process_; }

 private:
  void OnReady(const LaunchReady& ready, UniqueFd terminal) override;
  void OnRunning() override;
  void OnLaunchFailed(const LaunchFailure& failure) override;
  void OnEnded(ExitStatus status) override;

  Shim& shim_;
  const StartExec request_;
  std::optional<uint32_t> pending_request_;  // until it is answered
  bool ran_ = false;
  UniqueFd terminal_;
  LaunchedProcess process_;
};

}  // namespace skiff::runtime
