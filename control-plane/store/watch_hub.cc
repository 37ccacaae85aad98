#include "control-plane/store/watch_hub.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <list>
#include <mutex>
#include <thread>

namespace skiff::cp {
namespace {

// Events of one batch, rounded up to whole revisions: bounds what a late watch holds in memory.
constexpr size_t kBatchEvents = 512;

size_t SizeOf(const Event& event) {
  size_t bytes = sizeof(Event) + event.kv.key.size() + event.kv.value.size();
  if (event.prev_kv) bytes += event.prev_kv->key.size() + event.prev_kv->value.size();
  return bytes;
}

}  // namespace

struct WatchHub::Cursor {
  WatchRequest request;
  WatchReceiver receiver;

  // Held while the receiver runs.
  std::mutex running;
  std::atomic<std::thread::id> runner;
  bool cancelled = false;  // guarded by running, or set by the runner itself

  // Touched by the dispatching thread only.
  Revision position = 0;
  bool greeted = false;  // has had its first batch
  bool ended = false;

  // False when the watch is over.
  bool Deliver(const WatchBatch& batch) {
    std::lock_guard lock(running);
    if (cancelled) return false;
    runner = std::this_thread::get_id();
    receiver(batch);
    runner = std::thread::id();
    return !cancelled && !batch.error;
  }

  void Cancel() {
    if (runner == std::this_thread::get_id()) {
      cancelled = true;
      return;
    }
    std::lock_guard lock(running);
    cancelled = true;
  }
};

struct WatchHub::State : std::enable_shared_from_this<State> {
  State(Executor& executor_in, Options options_in) : executor(executor_in), options(options_in) {}

  Executor& executor;
  const Options options;
  ReadHistory read_history;

  mutable std::mutex mutex;
  std::deque<EventPtr> tail;  // every event after floor
  size_t tail_bytes = 0;
  Revision floor = 0;
  Revision revision = 0;
  std::list<std::shared_ptr<Cursor>> cursors;
  bool dispatching = false;  // a dispatch is posted, or running
  bool closed = false;

  // Held while a dispatch runs, so that closing can wait for it.
  std::mutex dispatch_mutex;

  void Append(std::vector<EventPtr> events) {
    for (EventPtr& event : events) {
      tail_bytes += SizeOf(*event);
      tail.push_back(std::move(event));
    }
    while (!tail.empty() &&
           (tail.size() > options.tail_events || tail_bytes > options.tail_bytes)) {
      floor = tail.front()->revision();
      while (!tail.empty() && tail.front()->revision() == floor) {
        tail_bytes -= SizeOf(*tail.front());
        tail.pop_front();
      }
    }
  }

  // With the mutex held.
  void Schedule() {
    if (dispatching || closed || cursors.empty()) return;
    dispatching = true;
    executor.Post([self = shared_from_this()] { self->Dispatch(); });
  }

  // One batch for each watch that is behind; comes back while there are any.
  void Dispatch() {
    std::lock_guard dispatch_lock(dispatch_mutex);
    std::vector<std::shared_ptr<Cursor>> round;
    {
      std::lock_guard lock(mutex);
      dispatching = false;
      if (closed) return;
      round.assign(cursors.begin(), cursors.end());
    }
    bool behind = false;
    for (const std::shared_ptr<Cursor>& cursor : round) behind |= Serve(*cursor);
    std::lock_guard lock(mutex);
    std::erase_if(cursors, [](const auto& cursor) { return cursor->ended; });
    if (behind) Schedule();
  }

  // True when the watch has more to come.
  bool Serve(Cursor& cursor) {
    if (cursor.ended) return false;
    WatchBatch batch;
    Revision published = 0;
    bool in_tail = false;
    {
      std::lock_guard lock(mutex);
      published = revision;
      in_tail = cursor.position >= floor;
      if (cursor.position < published && in_tail) ReadTail(cursor, batch);
    }
    if (cursor.position >= published) {
      if (cursor.greeted || !cursor.request.progress) return false;
      batch.revision = cursor.position;
    } else if (!in_tail) {
      Result<History> history = read_history(cursor.request.prefix, cursor.position, published);
      if (history.ok()) {
        batch.events = std::move(history->events);
        batch.revision = history->until;
      } else {
        batch.revision = cursor.position;
        batch.error = std::move(history).error();
      }
    }
    cursor.position = batch.revision;
    if (!batch.events.empty() || batch.error || cursor.request.progress) {
      cursor.greeted = true;
      if (!cursor.Deliver(batch)) cursor.ended = true;
    }
    return !cursor.ended && cursor.position < published;
  }

  // With the mutex held.
  void ReadTail(const Cursor& cursor, WatchBatch& batch) const {
    auto next = std::upper_bound(
        tail.begin(), tail.end(), cursor.position,
        [](Revision position, const EventPtr& event) { return position < event->revision(); });
    for (; next != tail.end(); ++next) {
      bool starts_revision =
          next == tail.begin() || (*next)->revision() != (*(next - 1))->revision();
      if (starts_revision && batch.events.size() >= kBatchEvents) {
        batch.revision = (*(next - 1))->revision();
        return;
      }
      if ((*next)->kv.key.starts_with(cursor.request.prefix)) batch.events.push_back(*next);
    }
    batch.revision = revision;
  }
};

class WatchHub::Handle : public Watch {
 public:
  Handle(std::weak_ptr<State> state, std::shared_ptr<Cursor> cursor)
      : state_(std::move(state)), cursor_(std::move(cursor)) {}
  ~Handle() override {
    cursor_->Cancel();
    if (std::shared_ptr<State> state = state_.lock()) {
      std::lock_guard lock(state->mutex);
      state->cursors.remove(cursor_);
    }
  }

 private:
  std::weak_ptr<State> state_;
  std::shared_ptr<Cursor> cursor_;
};

WatchHub::WatchHub(Executor& executor, Options options, Revision revision, ReadHistory read_history)
    : state_(std::make_shared<State>(executor, options)) {
  state_->read_history = std::move(read_history);
  state_->revision = revision;
  state_->floor = revision;
}

WatchHub::~WatchHub() {
  {
    std::lock_guard lock(state_->mutex);
    state_->closed = true;
  }
  // A dispatch still running uses the backend; a later one sees closed.
  std::lock_guard wait(state_->dispatch_mutex);
}

void WatchHub::Publish(std::vector<EventPtr> events, Revision revision) {
  std::lock_guard lock(state_->mutex);
  state_->Append(std::move(events));
  state_->revision = revision;
  state_->Schedule();
}

std::unique_ptr<Watch> WatchHub::Start(WatchRequest request, WatchReceiver receiver) {
  auto cursor = std::make_shared<Cursor>();
  cursor->position = request.after_revision;
  cursor->request = std::move(request);
  cursor->receiver = std::move(receiver);
  std::lock_guard lock(state_->mutex);
  state_->cursors.push_back(cursor);
  state_->Schedule();
  return std::make_unique<Handle>(state_, std::move(cursor));
}

Revision WatchHub::revision() const {
  std::lock_guard lock(state_->mutex);
  return state_->revision;
}

}  // namespace skiff::cp
