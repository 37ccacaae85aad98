#include "control-plane/scheduler/scheduling_queue.h"

#include <algorithm>
#include <vector>

#include "control-plane/controllers/framework/objects.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::cp {
namespace {

// Upstream's podInitialBackoffSeconds, podMaxBackoffSeconds and podMaxInUnschedulablePodsDuration.
constexpr std::chrono::seconds kFirstBackOff{1};
constexpr std::chrono::seconds kLongestBackOff{10};
constexpr std::chrono::minutes kLongestUnschedulable{5};
constexpr std::chrono::seconds kLookAgain{10};

// Status updates, among them our own, do not make a pod schedulable.
bool MayFitNow(const k8s::core::v1::Pod& before, const k8s::core::v1::Pod& now) {
  if (!Equal(before.spec(), now.spec())) return true;
  k8s::meta::v1::ObjectMeta left, right;
  *left.mutable_labels() = before.metadata().labels();
  *right.mutable_labels() = now.metadata().labels();
  return !Equal(left, right);
}

}  // namespace

SteadyTime SchedulingQueue::BackOffEnd(const Entry& entry) {
  if (entry.attempts == 0) return {};
  std::chrono::seconds back_off = kFirstBackOff * (1 << std::min(entry.attempts - 1, 10));
  return entry.tried + std::min(back_off, kLongestBackOff);
}

SchedulingQueue::ActiveKey SchedulingQueue::KeyOfActive(const std::string& uid,
                                                        const Entry& entry) const {
  return {-int64_t{entry.pod->spec().priority()}, entry.order, uid};
}

void SchedulingQueue::Leave(const std::string& uid, Entry& entry) {
  if (entry.place == Place::kActive) active_.erase(KeyOfActive(uid, entry));
  if (entry.place == Place::kBackOff || entry.place == Place::kUnschedulable) {
    waiting_.erase({entry.due, uid});
  }
  entry.place = Place::kOut;
}

void SchedulingQueue::Enter(const std::string& uid, Entry& entry, Place place, SteadyTime due) {
  Leave(uid, entry);
  entry.place = place;
  entry.due = due;
  if (place == Place::kActive) active_.insert(KeyOfActive(uid, entry));
  if (place == Place::kBackOff || place == Place::kUnschedulable) waiting_.insert({due, uid});
}

void SchedulingQueue::Set(const PodPtr& pod, SteadyTime now) {
  const std::string& uid = pod->metadata().uid();
  auto [found, fresh] = entries_.try_emplace(uid);
  Entry& entry = found->second;
  if (fresh) {
    entry.pod = pod;
    entry.order = next_order_++;
    Enter(uid, entry, Place::kActive);
    return;
  }
  const bool may_fit = MayFitNow(*entry.pod, *pod);
  const Place place = entry.place;
  const SteadyTime due = entry.due;
  Leave(uid, entry);
  entry.pod = pod;
  if (place != Place::kOut) Enter(uid, entry, place, due);
  if (may_fit) WakeEntry(uid, entry, now);
}

void SchedulingQueue::Remove(const std::string& uid) {
  auto found = entries_.find(uid);
  if (found == entries_.end()) return;
  Leave(uid, found->second);
  entries_.erase(found);
}

PodPtr SchedulingQueue::Pop(SteadyTime now) {
  if (active_.empty()) return nullptr;
  std::string uid = std::get<std::string>(*active_.begin());
  Entry& entry = entries_.at(uid);
  Leave(uid, entry);
  ++entry.attempts;
  entry.tried = now;
  entry.woken_out = false;
  return entry.pod;
}

void SchedulingQueue::PutBackUnschedulable(const std::string& uid, SteadyTime now) {
  auto found = entries_.find(uid);
  if (found == entries_.end()) return;
  if (found->second.woken_out) {
    Enter(uid, found->second, Place::kBackOff, BackOffEnd(found->second));
  } else {
    Enter(uid, found->second, Place::kUnschedulable, now + kLongestUnschedulable);
  }
}

void SchedulingQueue::PutBackFailed(const std::string& uid, SteadyTime) {
  auto found = entries_.find(uid);
  if (found == entries_.end()) return;
  Enter(uid, found->second, Place::kBackOff, BackOffEnd(found->second));
}

void SchedulingQueue::WakeEntry(const std::string& uid, Entry& entry, SteadyTime now) {
  if (entry.place == Place::kOut) entry.woken_out = true;
  if (entry.place != Place::kUnschedulable) return;
  SteadyTime end = BackOffEnd(entry);
  if (end <= now) {
    Enter(uid, entry, Place::kActive);
  } else {
    Enter(uid, entry, Place::kBackOff, end);
  }
}

void SchedulingQueue::WakeOne(const std::string& uid, SteadyTime now) {
  auto found = entries_.find(uid);
  if (found != entries_.end()) WakeEntry(uid, found->second, now);
}

void SchedulingQueue::Wake(const std::function<bool(const k8s::core::v1::Pod&)>& may_fit,
                           SteadyTime now) {
  for (auto& [uid, entry] : entries_) {
    const bool waits = entry.place == Place::kUnschedulable || entry.place == Place::kOut;
    if (!waits) continue;
    if (may_fit(*entry.pod)) {
      WakeEntry(uid, entry, now);
    } else if (entry.place == Place::kUnschedulable) {
      Enter(uid, entry, Place::kUnschedulable, std::min(entry.due, now + kLookAgain));
    }
  }
}

std::optional<SteadyTime> SchedulingQueue::NextDue() const {
  if (waiting_.empty()) return std::nullopt;
  return waiting_.begin()->first;
}

void SchedulingQueue::Advance(SteadyTime now) {
  while (!waiting_.empty() && waiting_.begin()->first <= now) {
    std::string uid = waiting_.begin()->second;
    Enter(uid, entries_.at(uid), Place::kActive);
  }
}

}  // namespace skiff::cp
