#include "runtime/shim/pod_processes.h"

#include <fcntl.h>
#include <signal.h>

#include <cerrno>
#include <charconv>
#include <utility>

#include "base/os/files.h"
#include "runtime/linux/kill.h"
#include "runtime/shim/shim.h"

namespace skiff::runtime {
namespace {

// After the end of a container's processes its output has ended too, save where a descriptor was
// sent to somebody else: then what is there counts as all.
constexpr std::chrono::milliseconds kDrainTime{250};

ExitReport MakeExit(ExitStatus status) {
  return {.code = status.code, .signal = status.signal, .finished = Clock::Real().WallNow()};
}

// As a shell counts: 127 where there is no such program, 126 where it cannot be executed.
int LaunchFailureCode(const LaunchFailure& failure) {
  if (failure.step != Step::kExec) return 128;
  switch (failure.sys_errno) {
    case ENOENT: return 127;
    case EACCES:
    case ENOEXEC: return 126;
    default: return 128;
  }
}

}  // namespace

PauseProcess::PauseProcess(Shim& shim, StartPause request, uint32_t number)
    : shim_(shim),
      request_(std::move(request)),
      pending_request_(number),
      process_(shim.loop(), *this) {}

Result<> PauseProcess::Start(int spec) {
  return process_.Start(
      {.spec = spec, .pause_program = shim_.pause_program()},
      {.new_pid_namespace = request_.new_pid_namespace, .cgroup = request_.cgroup});
}

void PauseProcess::OnReady(const LaunchReady&, UniqueFd) {
  if (!process_.Go().ok()) (void)process_.Signal(SIGKILL);  // its end answers
}

void PauseProcess::OnRunning() {
  shim_.Send(kStarted, *std::exchange(pending_request_, {}), Started{.pid = process_.pid()});
  ran_ = true;
}

void PauseProcess::OnLaunchFailed(const LaunchFailure& failure) {
  shim_.SendLaunchFailure(*std::exchange(pending_request_, {}), failure);
}

void PauseProcess::OnEnded(ExitStatus status) {
  if (pending_request_) {
    shim_.SendError(*pending_request_, Error(Code::kUnavailable, "skiff-pause died at its start"));
  }
  if (!ran_) {
    shim_.AfterEnd();
    return;
  }
  PauseExited event{.exit = MakeExit(status)};
  // Where it cannot be written, a daemon still sees that there is no shim any more.
  (void)WriteFileAtomic(request_.exit_record_path, Encode(event.exit), Durability::kNone);
  shim_.Send(kPauseExited, 0, event);
  shim_.AfterEnd();
}

PodContainer::PodContainer(Shim& shim, CreateContainerRequest request, uint32_t number)
    : shim_(shim),
      request_(std::move(request)),
      create_request_(number),
      report_{.id = request_.id},
      streams_(shim.loop(), {.stdin_once = request_.stdin_once, .log = request_.log},
               [this] {
                 if (exit_) Finish();
               }),
      process_(shim.loop(), *this) {}

Result<> PodContainer::Start(int spec, int namespaces, const Birthplace& birthplace) {
  TRY(streams_.OpenLog().With("log"));
  return StartProcess(spec, namespaces, birthplace);
}

Result<> PodContainer::StartProcess(int spec, int namespaces, const Birthplace& birthplace) {
  InitFds fds{.spec = spec, .namespaces = namespaces};
  const bool oci = !request_.bundle.empty();
  const auto start = [&] { return oci ? StartOci(fds) : process_.Start(fds, birthplace); };
  if (request_.terminal) return start();
  Pipe out = TRY(MakePipe());
  Pipe err = TRY(MakePipe());
  Pipe in;
  if (request_.stdin_open) in = TRY(MakePipe());
  fds.in = in.read_end.get();
  fds.out = out.write_end.get();
  fds.err = err.write_end.get();
  TRY(start());
  return streams_.UsePipes(std::move(out.read_end), std::move(err.read_end),
                           std::move(in.write_end));
}

void PodContainer::OnReady(const LaunchReady& ready, UniqueFd terminal) {
  ready_ = true;
  report_.user = ready.user;
  report_.pid = process_.pid();
  if (terminal) {
    Result<> used = streams_.UseTerminal(std::move(terminal));
    if (!used.ok()) {
      if (create_request_) shim_.SendError(*create_request_, used.error());
      create_request_.reset();
      ready_ = false;
      Kill();
      return;
    }
  }
  if (create_request_) {
    shim_.Send(kStarted, *create_request_, Started{.pid = process_.pid(), .user = ready.user});
  }
  create_request_.reset();
}

void PodContainer::ForgetCaller() {
  create_request_.reset();
  start_request_.reset();
  forget_request_.reset();
}

Result<> PodContainer::Run(uint32_t request, int spec) {
  if (!request_.bundle.empty()) return RunOci(request, spec);
  TRY(process_.Go());
  start_request_ = request;
  return {};
}

void PodContainer::OnRunning() {
  report_.state = ContainerState::kRunning;
  report_.started = start_began_.value_or(Clock::Real().WallNow());
  if (start_request_) {
    shim_.Send(kDone, *start_request_, report_);
  } else {
    shim_.Send(kContainerState, 0, report_);  // whoever asked has died meanwhile
  }
  start_request_.reset();
}

void PodContainer::OnLaunchFailed(const LaunchFailure& failure) {
  failure_ = failure;
  std::optional<uint32_t> request = create_request_ ? create_request_ : start_request_;
  if (request) shim_.SendLaunchFailure(*request, failure);
  create_request_.reset();
  start_request_.reset();
}

void PodContainer::OnEnded(ExitStatus status) {
  if (!ready_) {
    Vanish();  // its set-up failed, and the daemon was told: it never was
    return;
  }
  if (command_) {
    early_end_ = status;  // whether it ever ran is what the command tells
    return;
  }
  if (start_request_) {
    shim_.SendError(*start_request_, Error(Code::kFailedPrecondition, "killed before its start"));
    start_request_.reset();
  }
  ExitReport exit = MakeExit(status);
  exit.oom_killed = OutOfMemory();
  if (failure_) {
    exit.code = LaunchFailureCode(*failure_);
    exit.signal = 0;
    exit.start_error = LaunchError(*failure_).message();
  }
  exit_ = exit;
  report_.pid = 0;
  // The end of a pid namespace's first process ends all others; without one they are still there.
  if (request_.pid != NamespaceMode::kContainer) Kill();
  if (streams_.output_ended()) {
    Finish();
    return;
  }
  drain_timer_ = shim_.loop().After(kDrainTime, [this] {
    drain_timer_ = 0;
    streams_.EndOutput();
  });
}

void PodContainer::Vanish() {
  if (forget_request_) shim_.Send(kDone, *forget_request_, ContainerRef{});
  shim_.Forget(this);
}

void PodContainer::Abandon(uint32_t request) {
  forget_request_ = request;
  Kill();
}

void PodContainer::Finish() {
  if (finished()) return;
  shim_.loop().Cancel(drain_timer_);
  report_.state = ContainerState::kExited;
  report_.exit = exit_;
  // The record is for a daemon that is not there now; one that is gets the event. No room on disk
  // costs only the former.
  (void)WriteFileAtomic(request_.exit_record_path, Encode(report_), Durability::kNone);
  shim_.Send(kContainerExited, 0, report_);
  shim_.AfterEnd();
}

void PodContainer::Kill() {
  Result<> killed = KillCgroup(request_.kill_file, request_.procs_file);
  // Also by pid: it may not have joined its cgroup yet.
  if (process_.state() != LaunchedProcess::State::kEnded || !killed.ok()) {
    (void)process_.Signal(SIGKILL);  // it may have ended meanwhile
  }
  if (command_) (void)command_->process().Signal(SIGKILL);  // likewise
}

// The kernel counts kills in this cgroup: "oom_kill N" in memory.events (v2) and in
// memory.oom_control (v1, since 4.13).
bool PodContainer::OutOfMemory() const {
  if (request_.oom_counter_file.empty()) return false;
  Result<std::string> text = ReadFile(request_.oom_counter_file);
  if (!text.ok()) return false;
  constexpr std::string_view kKey = "oom_kill ";
  size_t at = text->find("\n" + std::string(kKey));
  if (at == std::string::npos) return false;
  const char* number = text->data() + at + 1 + kKey.size();
  uint64_t count = 0;
  std::from_chars(number, text->data() + text->size(), count);
  return count > 0;
}

ContainerExec::ContainerExec(Shim& shim, StartExec request, uint32_t number)
    : shim_(shim),
      request_(std::move(request)),
      pending_request_(number),
      process_(shim.loop(), *this) {}

Result<> ContainerExec::Start(Message& message, PodContainer& container) {
  InitFds fds{.spec = message.fds[0].get(), .namespaces = container.process().pidfd()};
  if (!request_.terminal) {
    if (message.fds.size() != 4) return Error(Code::kInvalidArgument, "exec without streams");
    fds.in = message.fds[1].get();
    fds.out = message.fds[2].get();
    fds.err = message.fds[3].get();
  }
  return process_.Start(
      fds, {.pid_namespace_of = container.process().pidfd(), .cgroup = request_.cgroup});
}

void ContainerExec::OnReady(const LaunchReady&, UniqueFd terminal) {
  terminal_ = std::move(terminal);
  if (!process_.Go().ok()) (void)process_.Signal(SIGKILL);  // its end answers
}

void ContainerExec::OnRunning() {
  std::vector<int> fds;
  if (terminal_) fds.push_back(terminal_.get());
  shim_.Send(kStarted, *std::exchange(pending_request_, {}), Started{.pid = process_.pid()}, fds);
  ran_ = true;
  terminal_.Reset();
}

void ContainerExec::OnLaunchFailed(const LaunchFailure& failure) {
  shim_.SendLaunchFailure(*std::exchange(pending_request_, {}), failure);
}

void ContainerExec::OnEnded(ExitStatus status) {
  if (pending_request_) {
    shim_.SendError(*pending_request_, Error(Code::kUnavailable, "the process died at its start"));
  }
  if (ran_) shim_.Send(kExecExited, 0, ExecExited{request_.exec, MakeExit(status)});
  shim_.Forget(this);
}

}  // namespace skiff::runtime
