// The daemon's side of the conversation with shims: ShimLink is one connection, ShimLinks the
// thread that reads from all of them.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/os/pidref.h"
#include "base/os/unique_fd.h"
#include "base/result.h"
#include "runtime/wire/channel.h"
#include "runtime/wire/messages.h"

namespace skiff::runtime {

constexpr std::chrono::seconds kShimPatience{30};

// Thread-safe.
class ShimLink {
 public:
  // Called on the reading thread: must not block, and must not make a call of a link.
  struct Listener {
    std::function<void(const Message&)> on_event;
    std::function<void()> on_closed;  // once, the last
  };
  ShimLink(UniqueFd socket, Listener listener)
      : socket_(std::move(socket)), listener_(std::move(listener)) {}

  // Sends a request and waits for its reply, which is of type `expected`. A failure that the shim
  // reports is the error. Unavailable when the shim is gone; UnknownOutcome past the patience, also
  // of a shim that reads so little that no more can be sent to it.
  Result<Message> Call(uint16_t type, std::string_view body, uint16_t expected,
                       const std::vector<int>& fds = {},
                       std::chrono::milliseconds patience = kShimPatience);
  template <class T>
  Result<Message> Call(uint16_t type, const T& body, uint16_t expected,
                       const std::vector<int>& fds = {},
                       std::chrono::milliseconds patience = kShimPatience) {
    std::string bytes = Encode(body);
    return Call(type, std::string_view(bytes), expected, fds, patience);
  }
  bool closed() const;

 private:
  friend class ShimLinks;
  // Reads one message; false at the end.
  bool ReadOne();
  void Close();
  // Waits for room in the socket's queue; false when there is none in time.
  Result<bool> Send(uint16_t type, uint32_t request, std::string_view body,
                    const std::vector<int>& fds, std::chrono::steady_clock::time_point deadline);

  const UniqueFd socket_;
  const Listener listener_;
  std::timed_mutex send_mutex_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool closed_ = false;
  uint32_t last_request_ = 0;
  std::map<uint32_t, std::optional<Message>> pending_;
};

class ShimLinks {
 public:
  static Result<std::unique_ptr<ShimLinks>> Open();
  ~ShimLinks();

  // Begins to read from the link; keeps it until it is closed.
  Result<> Add(std::shared_ptr<ShimLink> link);
  // Stops the thread; no listener is called any more.
  void Stop();

 private:
  ShimLinks(UniqueFd epoll, UniqueFd wake) : epoll_(std::move(epoll)), wake_(std::move(wake)) {}
  void Run();
  std::shared_ptr<ShimLink> Find(uint64_t key);

  UniqueFd epoll_;
  UniqueFd wake_;
  std::mutex mutex_;
  uint64_t last_key_ = 0;  // 0 is the wake-up
  std::map<uint64_t, std::shared_ptr<ShimLink>> links_;
  std::thread thread_;
};

// The three programs, copied into sealed memory: what is executed in a container's namespaces can
// then be overwritten by nobody, and a package upgrade does not change running pods.
struct ShimPrograms {
  UniqueFd shim;
  UniqueFd init;
  UniqueFd pause;
  static Result<ShimPrograms> Load(const std::string& directory);
};

struct SpawnedShim {
  PidRef process;  // not a child of this process: it can be waited for, and needs no reaping
  UniqueFd control;
};

// Makes shims by way of the seed (shim/seed.h), which it starts, and starts again where it was
// lost. Thread-safe.
class ShimNursery {
 public:
  // programs outlives it.
  explicit ShimNursery(const ShimPrograms& programs) : programs_(programs) {}
  ~ShimNursery();

  // Starts the seed unless it is there: what keeps it from running is known before the first pod.
  Result<> Prepare();
  // Starts a shim that listens at directory/shim.sock.
  Result<SpawnedShim> Start(const std::string& directory);

 private:
  // With the mutex held.
  Result<> StartSeed();
  void EndSeed();
  Result<Message> AskSeed(uint16_t type, const std::vector<int>& fds);

  const ShimPrograms& programs_;
  std::mutex mutex_;
  UniqueFd seed_;  // its control socket
  std::optional<PidRef> process_;
};

// Connects to a shim that runs. NotFound or Unavailable when there is none.
Result<UniqueFd> ConnectToShim(const std::string& directory);

}  // namespace skiff::runtime
