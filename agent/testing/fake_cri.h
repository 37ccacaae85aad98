// A CRI runtime in memory: sandboxes, containers and images with a runtime's states and manners,
// and the means to make a container exit, a call fail or a pull take its time. For tests only.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "agent/cri_client/stubs.h"
#include "base/clock.h"

namespace skiff::agent::testing {

// Thread-safe. Calls never block and take no time.
class FakeCri {
 public:
  explicit FakeCri(const Clock& clock);
  ~FakeCri();

  std::shared_ptr<CriStubs> stubs();

  struct Sandbox {
    std::string id;
    ::runtime::v1::PodSandboxConfig config;
    bool ready = true;
    int64_t created_at = 0;
    std::string ip;
    std::string handler;
  };
  struct Container {
    std::string id;
    std::string sandbox_id;
    ::runtime::v1::ContainerConfig config;
    ::runtime::v1::ContainerState state = ::runtime::v1::CONTAINER_CREATED;
    int64_t created_at = 0;
    int64_t started_at = 0;
    int64_t finished_at = 0;
    int exit_code = 0;
    std::string reason;
    std::string message;
    std::string image_ref;
  };

  // Images that a pull finds; those of AddImage are on the node already.
  void AddRemoteImage(const std::string& name);
  void AddImage(const std::string& name, std::optional<int64_t> uid = {},
                const std::string& username = {});

  // The next `times` calls of a method ("StartContainer", ...) fail.
  void Fail(const std::string& method, grpc::Status status, int times = 1);
  // The container ends by itself.
  void Exit(const std::string& container_id, int exit_code, const std::string& reason = "");
  // As after a reboot: every sandbox is dead, every running container lost with exit code 255.
  void Reboot();
  // What ExecSync answers.
  using ExecHandler = std::function<grpc::Status(const ::runtime::v1::ExecSyncRequest&,
                                                 ::runtime::v1::ExecSyncResponse*)>;
  void OnExec(ExecHandler handler);
  // Called, unlocked, with the pod's uid after each change: stands for the event stream.
  void OnChange(std::function<void(const std::string& pod_uid)> handler);

  // Copies, in the order of creation.
  std::vector<Sandbox> sandboxes() const;
  std::vector<Container> containers() const;
  // The newest container of that name, which must exist.
  Container Newest(const std::string& name) const;
  size_t CountRunning() const;
  // The methods called so far with what they were about: "CreateContainer web", "StopContainer web
  // 30".
  std::vector<std::string> calls() const;
  void ClearCalls();

 private:
  friend class FakeRuntimeStub;
  friend class FakeImageStub;

  // Takes a planned failure of the method.
  grpc::Status Enter(const std::string& method, const std::string& about);
  int64_t NowNanos() const;
  Sandbox* FindSandbox(const std::string& id);
  Container* FindContainer(const std::string& id);
  void StopLocked(Container& container, int exit_code, const std::string& reason);
  void Changed(const std::string& sandbox_id);
  ::runtime::v1::PodSandboxStatus StatusOf(const Sandbox& sandbox) const;
  ::runtime::v1::ContainerStatus StatusOf(const Container& container) const;

  const Clock& clock_;
  mutable std::mutex mutex_;
  std::vector<Sandbox> sandboxes_;
  std::vector<Container> containers_;
  std::map<std::string, ::runtime::v1::Image> images_;
  std::map<std::string, ::runtime::v1::Image> remote_images_;
  std::map<std::string, std::vector<grpc::Status>> failures_;
  std::vector<std::string> calls_;
  ExecHandler exec_;
  std::function<void(const std::string&)> on_change_;
  int next_id_ = 1;
};

}  // namespace skiff::agent::testing
