// The server's side of a remote command (kubectl exec and attach, crictl exec): the same five
// streams whether the client came over SPDY or WebSocket, protocol versions 1 to 5.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/async/executor.h"
#include "base/streaming/stream.h"
#include "base/streaming/upgrade.h"

namespace skiff::streaming {

// What the client asked for in its query. With a terminal there is no stderr.
struct ExecStreams {
  bool in = false;
  bool out = false;
  bool err = false;
  bool tty = false;
};

struct TerminalSize {
  uint16_t width = 0;
  uint16_t height = 0;
  bool operator==(const TerminalSize&) const = default;
};
// {"Width":w,"Height":h}
std::string FormatTerminalSize(TerminalSize size);
Result<TerminalSize> ParseTerminalSize(std::string_view json);

// How the command ended: the v1.Status of the error stream.
struct ExecStatus {
  bool success = true;
  std::optional<int> exit_code;  // of a command that ran and failed
  int http_code = 0;             // of a command that did not run: 404, 500, ...
  std::string reason;            // "NonZeroExitCode", "InternalError", "NotFound", ...
  std::string message;

  static ExecStatus Success() { return {}; }
  // 0 is Success().
  static ExecStatus Exited(int exit_code);
  // Internal error (500): the runtime failed.
  static ExecStatus InternalError(std::string_view message);
  // metav1.Status as JSON, as upstream's kubelet writes it.
  std::string ToJson() const;
  static Result<ExecStatus> FromJson(std::string_view json);
};

// Thread-safe; lives until the last shared_ptr is gone, which ends the connection if Finish did
// not.
class ExecSession {
 public:
  virtual ~ExecSession() = default;

  // What the command's stdin, stdout and stderr are connected to: stdin is read, the others are
  // written. Null when the client did not ask for it.
  virtual std::shared_ptr<Stream> in() = 0;
  virtual std::shared_ptr<Stream> out() = 0;
  virtual std::shared_ptr<Stream> err() = 0;

  // Called for each terminal size; at once with the latest that arrived before. Set once.
  virtual void OnResize(std::function<void(TerminalSize)> handler) = 0;
  // Called once when the client's connection ends before Finish, also if it already has. Set once.
  virtual void OnGone(std::function<void()> handler) = 0;

  // After the last output: sends what is queued, ends stdout and stderr, sends the status in the
  // version's form and closes the connection once the client has it (or after 10 s). Idempotent.
  virtual void Finish(const ExecStatus& status) = 0;
};

// Serves on a connection whose 101 response is sent. done: the session once the client has opened
// its streams (SPDY clients do so after the upgrade), or DeadlineExceeded after 30 s, or
// InvalidArgument, or Unavailable. executor must outlive the session.
void ServeExec(Executor& executor, std::shared_ptr<Stream> connection, const Upgrade& upgrade,
               const ExecStreams& streams,
               std::function<void(Result<std::shared_ptr<ExecSession>>)> done);

}  // namespace skiff::streaming
