// Shim: the supervisor of one pod. Parent of pause, of the containers and of execs; answers the
// daemon (wire/messages.h), and goes on alone while there is none. One thread; small, because
// there is one for each pod.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/os/unique_fd.h"
#include "runtime/shim/event_loop.h"
#include "runtime/wire/channel.h"
#include "runtime/wire/messages.h"

namespace skiff::runtime {

class LaunchedProcess;
class PauseProcess;
class PodContainer;
class ContainerExec;

class Shim {
 public:
  // Takes the descriptors of wire/messages.h. loop outlives it.
  static Result<std::unique_ptr<Shim>> Open(EventLoop& loop);
  ~Shim();

  // For the processes: answers and events go to the daemon, or nowhere while there is none.
  template <class T>
  void Send(uint16_t type, uint32_t request, const T& body, const std::vector<int>& fds = {}) {
    SendBytes(type, request, Encode(body), fds);
  }
  void SendError(uint32_t request, const Error& error);
  void SendLaunchFailure(uint32_t request, const LaunchFailure& failure);
  EventLoop& loop() { return loop_; }
  int pause_program() const { return pause_program_.get(); }

  // A container, exec or pause is over and wants to be destroyed.
  void Forget(PodContainer* container);
  void Forget(ContainerExec* exec);
  // The wait status of a child that was nobody's when it ended.
  std::optional<int> TakeOrphan(pid_t pid);
  // Whether pause runs still: as long as it does, its pid is nobody else's.
  bool pause_runs() const;
  // Whether that container does; the same holds for it.
  bool Runs(const std::string& id) const;
  // Something ended: ends the shim when all has and it was asked to, or nobody is left to ask.
  void AfterEnd();

 private:
  template <void (Shim::*handler)()>
  struct Port : Watcher {
    explicit Port(Shim& owner) : shim(owner) {}
    void OnEvents(uint32_t) override { (shim.*handler)(); }
    Shim& shim;
  };

  explicit Shim(EventLoop& loop);
  void OnSignal();
  void OnControl();
  void OnConnection();
  void Reap();
  void BeginShutdown();
  void DropControl();
  void Handle(Message message);
  Result<> Dispatch(Message& message);
  Result<> HandleHello(const Message& message);
  Result<> HandleStartPause(Message& message);
  Result<> HandleCreateContainer(Message& message);
  Result<> HandleStartExec(Message& message);
  Result<> HandleAttach(Message& message);
  Result<> HandleContainerRef(Message& message);
  void ForEachProcess(const std::function<void(LaunchedProcess&)>& visit) const;
  LaunchedProcess* FindByPid(pid_t pid) const;
  PodContainer* Find(const std::string& id) const;
  Result<PodContainer*> Need(const std::string& id) const;
  void SendBytes(uint16_t type, uint32_t request, std::string_view body,
                 const std::vector<int>& fds);

  EventLoop& loop_;
  UniqueFd control_{kShimControlFd};
  UniqueFd listener_{kShimListenFd};
  UniqueFd pause_program_{kShimPauseFd};
  UniqueFd signals_;
  Port<&Shim::OnSignal> signal_port_{*this};
  Port<&Shim::OnControl> control_port_{*this};
  Port<&Shim::OnConnection> connection_port_{*this};
  bool shutting_down_ = false;
  std::optional<uint32_t> shutdown_request_;

  std::unique_ptr<PauseProcess> pause_;
  std::list<std::unique_ptr<PodContainer>> containers_;
  std::list<std::unique_ptr<ContainerExec>> execs_;
  std::vector<std::pair<pid_t, int>> orphans_;  // kept while an OCI runtime is at work
};

}  // namespace skiff::runtime
