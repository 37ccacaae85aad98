// EventLoop: the shim's one thread waits here. It wakes for descriptors and for deadlines that
// are due, never otherwise.
#pragma once

#include <sys/epoll.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>

#include "base/os/unique_fd.h"
#include "base/result.h"

namespace skiff::runtime {

// Whoever wants to know about a descriptor. Must call Remove before it or the descriptor ends.
class Watcher {
 public:
  virtual ~Watcher() = default;
  virtual void OnEvents(uint32_t events) = 0;
};

class EventLoop {
 public:
  using TimerId = uint64_t;

  static Result<EventLoop> Open();

  // events as in epoll_ctl(2). A descriptor can be added once.
  Result<> Add(int fd, uint32_t events, Watcher* watcher);
  // Like Add, for a descriptor that is there. Zero events still bring EPOLLERR and EPOLLHUP.
  void Modify(int fd, uint32_t events, Watcher* watcher);
  void Remove(int fd);

  TimerId After(std::chrono::milliseconds delay, std::function<void()> work);
  void Cancel(TimerId id);

  // Runs until Stop. One event is taken at a time, so whoever handles it may end any watcher.
  void Run();
  void Stop() { running_ = false; }

 private:
  explicit EventLoop(UniqueFd epoll) : epoll_(std::move(epoll)) {}
  // Runs timers that are due; the time until the next one in milliseconds, -1 for none.
  int RunTimers();

  UniqueFd epoll_;
  bool running_ = true;
  TimerId last_timer_ = 0;
  struct Timer {
    std::chrono::steady_clock::time_point due;
    std::function<void()> work;
  };
  std::map<TimerId, Timer> timers_;  // a handful at most
};

}  // namespace skiff::runtime
