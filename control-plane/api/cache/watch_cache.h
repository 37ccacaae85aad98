// WatchCache: every object of every kind decoded in memory, with the recent events of each kind.
//
// One watch of the store feeds it, in the order of revisions; so it always shows the state of one
// revision of the whole cluster, a little behind the store's. Lists and watches are answered from
// it; WaitFor makes a list consistent.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "control-plane/api/kind.h"
#include "control-plane/api/object.h"
#include "control-plane/store/store.h"

namespace skiff::cp {

// One change of one object. Immutable but for the encoding, which watchers that write it at about
// the same time share.
class CacheEvent {
 public:
  // Of a deletion: the last state, under the deletion's revision.
  StoredPtr object;
  StoredPtr previous;  // null: created by this event
  bool deleted = false;
  Revision revision = 0;
  SteadyTime seen;

  // The object as JSON in its stored kind. Thread-safe.
  std::shared_ptr<const std::string> Json() const;
  // The encoding is made anew for those who come later.
  void ForgetJson() const;

 private:
  mutable std::mutex mutex_;
  mutable std::shared_ptr<const std::string> json_;  // guarded by mutex_
};
using CacheEventPtr = std::shared_ptr<const CacheEvent>;

// Receives a kind's events on the cache's thread with the cache locked: it only queues.
class CacheListener {
 public:
  virtual ~CacheListener() = default;
  virtual void OnEvent(const CacheEventPtr& event) = 0;
  // Events have been lost: the listener must start again from a snapshot. Nothing more comes.
  virtual void OnLost() = 0;
};

struct CacheSnapshot {
  std::vector<StoredPtr> objects;  // in the order of their keys
  Revision revision = 0;
};

// Thread-safe.
class WatchCache {
 public:
  // Clients' watches resume within the recent events: as upstream, those of the last 75 seconds.
  struct Options {
    size_t min_events = 128;  // of each kind, however old
    size_t max_events = 2048;
    std::chrono::seconds event_age{75};
    size_t encoded_events = 32;          // that also keep their JSON
    Revision replayed_revisions = 1000;  // at start, so that clients' watches can resume
  };
  // Loads everything and returns when it has caught up with the store. Both must outlive it.
  static Result<std::unique_ptr<WatchCache>> Start(Store& store, const Kinds& kinds,
                                                   Options options);
  static Result<std::unique_ptr<WatchCache>> Start(Store& store, const Kinds& kinds) {
    return Start(store, kinds, Options{});
  }
  ~WatchCache();

  // Everything up to this revision is in.
  Revision revision() const;
  // False when the revision has not come in time.
  bool WaitFor(Revision revision, std::chrono::milliseconds timeout) const;

  // Waits until everything the store has acknowledged so far is in. False when that takes too long.
  bool CatchUp(std::chrono::milliseconds timeout) const;

  // kind: a stored one, no view. ns: only this namespace; empty: all.
  CacheSnapshot List(const KindInfo& kind, std::string_view ns) const;
  StoredPtr Get(const KindInfo& kind, const std::string& key) const;

  // A running subscription; once destroyed, the listener is not called any more.
  class Registration {
   public:
    virtual ~Registration() = default;
  };
  struct Subscribed {
    std::unique_ptr<Registration> registration;
    CacheSnapshot snapshot;             // SubscribeFromNow
    std::vector<CacheEventPtr> events;  // SubscribeAfter: what has happened since
    Revision revision = 0;
  };
  // A snapshot, and then every event after it.
  Subscribed SubscribeFromNow(const KindInfo& kind, std::string_view ns,
                              std::shared_ptr<CacheListener> listener);
  // Every event after the revision. kExpired when they are not all known any more; the message is
  // upstream's.
  Result<Subscribed> SubscribeAfter(const KindInfo& kind, std::string_view ns, Revision after,
                                    std::shared_ptr<CacheListener> listener);

  struct Counts {
    std::string resource;
    size_t objects = 0;
    size_t listeners = 0;
  };
  std::vector<Counts> Count() const;

 private:
  struct KindState {
    const KindInfo* kind = nullptr;
    std::string prefix;
    std::map<std::string, StoredPtr> objects;
    std::deque<CacheEventPtr> events;
    Revision floor = 0;  // all events after this revision are in `events`
    std::map<uint64_t, std::shared_ptr<CacheListener>> listeners;
  };
  class RegistrationHere;

  WatchCache(Store& store, const Kinds& kinds, Options options);
  Result<void> Load(Revision revision);
  Result<void> Follow();
  void OnBatch(const WatchBatch& batch);
  void Apply(const Event& event);
  void Publish(KindState& state, std::shared_ptr<CacheEvent> event);
  void DropOld(KindState& state, SteadyTime now);
  void Resync(const Error& error);
  KindState* StateOf(std::string_view key);
  KindState& StateOf(const KindInfo& kind) const;
  std::unique_ptr<Registration> Register(KindState& state, std::shared_ptr<CacheListener> listener);
  static CacheSnapshot Snapshot(const KindState& state, std::string_view ns, Revision revision);

  Store& store_;
  const Options options_;
  mutable std::mutex mutex_;
  mutable std::condition_variable advanced_;
  std::unordered_map<std::string, std::unique_ptr<KindState>> states_;  // by prefix
  std::unordered_map<const KindInfo*, KindState*> by_kind_;
  Revision revision_ = 0;
  uint64_t next_registration_ = 1;
  std::unique_ptr<Watch> watch_;
};

}  // namespace skiff::cp
