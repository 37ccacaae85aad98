// WatchLog: receives a watch's batches and checks the promises that hold for all of them.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "control-plane/store/store.h"

namespace skiff::cp {

// Thread-safe. The map given is the state that the watch starts from; each event is applied to it.
class WatchLog {
 public:
  WatchLog(Store& store, WatchRequest request, std::map<std::string, KeyValue> state = {});

  // Waits (bounded) until everything up to the revision, or this many events, or the watch's error
  // has come. False when it has not; no revision comes after an error.
  bool WaitRevision(Revision revision);
  bool WaitEvents(size_t count);
  bool WaitError();

  std::vector<EventPtr> events() const;
  std::map<std::string, KeyValue> state() const;
  std::optional<Error> error() const;
  size_t batches() const;
  // What was wrong with the order of events, or with their prev_kv; empty when nothing.
  std::vector<std::string> violations() const;
  // Ends the watch.
  void Stop() { watch_.reset(); }

 private:
  void Receive(const WatchBatch& batch);
  void Apply(const Event& event);
  template <class Condition>
  bool WaitFor(Condition condition);

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  WatchRequest request_;
  std::map<std::string, KeyValue> state_;
  std::vector<EventPtr> events_;
  std::vector<std::string> violations_;
  std::optional<Error> error_;
  Revision revision_ = 0;
  size_t batches_ = 0;
  std::unique_ptr<Watch> watch_;
};

// A range's answer as the state that a watch after its revision goes on from.
std::map<std::string, KeyValue> StateOf(const RangeResult& range);

}  // namespace skiff::cp
