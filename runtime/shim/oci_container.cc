// A container whose first process an OCI runtime makes and starts. Once that process is adopted it
// is one like any other: its end, its signals, its streams and execs in it go the same ways.

#include "base/os/files.h"
#include "runtime/shim/pod_processes.h"
#include "runtime/shim/shim.h"

namespace skiff::runtime {

Result<> PodContainer::StartOci(InitFds fds) {
  OciCommand::Request request{.fds = fds, .name = "create", .bundle = request_.bundle};
  if (request_.terminal) {
    console_ = TRY(ConsoleSocket::Listen(request_.bundle));
    request.console_socket = console_->path();
  }
  command_ = std::make_unique<OciCommand>(
      shim_.loop(), std::move(request),
      [this](const OciCommand::Outcome& outcome) { OnOciCreated(outcome); });
  return command_->Start();
}

void PodContainer::OnOciCreated(const OciCommand::Outcome& outcome) {
  command_.reset();
  Result<> adopted;
  if (outcome.ok()) adopted = AdoptOci();
  if (outcome.ok() && adopted.ok()) {
    Result<UniqueFd> terminal = UniqueFd();
    if (console_) terminal = console_->Receive();
    console_.reset();
    if (terminal.ok()) {
      OnReady({.user = outcome.user}, std::move(*terminal));
      return;
    }
    adopted = std::move(terminal).error();
  }
  if (create_request_ && outcome.launch) {
    shim_.SendLaunchFailure(*create_request_, *outcome.launch);
  } else if (create_request_) {
    shim_.SendError(*create_request_, outcome.error ? *outcome.error : adopted.error());
  }
  create_request_.reset();
  Kill();
  // A process that was adopted is waited for; else there is none, or the runtime's own clean-up
  // has it.
  if (process_.pid() == 0 || process_.state() == LaunchedProcess::State::kEnded) Vanish();
}

Result<> PodContainer::AdoptOci() {
  pid_t pid = TRY(ReadOciPid(request_.bundle));
  if (shim_.TakeOrphan(pid)) {
    return Error(Code::kFailedPrecondition, "OCI runtime: the container ended before its start");
  }
  TRY(process_.Adopt(pid));
  // The runtime found the namespaces by pid: they were the right ones if those pids were not free
  // for others meanwhile.
  if (!shim_.pause_runs() ||
      (request_.pid == NamespaceMode::kTarget && !shim_.Runs(request_.target_id))) {
    return Error(Code::kFailedPrecondition, "the pod ended while its container was made");
  }
  return {};
}

Result<> PodContainer::RunOci(uint32_t request, int spec) {
  if (spec < 0) return Error(Code::kInvalidArgument, "no spec");
  TRY(process_.Go());
  command_ = std::make_unique<OciCommand>(
      shim_.loop(),
      OciCommand::Request{.fds = {.spec = spec}, .name = "start", .bundle = request_.bundle},
      [this](const OciCommand::Outcome& outcome) { OnOciStarted(outcome); });
  start_request_ = request;
  start_began_ = Clock::Real().WallNow();
  Result<> started = command_->Start();
  if (started.ok()) return {};
  start_request_.reset();
  command_.reset();
  Kill();  // it cannot be started a second time
  return started;
}

void PodContainer::OnOciStarted(const OciCommand::Outcome& outcome) {
  command_.reset();
  if (outcome.ok()) {
    process_.Started();
    if (early_end_) OnRunning();  // it ran, though it is over
  } else {
    failure_ = outcome.launch
                   ? *outcome.launch
                   : LaunchFailure{.step = Step::kExec, .subject = outcome.error->message()};
    if (start_request_) shim_.SendLaunchFailure(*start_request_, *failure_);
    start_request_.reset();
    Kill();
  }
  if (early_end_) OnEnded(*std::exchange(early_end_, std::nullopt));
}

}  // namespace skiff::runtime
