#include "control-plane/controllers/framework/work_queue.h"

#include <algorithm>

#include "base/log.h"

namespace skiff::cp {
namespace {

// As client-go's default rate limiter, with a shorter longest delay.
constexpr std::chrono::milliseconds kFirstDelay{5};
constexpr std::chrono::minutes kLongestDelay{5};

}  // namespace

WorkQueue::WorkQueue(std::string name, Executor& strand, Process process)
    : name_(std::move(name)),
      strand_(strand),
      process_(std::move(process)),
      stopped_(std::make_shared<std::atomic<bool>>(false)) {}

void WorkQueue::Start(std::weak_ptr<void> owner) {
  owner_ = std::move(owner);
  started_ = true;
  ScheduleNext();
}

Closure WorkQueue::Guarded(std::function<void()> work) {
  return [owner = owner_, stopped = stopped_, work = std::move(work)] {
    std::shared_ptr<void> alive = owner.lock();
    if (alive && !*stopped) work();
  };
}

void WorkQueue::Add(const std::string& key) {
  if (!waiting_.insert(key).second) return;
  order_.push_back(key);
  ScheduleNext();
}

void WorkQueue::AddAfter(const std::string& key, std::chrono::nanoseconds delay) {
  if (delay.count() <= 0) return Add(key);
  SteadyTime due = strand_.clock().Now() + delay;
  auto [entry, fresh] = delayed_.try_emplace(key, due);
  if (!fresh && entry->second <= due) return;
  entry->second = due;
  strand_.PostAfter(delay, Guarded([this, key, due] {
                      auto found = delayed_.find(key);
                      // Another due time: an earlier timer has been set since.
                      if (found == delayed_.end() || found->second != due) return;
                      delayed_.erase(found);
                      Add(key);
                    }));
}

// One key a turn, so that events between two keys are seen by the second.
void WorkQueue::ScheduleNext() {
  if (!started_ || scheduled_ || order_.empty()) return;
  scheduled_ = true;
  strand_.Post(Guarded([this] { ProcessNext(); }));
}

void WorkQueue::ProcessNext() {
  scheduled_ = false;
  std::string key = std::move(order_.front());
  order_.pop_front();
  waiting_.erase(key);
  Result<> result = process_(key);
  if (result.ok()) {
    failures_.erase(key);
  } else {
    // The everyday cause is that somebody else was faster.
    const Code code = result.error().code();
    auto level = code == Code::kConflict || code == Code::kNotFound ? log::Level::kDebug
                                                                    : log::Level::kWarning;
    std::chrono::nanoseconds delay = BackOff(key);
    log::Write(level, "controller: key failed, retrying",
               {{"controller", name_},
                {"key", key},
                {"error", result.error()},
                {"in_ms", std::chrono::duration_cast<std::chrono::milliseconds>(delay).count()}});
    AddAfter(key, delay);
  }
  ScheduleNext();
}

std::chrono::nanoseconds WorkQueue::BackOff(const std::string& key) {
  int failures = failures_[key]++;
  return std::min<std::chrono::nanoseconds>(kFirstDelay * (int64_t{1} << std::min(failures, 30)),
                                            kLongestDelay);
}

}  // namespace skiff::cp
