// An executor for work that blocks: as many threads as there is work at once, up to a bound.
#pragma once

#include <memory>
#include <string>

#include "base/async/executor.h"

namespace skiff {

// Threads are started when all others are busy and end after being idle for ten seconds, so that a
// rare burst of slow calls (thirty containers that take their grace period to stop) neither waits
// in a queue nor leaves threads behind. Beyond the bound, work waits in order. Thread-safe.
class ElasticPool : public Executor {
 public:
  // timers: runs the timers (briefly, it only posts); must outlive the pool.
  ElasticPool(std::string name, int max_threads, Executor& timers);
  // Stops: waiting closures are dropped, running ones are waited for.
  ~ElasticPool() override;

  void Post(Closure work) override;
  TimerId PostAfter(std::chrono::nanoseconds delay, Closure work) override;
  bool Cancel(TimerId id) override { return timers_.Cancel(id); }
  const Clock& clock() const override { return timers_.clock(); }

  // Drops what waits, waits for what runs. Later posts are dropped. Idempotent; not to be called
  // from the pool's own threads.
  void Stop();
  // How many threads there are at the moment.
  int threads() const;

 private:
  struct State;
  Executor& timers_;
  std::shared_ptr<State> state_;
};

}  // namespace skiff
