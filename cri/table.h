// Table: every sandbox and container, in memory, from which all lists and statuses are answered.
//
// What an entry was made from never changes after it is added; what is observed of it (its state,
// its exit) is shown as a whole. On disk it is all in the runtime's records: client_data holds
// the messages, so there is one truth. Thread-safe; entries are handed out as shared pointers and
// stay readable after their removal.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "proto/cri/runtime/v1/api.pb.h"
#include "runtime/runtime.h"

namespace skiff::cri {

namespace api = ::runtime::v1;

// Of randomness, in the id of a sandbox or container.
inline constexpr size_t kIdBytes = 32;

struct SandboxView {
  runtime::SandboxState state = runtime::SandboxState::kCreated;
  WallTime created;
  std::string netns_path;
  std::string cgroup_path;
  pid_t pause_pid = 0;
  std::vector<std::string> addresses;  // of the pod, the primary one first
  std::string host_interface;
};

struct Sandbox {
  std::string id;
  api::RunPodSandboxRequest request;
  bool has_network = false;
  bool came_up = true;  // else it is listed because it could not be removed
  // Serialises the calls that change the sandbox; never held while the table is locked.
  std::mutex operation;
  // The last event (api::ContainerEventType) that was told of it; -1: none. Guarded by the teller.
  int told = -1;

  SandboxView view() const {
    std::lock_guard lock(mutex_);
    return view_;
  }
  // The lock is held: two that look at the runtime at the same time put down what they see in that
  // order. change must not call back.
  template <class Change>
  void UpdateView(Change change) {
    std::lock_guard lock(mutex_);
    change(view_);
  }

 private:
  mutable std::mutex mutex_;
  SandboxView view_;
};

struct ContainerView {
  runtime::ContainerState state = runtime::ContainerState::kCreated;
  WallTime created;
  std::optional<WallTime> started;
  std::optional<runtime::ContainerExit> exit;
  runtime::ResolvedUser user;
  pid_t pid = 0;
  std::string cgroup_path;
  api::LinuxContainerResources resources;
};

struct Container {
  std::string id;
  std::string sandbox_id;
  api::ContainerStatus fixed;  // everything of its status that does not change
  std::string config_digest;   // of the configuration it was created from
  bool terminal = false;
  bool stdin_open = false;
  std::string writable_dir;
  std::mutex operation;
  int told = -1;  // as the sandbox's

  ContainerView view() const {
    std::lock_guard lock(mutex_);
    return view_;
  }
  template <class Change>
  void UpdateView(Change change) {  // as the sandbox's
    std::lock_guard lock(mutex_);
    change(view_);
  }

 private:
  mutable std::mutex mutex_;
  ContainerView view_;
};

using SandboxPtr = std::shared_ptr<Sandbox>;
using ContainerPtr = std::shared_ptr<Container>;

// What a name stands for: (namespace, name, uid, attempt) of a sandbox, (sandbox, name, attempt) of
// a container. At most one thing has it.
std::string SandboxKey(const api::PodSandboxMetadata& metadata);
std::string ContainerKey(const std::string& sandbox_id, const api::ContainerMetadata& metadata);

class Table {
 public:
  // Takes the name for the id. Waits for a call that has the name and has not ended, for it runs on
  // where its client gave up. AlreadyExists, with the holder's id as the message's last word: the
  // holder is listed then.
  Result<> Reserve(const std::string& key, const std::string& id);
  // The id that has the name, or "".
  std::string Holder(const std::string& key) const;

  void Add(SandboxPtr sandbox);
  void Add(ContainerPtr container);
  // With their names.
  void RemoveSandbox(const std::string& id);
  void RemoveContainer(const std::string& id);
  // A name whose thing was never added.
  void Release(const std::string& key);

  // By id or by a prefix that is unique. NotFound; InvalidArgument for an ambiguous prefix.
  Result<SandboxPtr> FindSandbox(std::string_view id_or_prefix) const;
  Result<ContainerPtr> FindContainer(std::string_view id_or_prefix) const;
  std::vector<SandboxPtr> Sandboxes() const;
  std::vector<ContainerPtr> Containers() const;
  std::vector<ContainerPtr> ContainersOf(const std::string& sandbox_id) const;

 private:
  mutable std::mutex mutex_;
  std::condition_variable settled_;  // some name's call has ended
  std::map<std::string, SandboxPtr, std::less<>> sandboxes_;
  std::map<std::string, ContainerPtr, std::less<>> containers_;
  std::map<std::string, std::string> names_;
};

}  // namespace skiff::cri
