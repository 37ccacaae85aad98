#include <deque>
#include <map>
#include <utility>

#include "base/async/executor.h"

namespace skiff {

struct ManualExecutor::State : public Clock {
  std::deque<Closure> ready;
  std::map<std::pair<SteadyTime, TimerId>, Closure> timers;
  TimerId next_timer = 1;
  SteadyTime now;
  WallTime wall;
  bool stopping = false;

  SteadyTime Now() const override { return now; }
  WallTime WallNow() const override { return wall; }
};

ManualExecutor::ManualExecutor(WallTime wall) : state_(std::make_unique<State>()) {
  state_->wall = wall;
}

ManualExecutor::~ManualExecutor() {
  // What the pending closures hold may post when it goes.
  state_->stopping = true;
  std::exchange(state_->ready, {}).clear();
  std::exchange(state_->timers, {}).clear();
}

void ManualExecutor::Post(Closure work) {
  if (!state_->stopping) state_->ready.push_back(std::move(work));
}

Executor::TimerId ManualExecutor::PostAfter(std::chrono::nanoseconds delay, Closure work) {
  if (state_->stopping) return 0;
  TimerId id = state_->next_timer++;
  SteadyTime due = state_->now + std::chrono::duration_cast<SteadyTime::duration>(delay);
  state_->timers.emplace(std::pair(due, id), std::move(work));
  return id;
}

bool ManualExecutor::Cancel(TimerId id) {
  return std::erase_if(state_->timers,
                       [id](const auto& timer) { return timer.first.second == id; }) > 0;
}

const Clock& ManualExecutor::clock() const { return *state_; }

void ManualExecutor::RunUntilIdle() {
  for (;;) {
    if (!state_->ready.empty()) {
      Closure work = std::move(state_->ready.front());
      state_->ready.pop_front();
      work();
    } else if (!state_->timers.empty() && state_->timers.begin()->first.first <= state_->now) {
      Closure work = std::move(state_->timers.begin()->second);
      state_->timers.erase(state_->timers.begin());
      work();
    } else {
      return;
    }
  }
}

void ManualExecutor::Advance(std::chrono::nanoseconds by) {
  SteadyTime target = state_->now + std::chrono::duration_cast<SteadyTime::duration>(by);
  auto move_to = [this](SteadyTime time) {
    state_->wall += std::chrono::duration_cast<WallTime::duration>(time - state_->now);
    state_->now = time;
  };
  RunUntilIdle();
  while (!state_->timers.empty() && state_->timers.begin()->first.first <= target) {
    move_to(std::max(state_->now, state_->timers.begin()->first.first));
    RunUntilIdle();
  }
  move_to(target);
}

size_t ManualExecutor::pending_timers() const { return state_->timers.size(); }

}  // namespace skiff
