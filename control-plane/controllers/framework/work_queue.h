// WorkQueue: the keys that a controller has to look at again.
//
// A key that is added several times before it is processed is processed once. A key whose
// processing fails comes back after a delay that doubles with each failure.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "base/async/executor.h"
#include "base/result.h"

namespace skiff::cp {

// All of it, the processing included, runs on the strand given; Stop may be called from anywhere.
class WorkQueue {
 public:
  using Process = std::function<Result<>(const std::string& key)>;

  // name: for logs.
  WorkQueue(std::string name, Executor& strand, Process process);

  // Begins to process what was added and what will be. owner: what this queue is a part of; it is
  // kept alive while a key is processed, and nothing happens once it is gone.
  void Start(std::weak_ptr<void> owner);
  void Stop() { *stopped_ = true; }

  void Add(const std::string& key);
  // Adds the key later; the earlier one of two delays holds.
  void AddAfter(const std::string& key, std::chrono::nanoseconds delay);
  // How many keys wait to be processed now.
  size_t size() const { return order_.size(); }

 private:
  void ScheduleNext();
  void ProcessNext();
  std::chrono::nanoseconds BackOff(const std::string& key);
  // The closure, to be run on the strand if the owner is still there.
  Closure Guarded(std::function<void()> work);

  const std::string name_;
  Executor& strand_;
  const Process process_;
  std::weak_ptr<void> owner_;
  std::shared_ptr<std::atomic<bool>> stopped_;
  bool started_ = false;
  bool scheduled_ = false;
  std::deque<std::string> order_;
  std::unordered_set<std::string> waiting_;  // the keys of order_
  std::unordered_map<std::string, SteadyTime> delayed_;
  std::unordered_map<std::string, int> failures_;
};

}  // namespace skiff::cp
