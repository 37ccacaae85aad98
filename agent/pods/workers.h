// PodWorkers: the pods of this node, each with its worker.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "agent/pods/worker.h"

namespace skiff::agent {

// Thread-safe.
class PodWorkers {
 public:
  static constexpr std::chrono::minutes kOrphanPause{1};

  // deps must outlive the workers.
  explicit PodWorkers(const PodDeps& deps);
  // Stops looking; everything that runs goes on running.
  ~PodWorkers();

  // The pods this node is to run, all of them. What the runtime has beyond them is stopped and
  // removed, so this is called only with a state known to be complete. What runs without a worker
  // is looked for the first time, and then at most once in kOrphanPause: it is left by a run
  // before.
  void SetDesired(const std::vector<PodPtr>& pods);
  // An object that pods may name changed; kind: "ConfigMap", "Secret".
  void ObjectChanged(const std::string& kind, const std::string& name_space,
                     const std::string& name);
  // Reports every status again: the link is new.
  void RepeatReports();

  // Follows the runtime's events on a thread of its own until destruction, or looks every second
  // where the runtime has none.
  void StartWatching();
  // Something of the pod changed in the runtime.
  void Wake(const std::string& uid);
  void WakeAll();

  // NotFound when no such pod is here (uid empty: any), Unavailable before its first look.
  Result<std::shared_ptr<const PodView>> Find(const std::string& name_space,
                                              const std::string& name,
                                              const std::string& uid) const;
  size_t size() const;

 private:
  std::shared_ptr<PodWorker> AddWorker(const PodIdentity& identity);
  void Forget(const std::string& uid);
  void AdoptOrphansIfDue();
  bool AdoptOrphans();
  void Watch();
  void Relist();
  bool Sleep(std::chrono::milliseconds time);

  const PodDeps& deps_;
  mutable std::mutex mutex_;
  struct Entry {
    PodIdentity identity;
    std::shared_ptr<PodWorker> worker;
    PodPtr pod;  // as last desired; null for orphans
  };
  std::map<std::string, Entry> workers_;  // by uid
  SteadyTime orphans_due_;                // of the next look for pods that nobody wants
  // Outlives this in the callbacks of workers.
  std::shared_ptr<PodWorkers*> self_;
  std::mutex stop_mutex_;
  std::condition_variable stop_wake_;
  bool stopping_ = false;
  std::thread watcher_;
};

}  // namespace skiff::agent
