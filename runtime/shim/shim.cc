#include "runtime/shim/shim.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/failpoint.h"
#include "runtime/shim/pod_processes.h"

namespace skiff::runtime {

Shim::Shim(EventLoop& loop) : loop_(loop) {}
Shim::~Shim() = default;

Result<std::unique_ptr<Shim>> Shim::Open(EventLoop& loop) {
  auto shim = std::unique_ptr<Shim>(new Shim(loop));
  sigset_t handled;
  sigemptyset(&handled);
  sigaddset(&handled, SIGCHLD);
  sigaddset(&handled, SIGTERM);
  if (::sigprocmask(SIG_BLOCK, &handled, nullptr) != 0) return Error::Sys(errno, "sigprocmask");
  shim->signals_ = UniqueFd(::signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!shim->signals_) return Error::Sys(errno, "signalfd");
  TRY(loop.Add(shim->signals_.get(), EPOLLIN, &shim->signal_port_));
  TRY(loop.Add(shim->control_.get(), EPOLLIN, &shim->control_port_));
  TRY(loop.Add(shim->listener_.get(), EPOLLIN, &shim->connection_port_));
  return shim;
}

void Shim::OnSignal() {
  signalfd_siginfo info;
  while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
    // The system goes down: the pod ends with its supervisor.
    if (info.ssi_signo == SIGTERM) BeginShutdown();
  }
  Reap();
}

void Shim::Reap() {
  (void)failpoint::Reach("reap");  // to be killed at: there is nothing to fail
  int status = 0;
  pid_t pid;
  while ((pid = ::waitpid(-1, &status, WNOHANG)) > 0) {
    LaunchedProcess* process = FindByPid(pid);
    if (process == nullptr) {
      // Perhaps one that has taken another's place, which we have not read yet.
      ForEachProcess([](LaunchedProcess& launched) { launched.ReadMessages(); });
      process = FindByPid(pid);
    }
    if (process != nullptr) {
      process->HandleEnd(pid, status);
      continue;
    }
    // An orphan: of a container without a pid namespace, or one whose place another has taken, and
    // nobody asks; or a container's first process that died before the OCI runtime which made it
    // could say its number.
    orphans_.emplace_back(pid, status);
  }
  bool commands = std::any_of(containers_.begin(), containers_.end(),
                              [](const auto& held) { return held->command() != nullptr; });
  if (!commands) orphans_.clear();
}

std::optional<int> Shim::TakeOrphan(pid_t pid) {
  auto found = std::find_if(orphans_.begin(), orphans_.end(),
                            [pid](const auto& orphan) { return orphan.first == pid; });
  if (found == orphans_.end()) return {};
  int status = found->second;
  orphans_.erase(found);
  return status;
}

void Shim::ForEachProcess(const std::function<void(LaunchedProcess&)>& visit) const {
  if (pause_) visit(pause_->process());
  for (const auto& container : containers_) {
    visit(container->process());
    if (container->command() != nullptr) visit(container->command()->process());
  }
  for (const auto& exec : execs_) visit(exec->process());
}

LaunchedProcess* Shim::FindByPid(pid_t pid) const {
  LaunchedProcess* found = nullptr;
  ForEachProcess([&](LaunchedProcess& process) {
    if (process.pid() == pid && process.state() != LaunchedProcess::State::kEnded) found = &process;
  });
  return found;
}

void Shim::OnConnection() {
  UniqueFd connection(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!connection) return;  // the caller gave up
  DropControl();            // a daemon that connects takes over from one that died
  control_ = std::move(connection);
  if (!loop_.Add(control_.get(), EPOLLIN, &control_port_).ok()) control_.Reset();
}

void Shim::DropControl() {
  if (!control_) return;
  loop_.Remove(control_.get());
  control_.Reset();
  for (const auto& container : containers_) container->ForgetCaller();
}

void Shim::OnControl() {
  Result<std::optional<Message>> received = ReceiveMessage(control_.get());
  if (received.ok() && received->has_value()) {
    Handle(std::move(**received));
    return;
  }
  DropControl();
  AfterEnd();
}

void Shim::Handle(Message message) {
  uint32_t request = message.request;
  Result<> done = Dispatch(message);
  if (!done.ok()) SendError(request, done.error());
}

Result<> Shim::Dispatch(Message& message) {
  TRY(failpoint::Reach("handle request"));
  switch (message.type) {
    case kHello: return HandleHello(message);
    case kStartPause: return HandleStartPause(message);
    case kCreateContainer: return HandleCreateContainer(message);
    case kStartExec: return HandleStartExec(message);
    case kAttach: return HandleAttach(message);
    case kStartContainer:
    case kReopenLog:
    case kForgetContainer: return HandleContainerRef(message);
    case kSignalContainer: {
      auto body = TRY(Decode<SignalContainerRequest>(message.body));
      PodContainer* container = TRY(Need(body.id));
      TRY(container->process().Signal(body.signal));
      break;
    }
    case kResizeTerminal: {
      auto body = TRY(Decode<ResizeTerminalRequest>(message.body));
      PodContainer* container = TRY(Need(body.id));
      TRY(container->streams().ResizeTerminal(body.rows, body.columns));
      break;
    }
    case kShutdown:
      shutdown_request_ = message.request;
      BeginShutdown();
      return {};
    default: return Error(Code::kUnimplemented, "unknown request");
  }
  Send(kDone, message.request, ContainerRef{});
  return {};
}

Result<> Shim::HandleHello(const Message& message) {
  TRY(Decode<ShimHello>(message.body));
  for (const auto& container : containers_) {
    if (container->ready()) Send(kContainerState, 0, container->report());
  }
  HelloReply reply{.shim_pid = ::getpid()};
  if (pause_ && pause_->running()) reply.pause_pid = pause_->process().pid();
  Send(kHelloReply, message.request, reply);
  return {};
}

Result<> Shim::HandleStartPause(Message& message) {
  auto body = TRY(Decode<StartPause>(message.body));
  if (message.fds.size() != 1) return Error(Code::kInvalidArgument, "no spec");
  if (pause_ && pause_->running()) {
    Send(kStarted, message.request, Started{.pid = pause_->process().pid()});
    return {};
  }
  if (pause_ && !pause_->ended()) return Error(Code::kFailedPrecondition, "pause is starting");
  pause_ = std::make_unique<PauseProcess>(*this, std::move(body), message.request);
  Result<> started = pause_->Start(message.fds[0].get());
  if (!started.ok()) pause_.reset();  // else it would be waited for
  return started;
}

Result<> Shim::HandleCreateContainer(Message& message) {
  auto body = TRY(Decode<CreateContainerRequest>(message.body));
  if (message.fds.size() != 1) return Error(Code::kInvalidArgument, "no spec");
  if (!pause_ || !pause_->running() || shutting_down_) {
    return Error(Code::kFailedPrecondition, "the pod does not run");
  }
  if (Find(body.id) != nullptr) return Error(Code::kAlreadyExists, "container exists");
  int pause_pidfd = pause_->process().pidfd();
  Birthplace birthplace{.cgroup = body.cgroup};
  switch (body.pid) {
    case NamespaceMode::kContainer: birthplace.new_pid_namespace = !body.user_namespace; break;
    case NamespaceMode::kPod: birthplace.pid_namespace_of = pause_pidfd; break;
    case NamespaceMode::kNode: break;
    case NamespaceMode::kTarget: {
      PodContainer* target = TRY(Need(body.target_id));
      if (target->process().state() != LaunchedProcess::State::kRunning) {
        return Error(Code::kFailedPrecondition, "target container does not run");
      }
      birthplace.pid_namespace_of = target->process().pidfd();
      break;
    }
  }
  containers_.push_back(std::make_unique<PodContainer>(*this, std::move(body), message.request));
  Result<> started = containers_.back()->Start(message.fds[0].get(), pause_pidfd, birthplace);
  if (!started.ok()) {
    // A process that was started already is an orphan now; it finds its socket closed.
    containers_.pop_back();
  }
  return started;
}

Result<> Shim::HandleStartExec(Message& message) {
  auto body = TRY(Decode<StartExec>(message.body));
  if (message.fds.empty()) return Error(Code::kInvalidArgument, "no spec");
  PodContainer* container = TRY(Need(body.container_id));
  if (container->process().state() != LaunchedProcess::State::kRunning) {
    return Error(Code::kFailedPrecondition, "container is not running");
  }
  execs_.push_back(std::make_unique<ContainerExec>(*this, std::move(body), message.request));
  Result<> started = execs_.back()->Start(message, *container);
  if (!started.ok()) execs_.pop_back();
  return started;
}

Result<> Shim::HandleAttach(Message& message) {
  auto body = TRY(Decode<AttachRequest>(message.body));
  PodContainer* container = TRY(Need(body.id));
  UniqueFd streams[3];
  size_t next = 0;
  const bool has[] = {body.has_in, body.has_out, body.has_err};
  for (int i = 0; i < 3; ++i) {
    if (!has[i]) continue;
    if (next >= message.fds.size()) return Error(Code::kInvalidArgument, "attach without streams");
    streams[i] = std::move(message.fds[next++]);
  }
  if (container->process().state() == LaunchedProcess::State::kEnded) {
    return Error(Code::kFailedPrecondition, "container has ended");
  }
  TRY(container->streams().Attach(std::move(streams[0]), std::move(streams[1]),
                                  std::move(streams[2])));
  Send(kDone, message.request, ContainerRef{});
  return {};
}

Result<> Shim::HandleContainerRef(Message& message) {
  auto body = TRY(Decode<ContainerRef>(message.body));
  if (message.type == kForgetContainer) {
    PodContainer* container = Find(body.id);
    if (container != nullptr && !container->ready()) {
      container->Abandon(message.request);
      return {};
    }
    if (container != nullptr && !container->finished()) {
      return Error(Code::kFailedPrecondition, "container has not ended");
    }
    if (container != nullptr) Forget(container);
  } else {
    PodContainer* container = TRY(Need(body.id));
    if (message.type == kStartContainer) {
      return container->Run(message.request, message.fds.empty() ? -1 : message.fds[0].get());
    }
    if (container->finished()) return Error(Code::kFailedPrecondition, "container has ended");
    TRY(container->streams().OpenLog());
  }
  Send(kDone, message.request, ContainerRef{});
  return {};
}

void Shim::BeginShutdown() {
  shutting_down_ = true;
  for (const auto& container : containers_) {
    if (!container->finished()) container->Kill();
  }
  if (pause_ && !pause_->ended()) (void)pause_->process().Signal(SIGKILL);
  AfterEnd();
}

void Shim::AfterEnd() {
  bool alive = (pause_ && !pause_->ended()) ||
               std::any_of(containers_.begin(), containers_.end(),
                           [](const auto& container) { return !container->finished(); });
  if (alive || (!shutting_down_ && control_)) return;
  // Without a daemon, and not asked to go: a sandbox whose pause never ran is nothing to keep
  // either, for only its starter could have gone on with it.
  if (shutdown_request_) Send(kDone, *shutdown_request_, ContainerRef{});
  loop_.Stop();
}

PodContainer* Shim::Find(const std::string& id) const {
  for (const auto& container : containers_) {
    if (container->id() == id) return container.get();
  }
  return nullptr;
}

Result<PodContainer*> Shim::Need(const std::string& id) const {
  PodContainer* container = Find(id);
  if (container == nullptr || !container->ready()) {
    return Error(Code::kNotFound, "the shim has no container " + id);
  }
  return container;
}

bool Shim::pause_runs() const { return pause_ && pause_->running(); }

bool Shim::Runs(const std::string& id) const {
  PodContainer* container = Find(id);
  return container != nullptr && container->process().state() == LaunchedProcess::State::kRunning;
}

void Shim::Forget(PodContainer* container) {
  std::erase_if(containers_, [container](const auto& held) { return held.get() == container; });
  if (shutting_down_) AfterEnd();
}

void Shim::Forget(ContainerExec* exec) {
  std::erase_if(execs_, [exec](const auto& held) { return held.get() == exec; });
}

void Shim::SendError(uint32_t request, const Error& error) {
  Send(kShimError, request,
       ShimFailure{.code = static_cast<uint16_t>(error.code()),
                   .sys_errno = error.sys_errno(),
                   .message = error.message()});
}

void Shim::SendLaunchFailure(uint32_t request, const LaunchFailure& failure) {
  Send(kShimError, request, ShimFailure{.launch = failure});
}

void Shim::SendBytes(uint16_t type, uint32_t request, std::string_view body,
                     const std::vector<int>& fds) {
  if (!control_) return;
  // A daemon that is gone finds everything again: by hello and in the exit records.
  if (!SendMessage(control_.get(), type, request, body, fds).ok()) DropControl();
}

}  // namespace skiff::runtime
