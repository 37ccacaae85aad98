// Transport: a RawStream as the server's own connections see it, with their strand and one timer.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "base/async/executor.h"
#include "base/http/message.h"
#include "base/http/raw_stream.h"

namespace skiff::http {

// All handlers, posted closures and timers of one transport run on its strand: one at a time.
class Transport : public RawStream {
 public:
  // The TLS handshake; nothing on plain transports. Before any read or write.
  virtual void Handshake(std::function<void(Result<void>)> done) = 0;
  virtual void Post(Closure work) = 0;
  // One timer: setting it replaces what it was set to. On the strand only.
  virtual void SetTimer(std::chrono::milliseconds after, Closure expired) = 0;
  virtual void CancelTimer() = 0;
  // Valid after the handshake.
  virtual const Peer& peer() const = 0;
};

}  // namespace skiff::http
