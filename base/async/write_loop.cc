#include "base/async/write_loop.h"

#include <algorithm>

namespace skiff {

void WriteLoop::Start(std::weak_ptr<void> owner, Work work) {
  owner_ = std::move(owner);
  work_ = std::move(work);
  WatchOver();
}

void WriteLoop::Stop() {
  std::lock_guard lock(running_);
  stopped_ = true;
}

Closure WriteLoop::Guarded(Closure work) const {
  return [this, owner = owner_, work = std::move(work)] {
    if (auto alive = owner.lock(); alive && !stopped_) work();
  };
}

void WriteLoop::Post(Closure work) { strand_.Post(Guarded(std::move(work))); }

void WriteLoop::PostAfter(std::chrono::nanoseconds delay, Closure work) {
  if (delay <= std::chrono::nanoseconds(0)) return Post(std::move(work));
  strand_.PostAfter(delay, Guarded(std::move(work)));
}

void WriteLoop::WriteSoon() {
  if (due_ != Due::kNo) return;
  due_ = Due::kLater;
  std::chrono::nanoseconds last;
  {
    std::lock_guard lock(status_mutex_);
    last = status_.last_duration;
  }
  Arm(retry_ != std::chrono::nanoseconds(0)
          ? retry_
          : std::clamp(last, timing_.shortest_batch, timing_.longest_batch));
}

void WriteLoop::WriteNow() {
  if (due_ == Due::kNow) return;
  due_ = Due::kNow;
  Arm(std::chrono::nanoseconds(0));
}

void WriteLoop::Arm(std::chrono::nanoseconds delay) {
  PostAfter(delay, [this, which = ++armed_] {
    if (which == armed_) Write();
  });
}

void WriteLoop::Write() {
  std::unique_lock running(running_);
  if (stopped_) return;
  due_ = Due::kNo;
  const SteadyTime start = clock().Now();
  const Result<> result = work_.write();
  {
    std::lock_guard lock(status_mutex_);
    status_.last_duration = clock().Now() - start;
    ++(result.ok() ? status_.writes : status_.failures);
    status_.last_error.reset();
    if (!result.ok()) status_.last_error = result.error();
  }
  if (result.ok()) {
    retry_ = std::chrono::nanoseconds(0);
  } else {
    retry_ = std::clamp(retry_ * 2, timing_.first_retry, timing_.longest_retry);
    WriteSoon();
  }
  running.unlock();  // what waits may end the owner
  if (work_.written) work_.written(result);
}

void WriteLoop::LookSoon() {
  if (look_posted_.exchange(true)) return;
  Post([this] { Look(); });
}

void WriteLoop::Look() {
  look_posted_ = false;
  std::lock_guard running(running_);
  if (stopped_ || !work_.damaged()) return;
  {
    std::lock_guard lock(status_mutex_);
    ++status_.repairs;
  }
  WriteNow();
}

void WriteLoop::WatchOver() {
  PostAfter(timing_.look, [this] {
    Look();
    WatchOver();
  });
}

WriteLoop::Status WriteLoop::GetStatus() const {
  std::lock_guard lock(status_mutex_);
  return status_;
}

}  // namespace skiff
