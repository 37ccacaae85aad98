#include "runtime/shim/event_loop.h"

#include <algorithm>
#include <cerrno>

namespace skiff::runtime {

using std::chrono::steady_clock;

Result<EventLoop> EventLoop::Open() {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return Error::Sys(errno, "epoll_create1");
  return EventLoop(std::move(epoll));
}

Result<> EventLoop::Add(int fd, uint32_t events, Watcher* watcher) {
  epoll_event event{.events = events, .data = {.ptr = watcher}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return Error::Sys(errno, "epoll_ctl");
  }
  return {};
}

void EventLoop::Modify(int fd, uint32_t events, Watcher* watcher) {
  epoll_event event{.events = events, .data = {.ptr = watcher}};
  CHECK(::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) == 0);
}

void EventLoop::Remove(int fd) {
  (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);  // it may not be there
}

EventLoop::TimerId EventLoop::After(std::chrono::milliseconds delay, std::function<void()> work) {
  timers_[++last_timer_] = {steady_clock::now() + delay, std::move(work)};
  return last_timer_;
}

void EventLoop::Cancel(TimerId id) { timers_.erase(id); }

int EventLoop::RunTimers() {
  while (!timers_.empty()) {
    auto next = std::min_element(timers_.begin(), timers_.end(), [](const auto& a, const auto& b) {
      return a.second.due < b.second.due;
    });
    auto left =
        std::chrono::ceil<std::chrono::milliseconds>(next->second.due - steady_clock::now());
    if (left.count() > 0) return static_cast<int>(left.count());
    std::function<void()> work = std::move(next->second.work);
    timers_.erase(next);
    work();
  }
  return -1;
}

void EventLoop::Run() {
  while (running_) {
    int timeout = RunTimers();
    if (!running_) return;
    epoll_event event;
    int ready = ::epoll_wait(epoll_.get(), &event, 1, timeout);
    CHECK(ready >= 0 || errno == EINTR);
    if (ready == 1) static_cast<Watcher*>(event.data.ptr)->OnEvents(event.events);
  }
}

}  // namespace skiff::runtime
