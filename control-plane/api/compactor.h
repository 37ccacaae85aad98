// Compactor: lets the store forget versions nobody may ask for any more.
#pragma once

#include <chrono>
#include <memory>

#include "base/async/executor.h"
#include "control-plane/store/store.h"

namespace skiff::cp {

// Every interval it compacts to the revision of one interval ago, so a version stays readable for
// one to two intervals. Stops when destroyed. The executor may block (store I/O).
class Compactor {
 public:
  Compactor(Store& store, Executor& executor, std::chrono::nanoseconds interval);
  ~Compactor();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace skiff::cp
