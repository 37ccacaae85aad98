#include "runtime/core/exec.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/os/files.h"
#include "runtime/linux/kill.h"

namespace skiff::runtime {
namespace {

// After the end of an ExecSync's process: how long a descendant that holds its output open may
// keep the caller waiting for more.
constexpr std::chrono::milliseconds kDrainTime{200};

// After the kill of an ExecSync that is over its time: how long the supervisor has to see the end,
// so that the cgroup is gone when the caller hears. One that stands still is not waited for.
constexpr std::chrono::seconds kReapTime{1};

class ExecHandle final : public ExecProcess {
 public:
  explicit ExecHandle(std::shared_ptr<RunningExec> exec) : exec_(std::move(exec)) {}
  UniqueFd TakeTerminal() override { return exec_->TakeTerminal(); }
  void OnExit(std::function<void(const ContainerExit&)> callback) override {
    exec_->OnExit(std::move(callback));
  }
  Result<ContainerExit> Wait(std::optional<std::chrono::milliseconds> timeout) override {
    return exec_->Wait(timeout);
  }
  Result<> ResizeTerminal(uint16_t rows, uint16_t columns) override {
    return exec_->ResizeTerminal(rows, columns);
  }
  Result<> Kill() override { return exec_->Kill(); }

 private:
  std::shared_ptr<RunningExec> exec_;
};

using Deadline = std::optional<std::chrono::steady_clock::time_point>;

int MillisecondsUntil(Deadline deadline) {
  if (!deadline) return -1;
  auto left =
      std::chrono::ceil<std::chrono::milliseconds>(*deadline - std::chrono::steady_clock::now());
  return static_cast<int>(std::max<int64_t>(left.count(), 0));
}

Result<UniqueFd> MakeEventFd() {
  UniqueFd event(::eventfd(0, EFD_CLOEXEC));
  if (!event) return Error::Sys(errno, "eventfd");
  return event;
}

void Raise(const UniqueFd& event) {
  uint64_t one = 1;
  CHECK(::write(event.get(), &one, sizeof one) == sizeof one);
}

enum class Collected : uint8_t { kAll, kLate, kStopped };

// Reads both outputs until both have ended, or the process has and kDrainTime is over; or until the
// deadline, or until it is stopped.
class OutputCollector {
 public:
  struct Events {
    int exited;
    int stopped;
  };
  OutputCollector(int out, int err, Events events, size_t limit, ExecOutput& output)
      : fds_{{out, POLLIN, 0},
             {err, POLLIN, 0},
             {events.exited, POLLIN, 0},
             {events.stopped, POLLIN, 0}},
        limit_(limit),
        output_(output) {}

  Result<Collected> Run(Deadline deadline) {
    while (fds_[0].fd >= 0 || fds_[1].fd >= 0 || fds_[2].fd >= 0) {
      int ready = ::poll(fds_, 4, MillisecondsUntil(deadline));
      if (ready < 0 && errno != EINTR) return Error::Sys(errno, "poll");
      if (ready < 0) continue;
      if (ready == 0) return draining_ ? Collected::kAll : Collected::kLate;
      if (fds_[3].revents != 0) return Collected::kStopped;
      if (fds_[0].revents != 0) Read(fds_[0], output_.out);
      if (fds_[1].revents != 0) Read(fds_[1], output_.err);
      if (fds_[2].revents != 0) {
        fds_[2].fd = -1;
        draining_ = true;
        deadline = std::chrono::steady_clock::now() + kDrainTime;
      }
    }
    return Collected::kAll;
  }

 private:
  void Read(pollfd& from, std::string& into) {
    char buffer[16384];
    ssize_t got = ::read(from.fd, buffer, sizeof buffer);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (got <= 0) {
      from.fd = -1;  // poll(2) passes over it
      return;
    }
    size_t room = limit_ - std::min(limit_, into.size());
    into.append(buffer, std::min(room, static_cast<size_t>(got)));
    output_.truncated = output_.truncated || static_cast<size_t>(got) > room;
  }

  pollfd fds_[4];
  const size_t limit_;
  ExecOutput& output_;
  bool draining_ = false;
};

}  // namespace

void RunningExec::SetTerminal(UniqueFd terminal) {
  std::lock_guard lock(mutex_);
  resize_terminal_ = terminal.Duplicate().value_or(UniqueFd());
  terminal_ = std::move(terminal);
}

void RunningExec::End(const ContainerExit& exit) {
  std::function<void(const ContainerExit&)> callback;
  {
    std::lock_guard lock(mutex_);
    if (exit_) return;
    exit_ = exit;
    resize_terminal_.Reset();
    callback = std::move(callback_);
    ended_.notify_all();
  }
  if (callback) callback(exit);
}

UniqueFd RunningExec::TakeTerminal() {
  std::lock_guard lock(mutex_);
  return std::move(terminal_);
}

void RunningExec::OnExit(std::function<void(const ContainerExit&)> callback) {
  std::optional<ContainerExit> exit;
  {
    std::lock_guard lock(mutex_);
    if (!exit_) {
      callback_ = std::move(callback);
      return;
    }
    exit = exit_;
  }
  callback(*exit);
}

Result<ContainerExit> RunningExec::Wait(std::optional<std::chrono::milliseconds> timeout) {
  std::unique_lock lock(mutex_);
  auto ended = [&] { return exit_.has_value(); };
  if (!timeout) {
    ended_.wait(lock, ended);
  } else if (!ended_.wait_for(lock, *timeout, ended)) {
    return Error(Code::kDeadlineExceeded, "the process still runs");
  }
  return *exit_;
}

Result<> RunningExec::ResizeTerminal(uint16_t rows, uint16_t columns) {
  std::lock_guard lock(mutex_);
  if (!resize_terminal_) return Error(Code::kFailedPrecondition, "no terminal");
  winsize size{.ws_row = rows, .ws_col = columns};
  if (::ioctl(resize_terminal_.get(), TIOCSWINSZ, &size) != 0) {
    return Error::Sys(errno, "TIOCSWINSZ");
  }
  return {};
}

Result<> RunningExec::Kill() {
  CgroupFiles files = cgroups_.LeafFiles(cgroup_);
  return KillCgroup(files.kill, files.members);
}

Result<std::unique_ptr<ExecProcess>> RuntimeImpl::Exec(const ExecSpec& spec, Stdio stdio) {
  return ExecWithin(spec, std::move(stdio), kShimPatience);
}

Result<std::unique_ptr<ExecProcess>> RuntimeImpl::ExecWithin(const ExecSpec& spec, Stdio stdio,
                                                             std::chrono::milliseconds patience) {
  if (spec.argv.empty()) return Error(Code::kInvalidArgument, "no command");
  ContainerPtr container = TRY(NeedContainer(spec.container_id));
  uint32_t number;
  {
    std::lock_guard lock(mutex_);
    if (container->state != ContainerState::kRunning) {
      return Error(Code::kFailedPrecondition, "container " + spec.container_id + " is not running");
    }
    number = ++last_exec_;
  }
  const ContainerRecord& record = container->record;
  std::string cgroup = record.cgroup_path + "/exec-" + std::to_string(number);
  auto exec = std::make_shared<RunningExec>(*cgroups_, cgroup);

  LaunchSpec launch = TRY(MakeLaunchSpec(record.spec, record.cgroup_path));
  launch.kind = LaunchKind::kExec;
  launch.exec = spec;
  launch.apparmor_profile = record.apparmor_profile;
  TRY(cgroups_->CreateLeaf(cgroup));
  CgroupFiles leaf = cgroups_->LeafFiles(cgroup);
  for (const std::string& file : leaf.tasks) launch.cgroup_task_files.push_back(file);
  {
    std::lock_guard lock(mutex_);
    execs_[number] = {exec, container, cgroup};
  }
  auto start = [&]() -> Result<Message> {
    UniqueFd sealed = TRY(SealBytes("skiff-launch", Encode(launch)));
    UniqueFd null = TRY(OpenFile("/dev/null", O_RDWR));
    std::vector<int> fds = {sealed.get()};
    if (!spec.terminal) {
      for (const UniqueFd* fd : {&stdio.in, &stdio.out, &stdio.err}) {
        fds.push_back(fd->valid() ? fd->get() : null.get());
      }
    }
    std::shared_ptr<ShimLink> link = TRY(LinkOf(record.spec.sandbox_id));
    StartExec request{.container_id = spec.container_id,
                      .exec = number,
                      .terminal = spec.terminal,
                      .cgroup = leaf.unified};
    return link->Call(kStartExec, request, kStarted, fds, patience);
  };
  Result<Message> reply = start();
  if (!reply.ok()) {
    {
      std::lock_guard lock(mutex_);
      execs_.erase(number);
    }
    // Of a supervisor that did not answer in time: what it may have started ends here, and what it
    // has yet to start finds no cgroup.
    if (reply.error().code() == Code::kUnknownOutcome) (void)exec->Kill();
    if (!cgroups_->Remove(cgroup).ok()) {
      std::lock_guard lock(mutex_);
      container->lingering_execs.push_back(cgroup);
    }
    return std::move(reply).error();
  }
  if (!reply->fds.empty()) exec->SetTerminal(std::move(reply->fds[0]));
  return std::unique_ptr<ExecProcess>(std::make_unique<ExecHandle>(std::move(exec)));
}

void RuntimeImpl::OnExecExited(const ExecExited& event) {
  ExecEntry ended;
  std::vector<std::string> empty;
  {
    std::lock_guard lock(mutex_);
    auto found = execs_.find(event.exec);
    if (found == execs_.end()) return;
    ended = std::move(found->second);
    execs_.erase(found);
    empty = std::exchange(ended.container->lingering_execs, {});
  }
  // With those of earlier execs, whose last process may have ended meanwhile.
  empty.push_back(ended.cgroup);
  std::erase_if(empty, [&](const std::string& cgroup) { return cgroups_->RemoveIfEmpty(cgroup); });
  if (!empty.empty()) {
    std::lock_guard lock(mutex_);
    auto& lingering = ended.container->lingering_execs;
    lingering.insert(lingering.end(), empty.begin(), empty.end());
  }
  if (std::shared_ptr<RunningExec> exec = ended.handle.lock()) exec->End(event.exit.ToExit());
}

void RuntimeImpl::FailExecs(const std::string& sandbox_id) {
  std::vector<std::shared_ptr<RunningExec>> lost;
  {
    std::lock_guard lock(mutex_);
    std::erase_if(execs_, [&](const auto& item) {
      const ExecEntry& entry = item.second;
      if (entry.container->record.spec.sandbox_id != sandbox_id) return false;
      if (auto exec = entry.handle.lock()) lost.push_back(std::move(exec));
      return true;
    });
  }
  for (const auto& exec : lost) {
    exec->End({.status = {.code = 0, .signal = 9}, .finished = Clock::Real().WallNow()});
  }
}

Result<ExecOutput> RuntimeImpl::ExecSync(const ExecSpec& spec, const ExecLimits& limits) {
  Deadline deadline;
  if (limits.timeout.count() > 0) deadline = std::chrono::steady_clock::now() + limits.timeout;
  Pipe out = TRY(MakePipe());
  Pipe err = TRY(MakePipe());
  auto exited = std::make_shared<UniqueFd>(TRY(MakeEventFd()));
  const UniqueFd stopped = TRY(MakeEventFd());
  const Error late(Code::kDeadlineExceeded,
                   "command timed out after " + std::to_string(limits.timeout.count()) + " ms");
  const std::chrono::milliseconds patience =
      deadline ? std::min<std::chrono::milliseconds>(limits.timeout, kShimPatience) : kShimPatience;
  auto begun = ExecWithin(spec, {.out = std::move(out.write_end), .err = std::move(err.write_end)},
                          patience);
  if (!begun.ok() && begun.error().code() == Code::kUnknownOutcome && deadline &&
      std::chrono::steady_clock::now() >= *deadline) {
    return late;
  }
  auto process = TRY(std::move(begun));
  process->OnExit([exited](const ContainerExit&) { Raise(*exited); });
  const std::stop_callback on_stop(limits.stop, [&stopped] { Raise(stopped); });
  ExecOutput output;
  OutputCollector collector(out.read_end.get(), err.read_end.get(),
                            {.exited = exited->get(), .stopped = stopped.get()}, limits.limit_bytes,
                            output);
  Result<Collected> collected = collector.Run(deadline);
  if (!collected.ok() || *collected != Collected::kAll) TRY(process->Kill());
  TRY(std::move(collected).With("exec"));
  if (*collected != Collected::kAll) {
    (void)process->Wait(kReapTime);
    if (*collected == Collected::kStopped) {
      return Error(Code::kCancelled, "nobody waits for the command any more");
    }
    return late;
  }
  output.status = TRY(process->Wait(kShimPatience)).status;
  return output;
}

Result<> RuntimeImpl::Attach(const std::string& id, Stdio stdio) {
  ContainerPtr container = TRY(NeedContainer(id));
  std::shared_ptr<ShimLink> link = TRY(LinkOf(container->record.spec.sandbox_id));
  AttachRequest request{.id = id,
                        .has_in = stdio.in.valid(),
                        .has_out = stdio.out.valid(),
                        .has_err = stdio.err.valid()};
  std::vector<int> fds;
  for (const UniqueFd* fd : {&stdio.in, &stdio.out, &stdio.err}) {
    if (fd->valid()) fds.push_back(fd->get());
  }
  TRY(link->Call(kAttach, request, kDone, fds));
  return {};
}

Result<> RuntimeImpl::ResizeTerminal(const std::string& id, uint16_t rows, uint16_t columns) {
  ContainerPtr container = TRY(NeedContainer(id));
  std::shared_ptr<ShimLink> link = TRY(LinkOf(container->record.spec.sandbox_id));
  TRY(link->Call(kResizeTerminal, ResizeTerminalRequest{id, rows, columns}, kDone));
  return {};
}

Result<> RuntimeImpl::ReopenLog(const std::string& id) {
  ContainerPtr container = TRY(NeedContainer(id));
  {
    std::lock_guard lock(mutex_);
    if (container->state != ContainerState::kRunning) {
      return Error(Code::kFailedPrecondition, "container " + id + " is not running");
    }
  }
  std::shared_ptr<ShimLink> link = TRY(LinkOf(container->record.spec.sandbox_id));
  TRY(link->Call(kReopenLog, ContainerRef{id}, kDone));
  return {};
}

}  // namespace skiff::runtime
