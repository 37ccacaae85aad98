// RawStream: a connection as bytes in both directions, TLS already inside.
//
// The HTTP server reads and writes its connections through it and hands it to whoever takes a
// connection over for another protocol (Upgrade: SPDY/3.1, WebSocket).
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace skiff::http {

// Thread-safe: any method from any thread. Handlers run on one of the stream's I/O threads, one at
// a time for each stream and never inside the call that was given them; they must not block. Each
// handler is called exactly once, at the latest (with kCancelled) when the stream is closed. The
// stream lives for as long as an operation is pending, so dropping the last pointer to an idle
// stream closes it.
class RawStream {
 public:
  virtual ~RawStream() = default;

  // Some bytes, at most max_bytes; the empty string is the peer's end of stream. One read at a
  // time.
  using ReadHandler = std::function<void(Result<std::string> bytes)>;
  virtual void AsyncRead(size_t max_bytes, ReadHandler handler) = 0;

  // Sends all the bytes. Writes may be queued: they go out in the order of the calls, and each
  // handler is called when its bytes are with the kernel. queued_bytes() is how a writer bounds
  // its queue.
  using WriteHandler = std::function<void(Result<void> outcome)>;
  virtual void AsyncWrite(std::string bytes, WriteHandler handler) = 0;
  // Bytes handed to AsyncWrite and not yet with the kernel.
  virtual size_t queued_bytes() const = 0;

  // After the queued writes, tells the peer that nothing more comes (close_notify, FIN). Reading
  // goes on.
  virtual void ShutdownWrite() = 0;

  // Ends both directions at once and cancels what is pending. Idempotent.
  virtual void Close() = 0;

  // Blocking forms for code that owns a thread; never on an I/O thread of the stream.
  Result<std::string> Read(size_t max_bytes);
  Result<void> Write(std::string_view bytes);
};

using StreamPtr = std::shared_ptr<RawStream>;

}  // namespace skiff::http
