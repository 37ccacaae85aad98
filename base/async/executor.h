// Executors: where work runs. ThreadPool runs closures on its threads, Strand runs them one at a
// time in order on top of another executor, ManualExecutor runs them when a test says so.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/clock.h"

namespace skiff {

using Closure = std::function<void()>;

// Thread-safe. A closure must not throw and must not block for long on anything but I/O that the
// executor was made for; blocking work goes to a pool of its own.
class Executor {
 public:
  virtual ~Executor() = default;

  // Runs the closure soon, never inside this call.
  virtual void Post(Closure work) = 0;

  // Names a pending timer; 0 names none.
  using TimerId = uint64_t;
  // Runs the closure once after the delay. The id stays valid until it has run or is cancelled.
  virtual TimerId PostAfter(std::chrono::nanoseconds delay, Closure work) = 0;
  // True when the timer was still pending: its closure will not run.
  virtual bool Cancel(TimerId id) = 0;

  virtual const Clock& clock() const = 0;
};

// A fixed number of threads and one timer queue.
class ThreadPool : public Executor {
 public:
  // name: of its threads, as ps and gdb show it (15 characters at most).
  ThreadPool(std::string name, int threads);
  // Stops: pending closures are dropped, running ones are waited for.
  ~ThreadPool() override;

  void Post(Closure work) override;
  TimerId PostAfter(std::chrono::nanoseconds delay, Closure work) override;
  bool Cancel(TimerId id) override;
  const Clock& clock() const override { return Clock::Real(); }

  // Drops what is pending, waits for what runs. Later posts are dropped. Idempotent; not to be
  // called from the pool's own threads.
  void Stop();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Runs closures one at a time, in the order of posting, on the executor below. The owner of state
// holds a Strand and touches the state only in closures posted to it, which must keep that owner
// alive (shared_ptr) or be fenced by the owner's shutdown. What the executor below drops unrun,
// when it stops, the strand drops too.
class Strand : public Executor {
 public:
  // below must outlive the strand and every closure posted to it.
  explicit Strand(Executor& below);
  ~Strand() override;

  void Post(Closure work) override;
  TimerId PostAfter(std::chrono::nanoseconds delay, Closure work) override;
  bool Cancel(TimerId id) override;
  const Clock& clock() const override { return below_.clock(); }
  // Whether the calling thread is running a closure of this strand.
  bool IsCurrent() const;

 private:
  struct State;
  Executor& below_;
  std::shared_ptr<State> state_;
};

// For tests: closures run inside RunUntilIdle and Advance, on the calling thread, in the order of
// posting and of time. Not thread-safe.
class ManualExecutor : public Executor {
 public:
  // wall: what WallNow() says at the start.
  explicit ManualExecutor(WallTime wall = WallTime(std::chrono::seconds(1'700'000'000)));
  ~ManualExecutor() override;

  void Post(Closure work) override;
  TimerId PostAfter(std::chrono::nanoseconds delay, Closure work) override;
  bool Cancel(TimerId id) override;
  const Clock& clock() const override;

  // Runs all that is due now, also what that posts.
  void RunUntilIdle();
  // Moves time forward, stopping at each timer on the way.
  void Advance(std::chrono::nanoseconds by);
  // How many timers are pending.
  size_t pending_timers() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace skiff
