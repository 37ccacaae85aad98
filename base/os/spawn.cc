#include "base/os/spawn.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/failpoint.h"

namespace skiff {
namespace {

constexpr size_t kOutputLimitBytes = 16 << 20;

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (const std::string& text : strings) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// Everything the child needs, prepared by the parent; the child only makes system calls.
struct ChildPlan {
  const char* path;
  char* const* argv;
  char* const* envp;
  const char* working_directory;   // null: stay
  const std::pair<int, int>* fds;  // (from, to), all sources above every target
  size_t fd_count;
  int highest_target;
  bool new_session;
  int failure_errno = 0;  // written by the child, shared memory by CLONE_VM
};

// The child runs in the parent's memory, so it calls nothing that keeps books there: no function of
// the library that a sanitizer has a version of, and no bookkeeping of this function's own frame,
// which exec leaves without a return.
#define RUNS_IN_PARENTS_MEMORY __attribute__((no_sanitize("address", "thread", "undefined")))

// What rt_sigaction(2) takes, whose layout the library's struct sigaction does not have.
struct KernelSigaction {
  void (*handler)(int);
  unsigned long flags;
  void (*restorer)();
  uint64_t mask;
};

// Runs in the child on a stack of its own while the parent is suspended (CLONE_VFORK).
RUNS_IN_PARENTS_MEMORY int RunChild(void* argument) {
  auto* plan = static_cast<ChildPlan*>(argument);
  // Handlers of the parent must not run here; exec resets them, this covers the time before.
  KernelSigaction by_default = {SIG_DFL, 0, nullptr, 0};
  for (int number = 1; number < NSIG; ++number) {
    ::syscall(SYS_rt_sigaction, number, &by_default, nullptr, sizeof by_default.mask);
  }
  uint64_t none = 0;
  ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, nullptr, sizeof none);
  bool good = true;
  if (plan->new_session) good = ::syscall(SYS_setsid) >= 0;
  for (size_t i = 0; i < plan->fd_count; ++i) {
    good = good && ::syscall(SYS_dup3, plan->fds[i].first, plan->fds[i].second, 0) >= 0;
  }
  good = good && ::syscall(SYS_close_range, plan->highest_target + 1, ~0U, 0) == 0;
  if (plan->working_directory != nullptr) {
    good = good && ::syscall(SYS_chdir, plan->working_directory) == 0;
  }
  if (good) ::syscall(SYS_execve, plan->path, plan->argv, plan->envp);
  plan->failure_errno = errno;
  for (;;) ::syscall(SYS_exit_group, 127);
}

// clone(2) by the library's other name for it: ThreadSanitizer's version of "clone" takes the child
// for a fork with memory of its own.
extern "C" int __clone(int (*run)(void*), void* stack, int flags, void* argument, ...);

// Lifts every source descriptor above all targets, so that no dup2 overwrites a later source.
Result<std::vector<std::pair<int, int>>> LiftDescriptors(const SpawnRequest& request,
                                                         std::vector<UniqueFd>& lifted) {
  int top = 2;
  for (auto [from, to] : request.fds) top = std::max(top, to);
  auto named = [&](int number) {
    return std::any_of(request.fds.begin(), request.fds.end(),
                       [number](const auto& pair) { return pair.second == number; });
  };
  std::vector<std::pair<int, int>> plan;
  auto lift = [&](int from, int to) -> Result<> {
    int fd = ::fcntl(from, F_DUPFD_CLOEXEC, top + 1);
    if (fd < 0) return Error::Sys(errno, "fcntl F_DUPFD_CLOEXEC");
    lifted.emplace_back(fd);
    plan.emplace_back(fd, to);
    return {};
  };
  for (int number = 0; number <= 2; ++number) {
    if (named(number)) continue;
    UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    if (!null) return Error::Sys(errno, "open", "/dev/null");
    TRY(lift(null.get(), number));
  }
  for (auto [from, to] : request.fds) TRY(lift(from, to));
  return plan;
}

class ChildStack {
 public:
  static constexpr size_t kSize = 64 << 10;
  ChildStack()
      : base_(::mmap(nullptr, kSize, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0)) {}
  ~ChildStack() {
    if (valid()) ::munmap(base_, kSize);
  }
  ChildStack(const ChildStack&) = delete;
  ChildStack& operator=(const ChildStack&) = delete;
  bool valid() const { return base_ != MAP_FAILED; }
  void* top() const { return static_cast<char*>(base_) + kSize; }

 private:
  void* base_;
};

// Appends what the descriptor has; true when it is at its end.
Result<bool> Collect(int fd, std::string& into) {
  char buffer[16384];
  ssize_t got = ::read(fd, buffer, sizeof buffer);
  if (got < 0) {
    if (errno == EINTR || errno == EAGAIN) return false;
    return Error::Sys(errno, "read");
  }
  size_t room = kOutputLimitBytes - into.size();
  into.append(buffer, std::min(room, static_cast<size_t>(got)));
  return got == 0;
}

// Feeds input and collects both outputs until all are closed or the deadline passes (false).
Result<bool> Converse(UniqueFd in, std::string_view input, UniqueFd out, UniqueFd err,
                      std::chrono::steady_clock::time_point deadline, ProgramOutput& output) {
  if (input.empty()) in.Reset();
  while (out.valid() || err.valid()) {
    pollfd fds[3] = {{in.get(), POLLOUT, 0}, {out.get(), POLLIN, 0}, {err.get(), POLLIN, 0}};
    auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    int ready = ::poll(fds, 3, static_cast<int>(left.count()));
    if (ready < 0 && errno != EINTR) return Error::Sys(errno, "poll");
    if (ready <= 0) continue;
    if (fds[0].revents != 0) {
      ssize_t put = ::write(in.get(), input.data(), input.size());
      if (put > 0) input.remove_prefix(static_cast<size_t>(put));
      // A program may end without reading all of its input: its exit status tells the story.
      bool failed = put < 0 && errno != EAGAIN && errno != EINTR;
      if (input.empty() || failed) in.Reset();
    }
    if (fds[1].revents != 0 && TRY(Collect(out.get(), output.out))) out.Reset();
    if (fds[2].revents != 0 && TRY(Collect(err.get(), output.err))) err.Reset();
  }
  return true;
}

}  // namespace

Result<PidRef> Spawn(const SpawnRequest& request) {
  TRY(failpoint::Reach("spawn", request.path));
  std::vector<char*> argv = Pointers(request.argv);
  std::vector<char*> envp = Pointers(request.env);
  std::vector<UniqueFd> lifted;
  std::vector<std::pair<int, int>> fds = TRY(LiftDescriptors(request, lifted));
  ChildPlan plan{.path = request.path.c_str(),
                 .argv = argv.data(),
                 .envp = envp.data(),
                 .working_directory = request.working_directory.empty()
                                          ? nullptr
                                          : request.working_directory.c_str(),
                 .fds = fds.data(),
                 .fd_count = fds.size(),
                 .highest_target = 2,
                 .new_session = request.new_session};
  for (auto [from, to] : fds) plan.highest_target = std::max(plan.highest_target, to);
  ChildStack stack;
  if (!stack.valid()) return Error::Sys(errno, "mmap", "child stack");

  // No signal handler of this process may run in the child, which shares its memory.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, &before);
  int pidfd = -1;
  pid_t pid =
      __clone(RunChild, stack.top(), CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, &plan, &pidfd);
  int clone_errno = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) return Error::Sys(clone_errno, "clone", request.path);

  PidRef child = PidRef::Adopt(pid, UniqueFd(pidfd));
  if (plan.failure_errno != 0) {
    (void)child.Reap();  // the failure is reported below
    return Error::Sys(plan.failure_errno, "exec", request.path);
  }
  return child;
}

Result<ProgramOutput> RunProgram(SpawnRequest request, std::string_view input,
                                 std::chrono::milliseconds deadline) {
  auto until = std::chrono::steady_clock::now() + deadline;
  Pipe in = TRY(MakePipe());
  Pipe out = TRY(MakePipe());
  Pipe err = TRY(MakePipe());
  // A program that stops reading must not block us, nor one that ended kill us with SIGPIPE:
  // daemons ignore SIGPIPE (see their main.cc).
  if (::fcntl(in.write_end.get(), F_SETFL, O_NONBLOCK) != 0) return Error::Sys(errno, "fcntl");
  request.fds.emplace_back(in.read_end.get(), 0);
  request.fds.emplace_back(out.write_end.get(), 1);
  request.fds.emplace_back(err.write_end.get(), 2);
  PidRef child = TRY(Spawn(request));
  in.read_end.Reset();
  out.write_end.Reset();
  err.write_end.Reset();

  ProgramOutput output;
  Result<bool> done = Converse(std::move(in.write_end), input, std::move(out.read_end),
                               std::move(err.read_end), until, output);
  auto left =
      std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
  bool ended =
      done.ok() && *done && TRY(child.WaitEnd(std::max(left, std::chrono::milliseconds(0))));
  if (!ended) {
    (void)child.Signal(SIGKILL);  // it may have ended meanwhile
    // Its process group has its pid, which is nobody else's as long as it is not reaped.
    if (request.new_session) (void)::kill(-child.pid(), SIGKILL);
  }
  output.status = TRY(child.Reap());
  if (!done.ok()) return std::move(done).error().With(request.path);
  if (!ended) {
    return Error(Code::kDeadlineExceeded, request.path + ": still running after " +
                                              std::to_string(deadline.count()) + " ms; killed");
  }
  return output;
}

}  // namespace skiff
