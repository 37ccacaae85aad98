// Connection: one client's HTTP/1.1 conversation over a Transport.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/async/executor.h"
#include "base/http/server.h"
#include "base/http/transport.h"

namespace skiff::http {

class ResponseStreamOnConnection;

// What the connections of one server share. Outlives them.
struct ConnectionContext {
  Limits limits;
  size_t gzip_from_bytes = 0;
  Handler handler;
  Executor* workers = nullptr;
  std::function<Response(int status, std::string_view detail)> error_response;
};

// State lives on the transport's strand; the methods that say so may be called from any thread.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<Transport> transport, std::shared_ptr<const ConnectionContext> context,
             Closure on_closed);
  ~Connection();

  void Start();  // any thread, once

  // Any thread. No further request is read; a stream is ended; an answer under way is finished.
  void Drain();
  // Any thread. Ends the connection at once.
  void Close();

  // ---- for the writers of answers; any thread ----
  // Sends a whole answer (head and body, ready to go).
  void Answer(std::string bytes, bool keep_alive);
  // A stream begins: its head, then its chunks as they come.
  void BeginStream(std::string head, const std::shared_ptr<ResponseStreamOnConnection>& stream);
  void EndStream(bool keep_alive);
  void OnClientGone(Closure handler);
  void BeginHijack();
  // The bytes read ahead first, then those of the transport.
  void ReadHijacked(size_t max_bytes, RawStream::ReadHandler handler);
  Transport& transport() { return *transport_; }
  const ConnectionContext& context() const { return *context_; }

 private:
  enum class State { kReading, kHandling, kStreaming, kAnswering, kHijacked, kLingering, kClosed };
  struct Parser;

  void NextRequest();
  void Read();
  void OnBytes(Result<std::string> bytes);
  void OnRequestBytes(const Result<std::string>& bytes);
  void OnBytesMeanwhile(Result<std::string> bytes);
  void DeliverHijacked();
  void Parse();
  void Dispatch();
  void Reject(int status, std::string_view detail);
  void AfterAnswer(bool keep_alive);
  void Linger();
  void OnDiscarded(size_t bytes);
  void ClientGone();
  void DoClose();

  const std::shared_ptr<Transport> transport_;
  const std::shared_ptr<const ConnectionContext> context_;
  Closure on_closed_;
  State state_ = State::kReading;
  std::unique_ptr<Parser> parser_;
  std::string buffer_;  // read and not yet parsed
  bool read_pending_ = false;
  bool request_begun_ = false;
  bool draining_ = false;
  bool client_gone_ = false;
  bool unread_ = false;  // the rest of a refused request may still come
  size_t discarded_ = 0;
  Closure on_client_gone_;
  std::weak_ptr<ResponseStreamOnConnection> stream_;
  size_t hijack_max_bytes_ = 0;
  RawStream::ReadHandler hijack_reader_;
};

}  // namespace skiff::http
