#include "tests/conformance/store/watch_log.h"

#include <gtest/gtest.h>

#include <chrono>

namespace skiff::cp {

WatchLog::WatchLog(Store& store, WatchRequest request, std::map<std::string, KeyValue> state)
    : request_(request), state_(std::move(state)), revision_(request.after_revision) {
  auto watch =
      store.StartWatch(std::move(request), [this](const WatchBatch& batch) { Receive(batch); });
  if (watch.ok()) {
    watch_ = *std::move(watch);
  } else {
    std::lock_guard lock(mutex_);
    error_ = watch.error();
  }
}

void WatchLog::Receive(const WatchBatch& batch) {
  std::lock_guard lock(mutex_);
  ++batches_;
  if (error_) violations_.push_back("a batch after the error");
  if (batch.revision < revision_) violations_.push_back("progress went back");
  for (const EventPtr& event : batch.events) {
    // Equal revisions stand in one batch, so that each batch begins after the last one's progress.
    if (event->revision() <= revision_) violations_.push_back("an event at or before the progress");
    if (event->revision() > batch.revision) violations_.push_back("an event past the progress");
    if (!events_.empty() && event->revision() < events_.back()->revision()) {
      violations_.push_back("revisions went back");
    }
    Apply(*event);
    events_.push_back(event);
  }
  revision_ = batch.revision;
  error_ = batch.error;
  changed_.notify_all();
}

void WatchLog::Apply(const Event& event) {
  const std::string& key = event.kv.key;
  if (!key.starts_with(request_.prefix)) violations_.push_back("not asked for: " + key);
  auto found = state_.find(key);
  std::optional<KeyValue> before;
  if (found != state_.end()) before = found->second;
  if (event.prev_kv != before) violations_.push_back("prev_kv is not what was: " + key);
  if (event.type == Event::Type::kDelete) {
    state_.erase(key);
  } else {
    state_[key] = event.kv;
  }
}

template <class Condition>
bool WatchLog::WaitFor(Condition condition) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::seconds(20), condition);
}

bool WatchLog::WaitRevision(Revision revision) {
  WaitFor([&] { return revision_ >= revision || error_.has_value(); });
  std::lock_guard lock(mutex_);
  return revision_ >= revision;
}
bool WatchLog::WaitEvents(size_t count) {
  return WaitFor([&] { return events_.size() >= count; });
}
bool WatchLog::WaitError() {
  return WaitFor([&] { return error_.has_value(); });
}

std::vector<EventPtr> WatchLog::events() const {
  std::lock_guard lock(mutex_);
  return events_;
}
std::map<std::string, KeyValue> WatchLog::state() const {
  std::lock_guard lock(mutex_);
  return state_;
}
std::optional<Error> WatchLog::error() const {
  std::lock_guard lock(mutex_);
  return error_;
}
size_t WatchLog::batches() const {
  std::lock_guard lock(mutex_);
  return batches_;
}
std::vector<std::string> WatchLog::violations() const {
  std::lock_guard lock(mutex_);
  return violations_;
}

std::map<std::string, KeyValue> StateOf(const RangeResult& range) {
  std::map<std::string, KeyValue> state;
  for (const KeyValue& kv : range.kvs) state[kv.key] = kv;
  return state;
}

}  // namespace skiff::cp
