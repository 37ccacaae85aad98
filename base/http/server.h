// An HTTP/1.1 server: TLS or plain, whole or streamed answers, connections handed over on Upgrade.
//
//   auto server = TRY(Server::Start({.listen = "0.0.0.0:6443", .tls = tls}, handler, workers));
//
// Connections are read and written by a few I/O threads; handlers run on the worker executor, one
// request of a connection at a time (a pipelined request waits for the answer to the one before).
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/async/executor.h"
#include "base/http/message.h"
#include "base/http/raw_stream.h"
#include "base/result.h"

namespace skiff::http {

// An answer sent in pieces (chunked). May be kept and written to from any thread, for as long as
// the client stays: a watch or a followed log holds one of these and no thread.
class ResponseStream {
 public:
  // Ends the answer if nobody did.
  virtual ~ResponseStream() = default;

  // Queues one chunk. False when the client is gone, or when more than max_queued_bytes (see
  // Limits) were already waiting: then nothing of the chunk was taken, and the caller gives up
  // (Abort) or waits for OnDrained.
  virtual bool Write(std::string chunk) = 0;
  // Bytes that wait for the client to read.
  virtual size_t queued_bytes() const = 0;
  // Completes the answer: the client sees a proper end. Idempotent.
  virtual void End() = 0;
  // Breaks the connection: the client sees that the answer is incomplete.
  virtual void Abort() = 0;
  // Called once on an I/O thread when the client is gone, the server stops, or End has been
  // sent; at once if that has happened. Replaces the handler given before.
  virtual void OnClosed(Closure handler) = 0;
  // Called once on an I/O thread as soon as the queue is below half its bound.
  virtual void OnDrained(Closure handler) = 0;
};

// The way to answer one request: exactly one of Send, Stream and Hijack, from any thread, now or
// later. Dropped unanswered, it answers 500.
class ResponseWriter {
 public:
  virtual ~ResponseWriter() = default;

  virtual void Send(Response response) = 0;
  virtual std::shared_ptr<ResponseStream> Stream(int status, Headers headers) = 0;
  // Takes the connection over. Nothing has been answered: the taker writes its own
  // "101 Switching Protocols". Bytes that came behind the request are read first.
  virtual StreamPtr Hijack() = 0;
  // Called once on an I/O thread if the client leaves before the answer is complete.
  virtual void OnClientGone(Closure handler) = 0;
};

using Handler = std::function<void(Request request, std::shared_ptr<ResponseWriter> writer)>;

struct Limits {
  size_t max_header_bytes = 64 * 1024;        // then 431
  size_t max_body_bytes = 3 * 1024 * 1024;    // then 413, as the Kubernetes API server
  size_t max_connections = 10'000;            // more are closed at once
  size_t max_queued_bytes = 4 * 1024 * 1024;  // of one ResponseStream
  std::chrono::seconds header_timeout{15};    // from the first byte of a request (or TLS hello)
  std::chrono::seconds body_timeout{60};
  std::chrono::seconds idle_timeout{180};  // between requests
  std::chrono::seconds write_timeout{60};  // without any progress
};

// PEM texts. Protocols: TLS 1.2 and 1.3.
struct TlsConfig {
  std::string certificate_chain_pem;
  std::string private_key_pem;
  // When set, clients may present a certificate, which must be signed by one of these; a client
  // without one is let in and shows in Peer.
  std::string client_ca_pem;
};

struct ServerOptions {
  // "127.0.0.1:0", "[::]:6443", or "unix:/run/skiff/x.sock" (mode 0600, an old socket file is
  // replaced).
  std::string listen;
  std::optional<TlsConfig> tls;
  Limits limits;
  int io_threads = 2;
  // Answers of at least this size are compressed for clients that accept gzip; 0: never.
  size_t gzip_from_bytes = 128 * 1024;
  // The answers that the server gives by itself (400, 408, 413, 431, 500); plain text if unset.
  std::function<Response(int status, std::string_view detail)> error_response;
};

// Thread-safe.
class Server {
 public:
  // workers must outlive the server.
  static Result<std::unique_ptr<Server>> Start(ServerOptions options, Handler handler,
                                               Executor& workers);
  virtual ~Server() = default;

  // The address bound: the port that ":0" became.
  virtual std::string address() const = 0;
  virtual int port() const = 0;
  virtual size_t connections() const = 0;
  // New connections use these; open ones keep theirs.
  virtual Result<void> ReloadTls(const TlsConfig& tls) = 0;
  // No new connections or requests; streams are ended; waits until the answers under way are sent
  // or the grace is over. Idempotent. Not from an I/O thread or a handler.
  virtual void Stop(std::chrono::milliseconds grace) = 0;
};

}  // namespace skiff::http
