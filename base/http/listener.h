// Listener: accepts connections on TCP or UNIX sockets and turns them into Transports.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/http/server.h"
#include "base/http/transport.h"
#include "base/result.h"

namespace skiff::http {

class TlsContext;

// Thread-safe. Owns the I/O threads.
class Listener {
 public:
  using OnAccept = std::function<void(std::shared_ptr<Transport> transport)>;
  // listen: as ServerOptions::listen. tls: null for plain connections. accept runs on an I/O
  // thread.
  static Result<std::unique_ptr<Listener>> Open(const ServerOptions& options,
                                                std::shared_ptr<TlsContext> tls, OnAccept accept);
  virtual ~Listener() = default;
  virtual std::string address() const = 0;
  virtual int port() const = 0;
  virtual void UseTls(std::shared_ptr<TlsContext> tls) = 0;
  // No more accepts.
  virtual void StopAccepting() = 0;
  // Waits until every transport is closed and every handler has run, and ends the threads. The
  // caller has closed the transports.
  virtual void Join() = 0;
};

}  // namespace skiff::http
