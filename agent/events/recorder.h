// Events: what happened to a pod or the node, for `kubectl describe` and `kubectl get events`.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "proto/k8s/fwd.h"

namespace skiff::agent {

// What an event is about.
struct EventSubject {
  std::string kind;  // "Pod", "Node", "Service"
  std::string name_space;
  std::string name;
  std::string uid;
  std::string field_path = {};  // "spec.containers{web}", or empty
  // Who says so, as upstream's components call themselves.
  std::string component = "kubelet";
};
EventSubject SubjectOf(const k8s::core::v1::Pod& pod, std::string field_path = {});

// Counts repetitions into one event and limits how many a subject may cause (25 at once, then one
// every five minutes), as upstream's recorder does. Thread-safe; the sink is called outside locks.
class EventRecorder {
 public:
  using Sink = std::function<void(const k8s::core::v1::Event&)>;
  // clock must outlive the recorder.
  EventRecorder(std::string node_name, const Clock& clock, Sink sink);

  void Normal(const EventSubject& subject, std::string_view reason, std::string_view message) {
    Record(subject, "Normal", reason, message);
  }
  void Warning(const EventSubject& subject, std::string_view reason, std::string_view message) {
    Record(subject, "Warning", reason, message);
  }

 private:
  struct Seen {
    std::string name;
    int count = 0;
    WallTime first;
    WallTime last;
  };
  struct Allowance {
    double tokens = 25;
    WallTime refilled;
  };
  void Record(const EventSubject& subject, std::string_view type, std::string_view reason,
              std::string_view message);
  bool Allowed(const std::string& subject_key, WallTime now);

  const std::string node_name_;
  const Clock& clock_;
  const Sink sink_;
  std::mutex mutex_;
  std::map<std::string, Seen> seen_;
  std::map<std::string, Allowance> allowances_;
};

}  // namespace skiff::agent
