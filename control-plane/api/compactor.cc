#include "control-plane/api/compactor.h"

#include <mutex>
#include <utility>

#include "base/log.h"

namespace skiff::cp {

struct Compactor::State : std::enable_shared_from_this<State> {
  State(Store& given_store, Executor& given_executor, std::chrono::nanoseconds given_interval)
      : store(given_store), executor(given_executor), interval(given_interval) {}

  void Schedule() {
    std::lock_guard lock(mutex);
    if (stopped) return;
    timer = executor.PostAfter(interval, [self = weak_from_this()] {
      if (auto alive = self.lock()) alive->Run();
    });
  }

  void Run() {
    {
      // Held while the store works, so that the destructor waits for it.
      std::lock_guard lock(mutex);
      if (stopped) return;
      Revision current = store.CurrentRevision();
      Revision target = std::exchange(last_seen, current);
      if (target > store.CompactedRevision()) {
        auto compacted = store.Compact(target);
        if (!compacted.ok()) {
          log::Warning("store compaction failed, trying again later",
                       {{"revision", target}, {"error", compacted.error()}});
        }
      }
    }
    Schedule();
  }

  Store& store;
  Executor& executor;
  const std::chrono::nanoseconds interval;
  std::mutex mutex;
  bool stopped = false;
  Executor::TimerId timer = 0;
  Revision last_seen = 0;
};

Compactor::Compactor(Store& store, Executor& executor, std::chrono::nanoseconds interval)
    : state_(std::make_shared<State>(store, executor, interval)) {
  state_->Schedule();
}

Compactor::~Compactor() {
  std::lock_guard lock(state_->mutex);
  state_->stopped = true;
  state_->executor.Cancel(state_->timer);
}

}  // namespace skiff::cp
