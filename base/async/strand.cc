#include <atomic>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "base/async/executor.h"

namespace skiff {

struct Strand::State {
  explicit State(Executor& executor) : below(executor) {}

  Executor& below;
  std::mutex mutex;
  std::deque<Closure> queue;
  bool scheduled = false;  // a turn is posted below, or running
  std::atomic<std::thread::id> runner;

  // How many closures one turn below may run, so that a busy strand does not hold its thread.
  static constexpr int kTurn = 16;

  // What is posted below. The closures in the queue mostly hold the strand's owner, and so the
  // queue: an executor that stops and drops the turn drops them with it.
  class Turn {
   public:
    explicit Turn(std::shared_ptr<State> state) : state_(std::move(state)) {}
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    ~Turn() {
      if (state_ != nullptr) state_->Drop();
    }
    void Run() { Drain(std::exchange(state_, nullptr)); }

   private:
    std::shared_ptr<State> state_;
  };

  static void Schedule(const std::shared_ptr<State>& state) {
    state->below.Post([turn = std::make_shared<Turn>(state)] { turn->Run(); });
  }

  static void Enqueue(const std::shared_ptr<State>& state, Closure work) {
    {
      std::lock_guard lock(state->mutex);
      state->queue.push_back(std::move(work));
      if (state->scheduled) return;
      state->scheduled = true;
    }
    Schedule(state);
  }

  static void Drain(const std::shared_ptr<State>& state) {
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
    Schedule(state);
  }

  void Drop() {
    std::deque<Closure> dropped;  // outlives the lock: what it holds may post again
    std::lock_guard lock(mutex);
    dropped.swap(queue);
    scheduled = false;
  }
};

Strand::Strand(Executor& below) : below_(below), state_(std::make_shared<State>(below)) {}
Strand::~Strand() = default;

void Strand::Post(Closure work) { State::Enqueue(state_, std::move(work)); }

Executor::TimerId Strand::PostAfter(std::chrono::nanoseconds delay, Closure work) {
  return below_.PostAfter(delay, [state = state_, work = std::move(work)]() mutable {
    State::Enqueue(state, std::move(work));
  });
}

bool Strand::Cancel(TimerId id) { return below_.Cancel(id); }

bool Strand::IsCurrent() const { return state_->runner == std::this_thread::get_id(); }

}  // namespace skiff
