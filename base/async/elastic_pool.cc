#include "base/async/elastic_pool.h"

#include <pthread.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

namespace skiff {

// Threads are detached and hold the state; Stop waits for their number to fall to zero.
struct ElasticPool::State : std::enable_shared_from_this<ElasticPool::State> {
  // A thread that waits for work.
  struct Idle {
    std::condition_variable wake;
    bool woken = false;
  };

  std::mutex mutex;
  std::condition_variable ended;
  std::deque<Closure> queue;
  // The longest idle first. Work goes to the last, whose stack and heap are warm, so that a steady
  // load lets the threads of a burst end. Shared, so that one is woken without the mutex, which it
  // would only wait for.
  std::vector<std::shared_ptr<Idle>> idle;
  std::string name;
  int max_threads = 1;
  int threads = 0;
  bool stopping = false;

  static constexpr std::chrono::seconds kIdle{10};

  void Post(Closure work) {
    std::unique_lock lock(mutex);
    if (stopping) return;
    queue.push_back(std::move(work));
    if (!idle.empty()) {
      const std::shared_ptr<Idle> last = TakeLast();
      lock.unlock();
      last->wake.notify_one();
      return;
    }
    if (threads >= max_threads) return;
    ++threads;
    std::thread thread([state = shared_from_this()] { state->Run(); });
    ::pthread_setname_np(thread.native_handle(), name.c_str());
    thread.detach();
  }

  // The caller wakes it.
  std::shared_ptr<Idle> TakeLast() {
    std::shared_ptr<Idle> last = std::move(idle.back());
    idle.pop_back();
    last->woken = true;
    return last;
  }

  // False when no work came for long.
  bool AwaitWork(std::unique_lock<std::mutex>& lock, const std::shared_ptr<Idle>& self) {
    self->woken = false;
    idle.push_back(self);
    if (self->wake.wait_for(lock, kIdle, [&] { return self->woken; })) return true;
    std::erase(idle, self);
    return false;
  }

  void Run() {
    const auto self = std::make_shared<Idle>();
    std::unique_lock lock(mutex);
    while (!stopping) {
      if (queue.empty()) {
        if (!AwaitWork(lock, self)) break;
        continue;
      }
      Closure work = std::move(queue.front());
      queue.pop_front();
      lock.unlock();
      work();
      work = nullptr;  // what it holds is released outside the lock
      lock.lock();
    }
    --threads;
    ended.notify_all();
  }
};

ElasticPool::ElasticPool(std::string name, int max_threads, Executor& timers)
    : timers_(timers), state_(std::make_shared<State>()) {
  state_->name = name.substr(0, 15);
  state_->max_threads = max_threads;
}

ElasticPool::~ElasticPool() { Stop(); }

void ElasticPool::Post(Closure work) { state_->Post(std::move(work)); }

Executor::TimerId ElasticPool::PostAfter(std::chrono::nanoseconds delay, Closure work) {
  return timers_.PostAfter(
      delay, [state = state_, work = std::move(work)]() mutable { state->Post(std::move(work)); });
}

void ElasticPool::Stop() {
  std::deque<Closure> dropped;
  std::unique_lock lock(state_->mutex);
  state_->stopping = true;
  dropped.swap(state_->queue);
  while (!state_->idle.empty()) state_->TakeLast()->wake.notify_one();
  state_->ended.wait(lock, [&] { return state_->threads == 0; });
}

int ElasticPool::threads() const {
  std::lock_guard lock(state_->mutex);
  return state_->threads;
}

}  // namespace skiff
