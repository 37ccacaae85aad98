// EventLog: what happened to containers and sandboxes, as one ordered log that any number of
// clients follow (GetContainerEvents).
//
// The last events are kept; a client that falls behind further than that is told so and ends, since
// a gap must never pass in silence: it lists anew and follows again. Thread-safe.
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
  explicit EventLog(size_t capacity = 4096) : capacity_(capacity) {}

  void Append(api::ContainerEventResponse event);

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
  const size_t capacity_;
  std::mutex mutex_;
  std::deque<Event> events_;
  uint64_t first_ = 0;  // the number of events_.front()
  std::map<uint64_t, LogFollower*> followers_;
  uint64_t next_follower_ = 0;
};

}  // namespace skiff::cri
