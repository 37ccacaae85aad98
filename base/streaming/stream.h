// Stream: one duplex flow of bytes with half-close and back-pressure.
//
// It is a socket, a pipe, a terminal (fd_stream.h), or one logical stream of a SPDY or WebSocket
// connection (exec_session.h, port_forward.h) or of a node tunnel. Everything that moves bytes
// between a kubectl and a container is two Streams and a Pump between them.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/result.h"

namespace skiff::streaming {

// Thread-safe. Callbacks run on a thread of the stream's own, never inside the call that named
// them, at most once, and must not block. A stream destroyed before CloseWrite is reset; after it,
// what was written still goes out.
class Stream {
 public:
  virtual ~Stream() = default;

  // Data, at most 64 KiB and never empty; or the empty string once the peer has sent its last byte;
  // or Unavailable when the stream was reset or its connection is gone. One read at a time. What is
  // not read holds the peer back: this is the back-pressure.
  using ReadDone = std::function<void(Result<std::string>)>;
  virtual void Read(ReadDone done) = 0;

  // Sends all of the data. done: there is room for more, or Unavailable. Writes keep their order;
  // whoever waits for done before the next write keeps memory bounded.
  using WriteDone = std::function<void(Result<>)>;
  virtual void Write(std::string data, WriteDone done) = 0;

  // After the last write: the peer reads an end. Reading goes on. Idempotent.
  virtual void CloseWrite() = 0;

  // Gives both directions up at once; pending operations end with Unavailable. Idempotent.
  virtual void Reset() = 0;
};

inline constexpr size_t kMaxReadBytes = 64 << 10;

// Copies from one stream to another until the end, then closes to's writing side. done: the end was
// reached and handed on, or the first error (both streams are then as they were; the caller
// decides). Holds both streams alive until then.
void Pump(std::shared_ptr<Stream> from, std::shared_ptr<Stream> to,
          std::function<void(Result<>)> done);

// For threads that may block; never to be called on a stream's callback thread.
Result<std::string> ReadBlocking(Stream& stream);
Result<> WriteBlocking(Stream& stream, std::string data);

}  // namespace skiff::streaming
