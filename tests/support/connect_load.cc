// skiff-connect-load ADDRESS PORT RATE: opens new connections to a web server at a constant rate,
// asks each for "/" and says at SIGTERM, as one line of JSON, how many failed and why.
//
// A connection fails when it is refused or reset, when it is not complete within kDeadline, or when
// the answer is not 200. Where the server falls behind, no more than kMostOpen are open at once,
// and the rate reached is less than what was asked for. Each is closed with a reset once the answer
// is complete: connection tracking forgets it within seconds, whatever the rate.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <unordered_map>

#include "base/net/ip.h"
#include "base/os/unique_fd.h"
#include "base/result.h"

namespace skiff::test {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kDeadline{10'000};
constexpr milliseconds kTick{5};
constexpr size_t kMostOpen = 256;
constexpr std::string_view kRequest = "GET / HTTP/1.1\r\nHost: load\r\nConnection: close\r\n\r\n";

struct Target {
  sockaddr_storage address{};
  socklen_t size = 0;
};

struct Connection {
  UniqueFd fd;
  Clock::time_point start;
  bool asked = false;
  std::string answer;
};

class Load {
 public:
  Load(const Target& target, double rate)
      : target_(target), rate_(rate), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {}

  // Until SIGTERM or SIGINT.
  void Run() {
    UniqueFd stop = Signals(), ticks = Ticks();
    Watch(stop.get(), EPOLLIN);
    Watch(ticks.get(), EPOLLIN);
    started_ = Clock::now();
    for (bool stopping = false; !stopping || !open_.empty();) {
      epoll_event events[64];
      int count = ::epoll_wait(epoll_.get(), events, 64, -1);
      for (int i = 0; i < count; ++i) {
        const int fd = events[i].data.fd;
        if (fd == stop.get()) {
          stopping = true;
          ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
          stopped_ = Clock::now();
        } else if (fd == ticks.get()) {
          uint64_t expirations = 0;
          (void)!::read(fd, &expirations, sizeof expirations);  // only that it came matters
          GiveUpOld();
          if (!stopping) OpenDue();
        } else {
          Continue(fd);
        }
      }
    }
  }

  void Print() const {
    const double seconds = std::chrono::duration<double>(stopped_ - started_).count();
    std::string errors;
    size_t failed = 0;
    for (const auto& [why, count] : failures_) {
      errors += (errors.empty() ? "" : ", ") + ("\"" + why + "\": " + std::to_string(count));
      failed += count;
    }
    printf(
        "{\"asked\": %zu, \"failed\": %zu, \"errors\": {%s}, \"rate\": %.0f, \"slowest_ms\": "
        "%lld}\n",
        asked_, failed, errors.c_str(), static_cast<double>(asked_) / seconds,
        static_cast<long long>(slowest_.count()));
  }

 private:
  static UniqueFd Signals() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    ::sigprocmask(SIG_BLOCK, &set, nullptr);
    return UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC));
  }
  static UniqueFd Ticks() {
    UniqueFd fd(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    const long nanoseconds = std::chrono::nanoseconds(kTick).count();
    itimerspec every{.it_interval = {0, nanoseconds}, .it_value = {0, nanoseconds}};
    ::timerfd_settime(fd.get(), 0, &every, nullptr);
    return fd;
  }
  void Watch(int fd, uint32_t what) {
    epoll_event event{.events = what, .data = {.fd = fd}};
    CHECK(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0);
  }

  // As many as the time that has passed asks for; what could not be opened in time is not made up
  // for.
  void OpenDue() {
    const double seconds = std::chrono::duration<double>(Clock::now() - started_).count();
    const auto due = static_cast<size_t>(seconds * rate_);
    for (; due_done_ < due && open_.size() < kMostOpen; ++due_done_) Open();
    due_done_ = due;
  }

  void Open() {
    ++asked_;
    Connection connection{.fd = UniqueFd(::socket(target_.address.ss_family,
                                                  SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)),
                          .start = Clock::now()};
    const int fd = connection.fd.get();
    if (fd < 0) return Count(strerrorname_np(errno));
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&target_.address), target_.size) != 0 &&
        errno != EINPROGRESS) {
      return Count(strerrorname_np(errno));
    }
    Watch(fd, EPOLLIN | EPOLLOUT | EPOLLET);
    open_.emplace(fd, std::move(connection));
  }

  void Continue(int fd) {
    auto found = open_.find(fd);
    if (found == open_.end()) return;
    Connection& connection = found->second;
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) return Finish(found, strerrorname_np(error));
    if (!connection.asked) {
      if (::send(fd, kRequest.data(), kRequest.size(), MSG_NOSIGNAL) < 0) {
        if (errno != EAGAIN && errno != ENOTCONN) Finish(found, strerrorname_np(errno));
        return;
      }
      connection.asked = true;
    }
    char buffer[2048];
    for (;;) {
      ssize_t got = ::recv(fd, buffer, sizeof buffer, 0);
      if (got < 0 && errno == EAGAIN) return;
      if (got < 0) return Finish(found, strerrorname_np(errno));
      if (got == 0) break;
      connection.answer.append(buffer, static_cast<size_t>(got));
    }
    if (connection.answer.empty()) return Finish(found, "no answer");
    Finish(found, connection.answer.starts_with("HTTP/1.1 200 ") ? nullptr : "not 200");
  }

  using Connections = std::unordered_map<int, Connection>;
  // why: null for a success.
  void Finish(Connections::iterator found, const char* why) {
    if (why != nullptr) Count(why);
    slowest_ = std::max(
        slowest_, std::chrono::duration_cast<milliseconds>(Clock::now() - found->second.start));
    linger reset{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(found->first, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    open_.erase(found);
  }
  void GiveUpOld() {
    const auto limit = Clock::now() - kDeadline;
    for (auto next = open_.begin(); next != open_.end();) {
      auto found = next++;
      if (found->second.start < limit) Finish(found, "ETIMEDOUT");
    }
  }
  void Count(const char* why) { ++failures_[why]; }

  const Target target_;
  const double rate_;
  UniqueFd epoll_;
  Connections open_;
  Clock::time_point started_, stopped_;
  size_t asked_ = 0, due_done_ = 0;
  std::map<std::string, size_t> failures_;
  milliseconds slowest_{0};
};

int Main(int argc, char** argv) {
  auto address = net::IpAddress::Parse(argc == 4 ? argv[1] : "");
  const int port = argc == 4 ? std::atoi(argv[2]) : 0;
  const double rate = argc == 4 ? std::atof(argv[3]) : 0;
  if (!address.ok() || port < 1 || port > 65535 || rate <= 0) {
    fprintf(stderr, "usage: %s ADDRESS PORT CONNECTIONS-PER-SECOND\n", argv[0]);
    return 2;
  }
  Target target;
  if (address->is_v4()) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(target.address);
    v4.sin_family = AF_INET;
    v4.sin_port = htons(static_cast<uint16_t>(port));
    memcpy(&v4.sin_addr, address->bytes(), 4);
    target.size = sizeof v4;
  } else {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(target.address);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(static_cast<uint16_t>(port));
    memcpy(&v6.sin6_addr, address->bytes(), 16);
    target.size = sizeof v6;
  }
  Load load(target, rate);
  load.Run();
  load.Print();
  return 0;
}

}  // namespace
}  // namespace skiff::test

int main(int argc, char** argv) { return skiff::test::Main(argc, argv); }
