// Streams over file descriptors: sockets, pipes and terminals, served by one event loop.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/os/unique_fd.h"
#include "base/streaming/stream.h"

namespace skiff::streaming {

// One thread with an epoll loop; a process needs one for all of its streams.
class IoThread {
 public:
  IoThread();
  // Resets the streams that are left, whose callbacks still run, and ends the thread. Executors
  // that those callbacks post to must be destroyed after it.
  ~IoThread();

  struct State;
  const std::shared_ptr<State>& state() { return state_; }

 private:
  std::shared_ptr<State> state_;
};

// Owns the descriptor and makes it non-blocking (which its other holders see, fcntl(2)). CloseWrite
// is shutdown(2) on a socket; on anything else it closes when the other direction is done with too.
// A terminal whose last slave is closed (EIO) reads as an end.
std::shared_ptr<Stream> MakeFdStream(IoThread& io, UniqueFd fd);

// The two directions in descriptors of their own, such as a process's stdout pipe (write_fd unset)
// or its stdin pipe (read_fd unset). A missing direction reads as an end, or fails to write.
std::shared_ptr<Stream> MakeFdStream(IoThread& io, UniqueFd read_fd, UniqueFd write_fd);

}  // namespace skiff::streaming
