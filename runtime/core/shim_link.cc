#include "runtime/core/shim_link.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/failpoint.h"
#include "base/os/files.h"
#include "base/os/spawn.h"
#include "runtime/state/paths.h"

namespace skiff::runtime {
namespace {

constexpr size_t kProgramLimitBytes = 64 << 20;
// For the seed's answer, a fork.
constexpr std::chrono::seconds kSeedPatience{10};

Error FailureError(const Message& message) {
  Result<ShimFailure> failure = Decode<ShimFailure>(message.body);
  if (!failure.ok()) return Error(Code::kInternal, "shim: damaged reply");
  if (failure->launch) return LaunchError(*failure->launch);
  return Error(static_cast<Code>(failure->code), failure->message);
}

Result<UniqueFd> LoadProgram(const std::string& path) {
  std::string bytes = TRY(ReadFile(path, kProgramLimitBytes));
  return SealBytes(path.substr(path.find_last_of('/') + 1).c_str(), bytes);
}

// A path of any length is reached through a descriptor of its directory: sun_path takes 107 bytes.
Result<sockaddr_un> SocketAddress(const UniqueFd& directory) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::string path =
      "/proc/self/fd/" + std::to_string(directory.get()) + "/" + StatePaths::kSocketName;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

}  // namespace

Result<Message> ShimLink::Call(uint16_t type, std::string_view body, uint16_t expected,
                               const std::vector<int>& fds, std::chrono::milliseconds patience) {
  uint32_t request;
  {
    std::lock_guard lock(mutex_);
    if (closed_) return Error(Code::kUnavailable, "the supervisor of the pod is gone");
    request = ++last_request_;
    pending_[request];
  }
  const auto deadline = std::chrono::steady_clock::now() + patience;
  Result<bool> sent = Send(type, request, body, fds, deadline);
  std::unique_lock lock(mutex_);
  if (sent.ok() && *sent) {
    changed_.wait_until(lock, deadline, [&] { return closed_ || pending_[request].has_value(); });
  }
  std::optional<Message> reply = std::move(pending_[request]);
  pending_.erase(request);
  if (!sent.ok()) return std::move(sent).error();
  if (reply && reply->type == expected) return std::move(*reply);
  if (reply && reply->type == kShimError) return FailureError(*reply);
  if (reply) return Error(Code::kInternal, "shim: unexpected reply");
  if (closed_) return Error(Code::kUnavailable, "the supervisor of the pod is gone");
  return Error(Code::kUnknownOutcome, "the supervisor of the pod does not answer");
}

Result<bool> ShimLink::Send(uint16_t type, uint32_t request, std::string_view body,
                            const std::vector<int>& fds,
                            std::chrono::steady_clock::time_point deadline) {
  std::unique_lock lock(send_mutex_, deadline);
  if (!lock) return false;
  pollfd room{socket_.get(), POLLOUT, 0};
  int ready;
  do {
    auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    ready = ::poll(&room, 1, static_cast<int>(std::max<int64_t>(left.count(), 0)));
  } while (ready < 0 && errno == EINTR);
  if (ready < 0) return Error::Sys(errno, "poll");
  if (ready == 0) return false;
  TRY(SendMessage(socket_.get(), type, request, body, fds));
  return true;
}

bool ShimLink::closed() const {
  std::lock_guard lock(mutex_);
  return closed_;
}

bool ShimLink::ReadOne() {
  Result<std::optional<Message>> received = ReceiveMessage(socket_.get());
  if (!received.ok() || !received->has_value()) return false;
  Message& message = **received;
  if (message.request == 0) {
    listener_.on_event(message);
    return true;
  }
  std::lock_guard lock(mutex_);
  auto waiting = pending_.find(message.request);
  if (waiting != pending_.end()) waiting->second = std::move(message);
  changed_.notify_all();
  return true;
}

void ShimLink::Close() {
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }
  listener_.on_closed();
}

Result<std::unique_ptr<ShimLinks>> ShimLinks::Open() {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return Error::Sys(errno, "epoll_create1");
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC));
  if (!wake) return Error::Sys(errno, "eventfd");
  epoll_event event{.events = EPOLLIN, .data = {.u64 = 0}};
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0) {
    return Error::Sys(errno, "epoll_ctl");
  }
  auto links = std::unique_ptr<ShimLinks>(new ShimLinks(std::move(epoll), std::move(wake)));
  links->thread_ = std::thread([raw = links.get()] {
    ::pthread_setname_np(::pthread_self(), "skiff-shims");
    raw->Run();
  });
  return links;
}

ShimLinks::~ShimLinks() { Stop(); }

void ShimLinks::Stop() {
  if (!thread_.joinable()) return;
  uint64_t one = 1;
  CHECK(::write(wake_.get(), &one, sizeof one) == sizeof one);
  thread_.join();
}

Result<> ShimLinks::Add(std::shared_ptr<ShimLink> link) {
  int fd = link->socket_.get();
  std::lock_guard lock(mutex_);
  uint64_t key = ++last_key_;
  links_[key] = std::move(link);
  epoll_event event{.events = EPOLLIN, .data = {.u64 = key}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    links_.erase(key);
    return Error::Sys(errno, "epoll_ctl");
  }
  return {};
}

std::shared_ptr<ShimLink> ShimLinks::Find(uint64_t key) {
  std::lock_guard lock(mutex_);
  auto found = links_.find(key);
  return found == links_.end() ? nullptr : found->second;
}

void ShimLinks::Run() {
  for (;;) {
    epoll_event event;
    int ready = ::epoll_wait(epoll_.get(), &event, 1, -1);
    if (ready < 0) {
      CHECK(errno == EINTR);
      continue;
    }
    if (event.data.u64 == 0) return;
    std::shared_ptr<ShimLink> link = Find(event.data.u64);
    if (!link || link->ReadOne()) continue;
    (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, link->socket_.get(), nullptr);
    {
      std::lock_guard lock(mutex_);
      links_.erase(event.data.u64);
    }
    link->Close();
  }
}

Result<ShimPrograms> ShimPrograms::Load(const std::string& directory) {
  ShimPrograms programs;
  programs.shim = TRY(LoadProgram(directory + "/skiff-shim"));
  programs.init = TRY(LoadProgram(directory + "/skiff-init"));
  programs.pause = TRY(LoadProgram(directory + "/skiff-pause"));
  return programs;
}

ShimNursery::~ShimNursery() {
  std::lock_guard lock(mutex_);
  EndSeed();
}

Result<> ShimNursery::Prepare() {
  std::lock_guard lock(mutex_);
  TRY(AskSeed(kHello, {}));
  return {};
}

Result<> ShimNursery::StartSeed() {
  SocketPair control = TRY(MakeSocketPair());
  const timeval patience{.tv_sec = kSeedPatience.count(), .tv_usec = 0};
  if (::setsockopt(control.ours.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0) {
    return Error::Sys(errno, "setsockopt");
  }
  UniqueFd null = TRY(OpenFile("/dev/null", O_RDWR));
  SpawnRequest request;
  // By the daemon's own descriptor table: the child has closed its copy when it executes.
  request.path =
      "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(programs_.shim.get());
  request.argv = {"skiff-shim"};
  if (const char* plan = std::getenv(failpoint::kVariable); plan != nullptr && failpoint::Armed()) {
    request.env = {std::string(failpoint::kVariable) + "=" + plan};
  }
  request.fds = {{control.theirs.get(), kShimControlFd},
                 {null.get(), kShimListenFd},
                 {programs_.pause.get(), kShimPauseFd}};
  request.working_directory = "/";
  request.new_session = true;
  process_ = TRY(Spawn(request).With("skiff-shim"));
  seed_ = std::move(control.ours);
  return {};
}

void ShimNursery::EndSeed() {
  seed_.Reset();
  if (!process_) return;
  (void)process_->Signal(SIGKILL);  // it may have ended
  (void)process_->Reap();           // how does not matter
  process_.reset();
}

Result<Message> ShimNursery::AskSeed(uint16_t type, const std::vector<int>& fds) {
  if (!seed_) TRY(StartSeed());
  TRY(SendMessage(seed_.get(), type, 1, Encode(ContainerRef{}), fds));
  std::optional<Message> reply = TRY(ReceiveMessage(seed_.get()));
  if (!reply) return Error(Code::kUnavailable, "skiff-shim ended");
  return std::move(*reply);
}

Result<SpawnedShim> ShimNursery::Start(const std::string& directory) {
  TRY(failpoint::Reach("listen", directory));
  UniqueFd folder = TRY(OpenFile(directory, O_PATH | O_DIRECTORY));
  UniqueFd listener(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!listener) return Error::Sys(errno, "socket");
  TRY(RemoveFile(directory + "/" + StatePaths::kSocketName));
  sockaddr_un address = TRY(SocketAddress(folder));
  if (::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener.get(), 4) != 0) {
    return Error::Sys(errno, "listen", directory);
  }
  std::lock_guard lock(mutex_);
  for (bool again = false;; again = true) {
    // A pair for each attempt: a shim that nobody heard of ends with its own.
    SocketPair control = TRY(MakeSocketPair());
    Result<Message> reply = AskSeed(kMakeShim, {control.theirs.get(), listener.get()});
    if (!reply.ok()) {
      EndSeed();  // somebody killed it, perhaps
      if (again) return std::move(reply).error().With("start a supervisor");
      continue;
    }
    if (reply->type == kShimError) return FailureError(*reply).With("start a supervisor");
    if (reply->type != kStarted || reply->fds.size() != 1) {
      return Error(Code::kInternal, "start a supervisor: unexpected reply");
    }
    const Started started = TRY(Decode<Started>(reply->body));
    return SpawnedShim{PidRef::Adopt(started.pid, std::move(reply->fds[0])),
                       std::move(control.ours)};
  }
}

Result<UniqueFd> ConnectToShim(const std::string& directory) {
  UniqueFd folder = TRY(OpenFile(directory, O_PATH | O_DIRECTORY));
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket) return Error::Sys(errno, "socket");
  sockaddr_un address = TRY(SocketAddress(folder));
  if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    return Error::Sys(errno, "connect", directory);
  }
  return socket;
}

}  // namespace skiff::runtime
