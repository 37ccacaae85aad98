// SchedulingQueue: the pods that wait for a node.
//
// A pod is in one of three places: active (to be tried now), backing off (tried a short while ago)
// or unschedulable (no node could take it, until something changes). A value; time is handed in.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>

#include "base/clock.h"
#include "proto/k8s/fwd.h"

namespace skiff::cp {

using PodPtr = std::shared_ptr<const k8s::core::v1::Pod>;

class SchedulingQueue {
 public:
  // Adds a pod, or replaces what is known of it. A pod that could not be placed becomes active
  // again when its spec or labels changed.
  void Set(const PodPtr& pod, SteadyTime now);
  void Remove(const std::string& uid);

  // The next active pod: the highest priority, then the longest waiting. It is out of all three
  // places until it is put back or removed.
  PodPtr Pop(SteadyTime now);
  // No node could take it.
  void PutBackUnschedulable(const std::string& uid, SteadyTime now);
  // Something went wrong on the way: after its back-off it is tried again.
  void PutBackFailed(const std::string& uid, SteadyTime now);
  // The world has changed. Pods that may fit now are tried again after their back-off; the others
  // soon, so that what they are told about the reasons stays true.
  void Wake(const std::function<bool(const k8s::core::v1::Pod&)>& may_fit, SteadyTime now);
  // The same for one pod, that may fit now.
  void WakeOne(const std::string& uid, SteadyTime now);

  bool HasActive() const { return !active_.empty(); }
  // When the queue has to be looked at again without a call: the end of a back-off, or of the
  // longest time a pod stays unschedulable.
  std::optional<SteadyTime> NextDue() const;
  // Moves what is due to the active pods.
  void Advance(SteadyTime now);

 private:
  enum class Place { kActive, kBackOff, kUnschedulable, kOut };
  using ActiveKey = std::tuple<int64_t, uint64_t, std::string>;  // -priority, order, uid
  struct Entry {
    PodPtr pod;
    Place place = Place::kOut;
    int attempts = 0;
    uint64_t order = 0;
    SteadyTime tried;
    SteadyTime due;          // when backing off or unschedulable
    bool woken_out = false;  // the world changed while it was being tried
  };
  void Leave(const std::string& uid, Entry& entry);
  void Enter(const std::string& uid, Entry& entry, Place place, SteadyTime due = {});
  void WakeEntry(const std::string& uid, Entry& entry, SteadyTime now);
  static SteadyTime BackOffEnd(const Entry& entry);
  ActiveKey KeyOfActive(const std::string& uid, const Entry& entry) const;

  std::map<std::string, Entry> entries_;  // by uid
  std::set<ActiveKey> active_;
  std::set<std::pair<SteadyTime, std::string>> waiting_;  // backing off or unschedulable, by due
  uint64_t next_order_ = 0;
};

}  // namespace skiff::cp
