// EventLog: what happened to containers and sandboxes, as one ordered log that any number of
// clients follow (GetContainerEvents).
//
// Events are kept until every follower has had them, up to a number and a sum of bytes. A client
// that falls behind further than that is told so and ends, since a gap must never pass in silence:
// it lists anew and follows again. So no client, however slow, costs more than the log. Events are
// numbered in the order of appending. Thread-safe.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>

#include "base/result.h"
#include "proto/cri/runtime/v1/api.pb.h"

namespace skiff::cri {

namespace api = ::runtime::v1;

class EventLog {
 public:
  using Event = std::shared_ptr<const api::ContainerEventResponse>;
  struct Bounds {
    size_t events = 4096;
    size_t bytes = 16 << 20;
  };
  EventLog() : EventLog(Bounds()) {}
  explicit EventLog(Bounds bounds) : bounds_(bounds) {}

  void Append(api::ContainerEventResponse event);
  // Whether anybody follows. If not, an event need not be made: who follows later has missed
  // nothing, provided that the change can be listed before this is asked.
  bool followed() const;

  // One follower: events from the moment of Follow on.
  class Follower {
   public:
    // The next event; null when there is none yet: wake, given to Follow, is then called once
    // (from the appending thread; it must not block nor call back in here). DataLoss: fell behind.
    virtual Result<Event> Next() = 0;
    virtual ~Follower() = default;
  };
  // wake may be called until the follower is destroyed. The log must outlive its followers.
  std::unique_ptr<Follower> Follow(std::function<void()> wake);

 private:
  class LogFollower;
  void DropOldest();
  void DropRead();

  const Bounds bounds_;
  mutable std::mutex mutex_;  // guards all below
  std::deque<Event> events_;
  size_t bytes_ = 0;    // of events_
  uint64_t first_ = 0;  // the number of events_.front()
  std::map<uint64_t, LogFollower*> followers_;
  uint64_t next_follower_ = 0;
};

}  // namespace skiff::cri
