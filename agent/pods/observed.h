// What the runtime says about one pod, as plain values.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"

namespace skiff::agent {

struct ObservedSandbox {
  std::string id;
  uint32_t attempt = 0;
  bool ready = false;
  WallTime created_at;
  std::vector<std::string> ips;  // the primary one first; empty on the host's network
};

enum class ContainerPhase { kCreated, kRunning, kExited, kUnknown };

struct ObservedContainer {
  std::string id;
  std::string sandbox_id;
  std::string name;
  uint32_t attempt = 0;  // 0 for the first; the restart count of the status
  ContainerPhase phase = ContainerPhase::kUnknown;
  int exit_code = 0;
  std::string reason;   // of the exit: "Completed", "Error", "OOMKilled", ...
  std::string message;  // of the exit
  WallTime created_at;
  WallTime started_at;
  WallTime finished_at;
  std::string image;      // as the pod names it
  std::string image_ref;  // what it resolved to
  std::string spec_hash;  // of the container's spec when it was created
  std::string log_path;
  std::string termination_message_path;    // in the container
  std::string termination_message_policy;  // "File" or "FallbackToLogsOnError"
};

// Sandboxes and containers, the newest first. A value without behaviour of its own: taken by
// Observe, never changed afterwards.
struct ObservedPod {
  std::vector<ObservedSandbox> sandboxes;
  std::vector<ObservedContainer> containers;
  // By container name, of those the runtime has no record of (a reboot voids its records): the runs
  // that left a log.
  std::map<std::string, uint32_t, std::less<>> logged_runs;

  // The attempt of the container's next run.
  uint32_t NextAttempt(std::string_view name) const {
    if (const ObservedContainer* newest = Newest(name)) return newest->attempt + 1;
    auto logged = logged_runs.find(name);
    return logged == logged_runs.end() ? 0 : logged->second;
  }
  const ObservedSandbox* NewestSandbox() const {
    return sandboxes.empty() ? nullptr : &sandboxes.front();
  }
  // The newest container of that name in any sandbox, or null.
  const ObservedContainer* Newest(std::string_view name) const { return NewestIn(name, {}); }
  // The newest container of that name in the sandbox (any, when the id is empty), or null.
  const ObservedContainer* NewestIn(std::string_view name, std::string_view sandbox_id) const {
    for (const ObservedContainer& container : containers) {
      if (container.name != name) continue;
      if (sandbox_id.empty() || container.sandbox_id == sandbox_id) return &container;
    }
    return nullptr;
  }
  const ObservedContainer* ById(std::string_view id) const {
    for (const ObservedContainer& container : containers) {
      if (container.id == id) return &container;
    }
    return nullptr;
  }
  bool AnyRunning() const {
    for (const ObservedContainer& container : containers) {
      if (container.phase == ContainerPhase::kRunning) return true;
    }
    return false;
  }
};

}  // namespace skiff::agent
