// WatchHub: delivers the events of a store to its watches, each from its own position.
//
// A watch is a cursor. Recent events come from a bounded tail in memory; a watch that is behind the
// tail reads the backend's history until it has caught up. So a slow or late watch costs no memory
// and sees neither gap nor duplicate.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/async/executor.h"
#include "control-plane/store/store.h"

namespace skiff::cp {

class WatchHub {
 public:
  struct History {
    std::vector<EventPtr> events;
    Revision until = 0;  // every matching event up to here is among them
  };
  // Reads the prefix's events in (after, until] from the backend, or a first part of them made of
  // whole revisions. kExpired when some of them are compacted. Runs on the executor.
  using ReadHistory =
      std::function<Result<History>(const std::string& prefix, Revision after, Revision until)>;

  struct Options {
    size_t tail_events = 1024;
    size_t tail_bytes = 2 << 20;
  };

  // revision: the store's, of which everything is in its history already. Receivers run on the
  // executor, one at a time; it must outlive the hub.
  WatchHub(Executor& executor, Options options, Revision revision, ReadHistory read_history);
  ~WatchHub();

  // The events of newer, durable revisions, in order; revision is the last of them.
  void Publish(std::vector<EventPtr> events, Revision revision);
  std::unique_ptr<Watch> Start(WatchRequest request, WatchReceiver receiver);
  // The last published revision.
  Revision revision() const;

 private:
  struct Cursor;
  struct State;
  class Handle;
  std::shared_ptr<State> state_;
};

}  // namespace skiff::cp
