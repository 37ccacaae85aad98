// EventRecorder: writes the Events that `kubectl describe` and `kubectl get events` show.
//
// An event that happens again raises its count instead of making a new object, and an object that
// brings about too many is cut off. Recording never fails and never waits: the writing is done on a
// strand of its own, and events are dropped when too many wait.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/async/executor.h"
#include "control-plane/api/client.h"

namespace skiff::cp {

// Thread-safe. client and executor must outlive the work posted.
class EventRecorder {
 public:
  // component: who reports, as "deployment-controller".
  EventRecorder(Client& client, Executor& executor, std::string component);
  ~EventRecorder();

  // About an object of any kind that was read from the API.
  void Normal(const Message& object, std::string_view reason, std::string message);
  void Warning(const Message& object, std::string_view reason, std::string message);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace skiff::cp
