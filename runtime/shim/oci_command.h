// OciCommand: one command of an OCI runtime ("create", "start") as a child of the shim.
//
// skiff-init prepares what the command needs and becomes the runtime (init/oci.cc); its exit says
// how it went, its log why it failed. What "create" leaves is an orphan, which falls to the shim
// because that is the subreaper: so the shim is the parent of the container's first process here
// too, and learns how it ends.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/os/unique_fd.h"
#include "base/result.h"
#include "runtime/shim/process.h"

namespace skiff::runtime {

// Where a runtime sends the master side of the terminal that it made. The socket is in a directory
// whose path may be longer than an address takes, so it is reached through a descriptor.
class ConsoleSocket {
 public:
  static Result<std::unique_ptr<ConsoleSocket>> Listen(const std::string& directory);
  ~ConsoleSocket();

  // For any process that sees this one in /proc.
  const std::string& path() const { return path_; }
  // What was sent. Unavailable when nothing was.
  Result<UniqueFd> Receive();

 private:
  ConsoleSocket(UniqueFd directory, UniqueFd listener);

  const UniqueFd directory_;
  const UniqueFd listener_;
  std::string path_;
};

class OciCommand : public LaunchedProcess::Owner {
 public:
  struct Outcome {
    std::optional<LaunchFailure> launch;  // the runtime was not reached
    std::optional<Error> error;           // or it failed
    ResolvedUser user;
    bool ok() const { return !launch && !error; }
  };
  struct Request {
    InitFds fds;         // the spec, pause, and the streams of the container to be
    std::string name;    // "create", for messages
    std::string bundle;  // where the log is
    std::string console_socket;
  };
  // done: once, from the loop; may destroy this.
  OciCommand(EventLoop& loop, Request request, std::function<void(const Outcome&)> done)
      : request_(std::move(request)), done_(std::move(done)), process_(loop, *this) {}

  Result<> Start() { return process_.Start(request_.fds, {}); }
  LaunchedProcess& process() { return process_; }
  const LaunchedProcess& process() const { return process_; }

 private:
  void OnReady(const LaunchReady& ready, UniqueFd terminal) override;
  void OnRunning() override {}
  void OnLaunchFailed(const LaunchFailure& failure) override;
  void OnEnded(ExitStatus status) override;

  const Request request_;
  const std::function<void(const Outcome&)> done_;
  Outcome outcome_;
  LaunchedProcess process_;
};

// The pid that "create" wrote to its pid file.
Result<pid_t> ReadOciPid(const std::string& bundle);

}  // namespace skiff::runtime
