#include <pthread.h>

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/async/executor.h"

namespace skiff {

struct ThreadPool::State {
  using Timers = std::multimap<SteadyTime, std::pair<TimerId, Closure>>;

  std::mutex mutex;
  std::condition_variable wake;
  std::deque<Closure> ready;
  Timers timers;
  std::unordered_map<TimerId, Timers::iterator> timer_by_id;
  TimerId next_timer = 1;
  bool stopping = false;
  std::vector<std::thread> threads;

  // Moves timers that are due to the ready queue.
  void CollectDueTimers() {
    SteadyTime now = Clock::Real().Now();
    while (!timers.empty() && timers.begin()->first <= now) {
      timer_by_id.erase(timers.begin()->second.first);
      ready.push_back(std::move(timers.begin()->second.second));
      timers.erase(timers.begin());
    }
  }

  void Run() {
    std::unique_lock lock(mutex);
    while (!stopping) {
      CollectDueTimers();
      if (!ready.empty()) {
        Closure work = std::move(ready.front());
        ready.pop_front();
        if (!ready.empty()) wake.notify_one();
        lock.unlock();
        work();
        work = nullptr;  // what it holds is released outside the lock
        lock.lock();
      } else if (timers.empty()) {
        wake.wait(lock);
      } else {
        SteadyTime due = timers.begin()->first;  // a copy: the timer may go while we wait
        wake.wait_until(lock, due);
      }
    }
  }
};

ThreadPool::ThreadPool(std::string name, int threads) : state_(std::make_unique<State>()) {
  for (int i = 0; i < threads; ++i) {
    state_->threads.emplace_back([this] { state_->Run(); });
    ::pthread_setname_np(state_->threads.back().native_handle(), name.substr(0, 15).c_str());
  }
}

ThreadPool::~ThreadPool() { Stop(); }

void ThreadPool::Stop() {
  std::deque<Closure> dropped;
  State::Timers dropped_timers;
  std::vector<std::thread> threads;
  {
    std::lock_guard lock(state_->mutex);
    state_->stopping = true;
    dropped.swap(state_->ready);
    dropped_timers.swap(state_->timers);
    state_->timer_by_id.clear();
    threads.swap(state_->threads);
    state_->wake.notify_all();
  }
  for (std::thread& thread : threads) thread.join();
}

void ThreadPool::Post(Closure work) {
  std::lock_guard lock(state_->mutex);
  if (state_->stopping) return;
  state_->ready.push_back(std::move(work));
  state_->wake.notify_one();
}

Executor::TimerId ThreadPool::PostAfter(std::chrono::nanoseconds delay, Closure work) {
  std::lock_guard lock(state_->mutex);
  if (state_->stopping) return 0;
  TimerId id = state_->next_timer++;
  SteadyTime due = Clock::Real().Now() + std::chrono::duration_cast<SteadyTime::duration>(delay);
  auto position = state_->timers.emplace(due, std::pair(id, std::move(work)));
  state_->timer_by_id[id] = position;
  if (position == state_->timers.begin()) state_->wake.notify_one();
  return id;
}

bool ThreadPool::Cancel(TimerId id) {
  Closure dropped;
  std::lock_guard lock(state_->mutex);
  auto found = state_->timer_by_id.find(id);
  if (found == state_->timer_by_id.end()) return false;
  dropped = std::move(found->second->second.second);
  state_->timers.erase(found->second);
  state_->timer_by_id.erase(found);
  return true;
}

}  // namespace skiff
