#include "cri/events.h"

#include <algorithm>

namespace skiff::cri {

class EventLog::LogFollower : public Follower {
 public:
  LogFollower(EventLog& log, std::function<void()> wake) : log_(log), wake_(std::move(wake)) {
    std::lock_guard lock(log_.mutex_);
    next_ = log_.first_ + log_.events_.size();
    id_ = log_.next_follower_++;
    log_.followers_[id_] = this;
  }
  ~LogFollower() override {
    std::lock_guard lock(log_.mutex_);
    log_.followers_.erase(id_);
    log_.DropRead();
  }

  Result<Event> Next() override {
    std::lock_guard lock(log_.mutex_);
    if (next_ < log_.first_) {
      return Error(Code::kDataLoss, "the client is too slow and missed events: list and reconnect");
    }
    if (next_ == log_.first_ + log_.events_.size()) {
      waiting_ = true;
      return Event();
    }
    Event event = log_.events_[next_++ - log_.first_];
    log_.DropRead();
    return event;
  }

  // With the log's lock held.
  void Wake() {
    if (!waiting_) return;
    waiting_ = false;
    wake_();
  }
  // The number of the event that comes next; with the log's lock held.
  uint64_t next() const { return next_; }

 private:
  EventLog& log_;
  const std::function<void()> wake_;
  uint64_t id_ = 0;
  uint64_t next_ = 0;
  bool waiting_ = false;
};

void EventLog::Append(api::ContainerEventResponse event) {
  auto shared = std::make_shared<const api::ContainerEventResponse>(std::move(event));
  const size_t size = shared->ByteSizeLong();
  std::lock_guard lock(mutex_);
  events_.push_back(std::move(shared));
  bytes_ += size;
  // The newest stays, whatever its size.
  while (events_.size() > bounds_.events || (bytes_ > bounds_.bytes && events_.size() > 1)) {
    DropOldest();
  }
  for (const auto& [id, follower] : followers_) follower->Wake();
}

bool EventLog::followed() const {
  std::lock_guard lock(mutex_);
  return !followers_.empty();
}

void EventLog::DropOldest() {
  bytes_ -= events_.front()->ByteSizeLong();
  events_.pop_front();
  ++first_;
}

// With the lock held.
void EventLog::DropRead() {
  uint64_t wanted = first_ + events_.size();
  for (const auto& [id, follower] : followers_) {
    // One that has missed events wants none any more.
    if (follower->next() >= first_) wanted = std::min(wanted, follower->next());
  }
  while (first_ < wanted) DropOldest();
}

std::unique_ptr<EventLog::Follower> EventLog::Follow(std::function<void()> wake) {
  return std::make_unique<LogFollower>(*this, std::move(wake));
}

}  // namespace skiff::cri
