#include <atomic>
#include <deque>
#include <mutex>
#include <thread>

#include "base/async/executor.h"

namespace skiff {

struct Strand::State {
  std::mutex mutex;
  std::deque<Closure> queue;
  bool scheduled = false;  // a drain is posted below, or running
  std::atomic<std::thread::id> runner;

  // How many closures one turn below may run, so that a busy strand does not hold its thread.
  static constexpr int kTurn = 16;

  static void Enqueue(const std::shared_ptr<State>& state, Executor& below, Closure work) {
    {
      std::lock_guard lock(state->mutex);
      state->queue.push_back(std::move(work));
      if (state->scheduled) return;
      state->scheduled = true;
    }
    below.Post([state, &below] { Drain(state, below); });
  }

  static void Drain(const std::shared_ptr<State>& state, Executor& below) {
    state->runner = std::this_thread::get_id();
    for (int i = 0; i < kTurn; ++i) {
      Closure work;
      {
        std::lock_guard lock(state->mutex);
        if (state->queue.empty()) {
          state->runner = std::thread::id();
          state->scheduled = false;
          return;
        }
        work = std::move(state->queue.front());
        state->queue.pop_front();
      }
      work();
    }
    state->runner = std::thread::id();
    below.Post([state, &below] { Drain(state, below); });
  }
};

Strand::Strand(Executor& below) : below_(below), state_(std::make_shared<State>()) {}
Strand::~Strand() = default;

void Strand::Post(Closure work) { State::Enqueue(state_, below_, std::move(work)); }

Executor::TimerId Strand::PostAfter(std::chrono::nanoseconds delay, Closure work) {
  return below_.PostAfter(delay,
                          [state = state_, &below = below_, work = std::move(work)]() mutable {
                            State::Enqueue(state, below, std::move(work));
                          });
}

bool Strand::Cancel(TimerId id) { return below_.Cancel(id); }

bool Strand::IsCurrent() const { return state_->runner == std::this_thread::get_id(); }

}  // namespace skiff
