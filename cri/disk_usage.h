// DiskUsage: how much directory trees hold, known without a walk for each question.
//
// A tree of few entries is walked when it is asked about; a larger one beside the call, by one
// walker for all, while the figures of the walk before are the answer. How long figures are good
// for grows with the time they took, so that walking costs at most a twentieth of a core however
// large the trees are. (Project quotas would tell for nothing, but overlay's upper directories have
// them only on file systems mounted for it.) Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "base/async/executor.h"
#include "base/clock.h"

namespace skiff::cri {

class DiskUsage {
 public:
  struct Figures {
    uint64_t bytes = 0;  // of blocks; what has several names counts once
    uint64_t inodes = 0;
    WallTime measured;  // the epoch: not yet
  };

  // background: for long walks; stopped before this object goes.
  explicit DiskUsage(Executor& background);
  ~DiskUsage();

  // The figures of what lies below the directory, on its file system. Never waits for a long walk.
  Figures Read(const std::string& id, const std::string& directory);
  // It is gone: so is what was known of it.
  void Forget(const std::string& id);

 private:
  struct Entry {
    Figures figures;
    SteadyTime stale;  // from then on a question makes a walk
    bool walking = false;
  };
  struct State {
    std::mutex mutex;
    std::map<std::string, Entry> entries;
    std::atomic<bool> stopping = false;
  };
  static void Store(State& state, const std::string& id, const Figures& figures, SteadyTime began);

  const std::shared_ptr<State> state_;  // walks that are still under way hold it too
  Strand walker_;
};

}  // namespace skiff::cri
