// How answers become bytes: the writer that a handler gets, the stream and the hijacked connection
// that it may turn into.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include "base/http/connection.h"

namespace skiff::http {

// What of the request decides the form of its answer.
struct AnswerRules {
  bool keep_alive = true;
  bool head_only = false;  // HEAD: headers without the body
  bool http10 = false;     // no chunked coding
  bool gzip = false;       // the client accepts it
};

// "HTTP/1.1 200 OK\r\n...\r\n\r\n"; Date and Connection are added.
std::string ResponseHead(int status, const Headers& headers, const AnswerRules& rules);
// The whole answer, compressed where the rules and the size say so.
std::string WholeResponse(Response response, const AnswerRules& rules, size_t gzip_from_bytes);

class ResponseStreamOnConnection final
    : public ResponseStream,
      public std::enable_shared_from_this<ResponseStreamOnConnection> {
 public:
  ResponseStreamOnConnection(std::shared_ptr<Connection> connection, AnswerRules rules)
      : connection_(std::move(connection)), rules_(rules) {}
  ~ResponseStreamOnConnection() override;

  bool Write(std::string chunk) override;
  size_t queued_bytes() const override;
  void End() override;
  void Abort() override;
  void OnClosed(Closure handler) override;
  void OnDrained(Closure handler) override;

  // From the connection: it is over, or the end has been sent.
  void NotifyClosed();

 private:
  void NotifyDrained();
  // Whether this call ended it.
  bool MarkEnded();

  const std::shared_ptr<Connection> connection_;
  const AnswerRules rules_;
  std::mutex mutex_;
  bool ended_ = false;
  bool closed_ = false;
  Closure on_closed_;
  Closure on_drained_;
};

class WriterOnConnection final : public ResponseWriter {
 public:
  WriterOnConnection(std::shared_ptr<Connection> connection, AnswerRules rules)
      : connection_(std::move(connection)), rules_(rules) {}
  ~WriterOnConnection() override;

  void Send(Response response) override;
  std::shared_ptr<ResponseStream> Stream(int status, Headers headers) override;
  StreamPtr Hijack() override;
  void OnClientGone(Closure handler) override;

 private:
  void MarkAnswered();

  const std::shared_ptr<Connection> connection_;
  const AnswerRules rules_;
  std::atomic<bool> answered_{false};
};

}  // namespace skiff::http
