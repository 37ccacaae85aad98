#include "base/http/connection.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <exception>
#include <utility>

#include "base/http/answer.h"
#include "base/log.h"

namespace skiff::http {
namespace {

namespace beast = boost::beast::http;

// An idle watch keeps one read buffer of this size waiting.
constexpr size_t kReadBytes = 4096;
constexpr size_t kBodyReadBytes = 64 * 1024;
// Of a pipelined request, before the answer to the one before is sent.
constexpr size_t kMaxReadAheadBytes = 64 * 1024;
constexpr std::chrono::seconds kLingerTime{2};
// A client that is still sending a body we will not read is let finish: until it pauses this long.
constexpr std::chrono::milliseconds kPause{500};
constexpr size_t kMaxDiscardedBytes = 64 * 1024 * 1024;

std::string_view View(boost::beast::string_view text) { return {text.data(), text.size()}; }

Result<Request> ToRequest(beast::request<beast::string_body>& message, const Peer& peer) {
  Request request;
  request.method = View(message.method_string());
  request.target = View(message.target());
  std::string_view rest = request.target;
  if (!rest.starts_with('/') && rest != "*") {  // absolute form, as sent to proxies
    size_t scheme = rest.find("://");
    size_t slash = scheme == rest.npos ? rest.npos : rest.find('/', scheme + 3);
    if (slash == rest.npos) return Error(Code::kInvalidArgument, "malformed request target");
    rest.remove_prefix(slash);
  }
  rest = rest.substr(0, rest.find('#'));
  size_t mark = std::min(rest.find('?'), rest.size());
  request.raw_path = rest.substr(0, mark);
  request.path = TRY(PercentDecode(request.raw_path, false));
  request.query = TRY(Query::Parse(rest.substr(std::min(mark + 1, rest.size()))));
  for (const auto& field : message) {
    request.headers.Add(View(field.name_string()), View(field.value()));
  }
  request.body = std::move(message.body());
  request.peer = peer;
  return request;
}

}  // namespace

struct Connection::Parser : beast::request_parser<beast::string_body> {
  bool header_seen = false;
};

Connection::Connection(std::shared_ptr<Transport> transport,
                       std::shared_ptr<const ConnectionContext> context, Closure on_closed)
    : transport_(std::move(transport)),
      context_(std::move(context)),
      on_closed_(std::move(on_closed)) {}

Connection::~Connection() = default;

void Connection::Start() {
  transport_->Post([self = shared_from_this()] {
    self->transport_->SetTimer(self->context_->limits.header_timeout, [self] { self->DoClose(); });
    self->transport_->Handshake([self](const Result<void>& outcome) {
      if (!outcome.ok()) {
        log::Debug("http handshake failed",
                   {{"peer", self->transport_->peer().address}, {"error", outcome.error()}});
        return self->DoClose();
      }
      self->NextRequest();
    });
  });
}

void Connection::Drain() {
  transport_->Post([self = shared_from_this()] {
    self->draining_ = true;
    if (self->state_ == State::kReading && !self->request_begun_) self->DoClose();
    if (auto stream = self->stream_.lock()) stream->End();
  });
}

void Connection::Close() {
  transport_->Post([self = shared_from_this()] { self->DoClose(); });
}

void Connection::DoClose() {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  transport_->CancelTimer();
  transport_->Close();
  ClientGone();
  if (auto reader = std::exchange(hijack_reader_, nullptr)) {
    reader(Error(Code::kCancelled, "connection closed"));
  }
  if (auto closed = std::exchange(on_closed_, nullptr)) closed();
}

void Connection::ClientGone() {
  client_gone_ = true;
  if (auto handler = std::exchange(on_client_gone_, nullptr)) handler();
  if (auto stream = stream_.lock()) stream->NotifyClosed();
}

// ---- reading requests ----

void Connection::NextRequest() {
  if (state_ == State::kClosed) return;
  if (draining_) return DoClose();
  state_ = State::kReading;
  request_begun_ = false;
  on_client_gone_ = nullptr;
  stream_.reset();
  parser_ = std::make_unique<Parser>();
  parser_->eager(true);
  parser_->header_limit(static_cast<uint32_t>(context_->limits.max_header_bytes));
  parser_->body_limit(context_->limits.max_body_bytes);
  transport_->SetTimer(context_->limits.idle_timeout, [self = weak_from_this()] {
    if (auto alive = self.lock()) alive->DoClose();
  });
  if (client_gone_) return DoClose();
  if (buffer_.empty()) {
    Read();
  } else {
    Parse();
  }
}

void Connection::Read() {
  if (read_pending_) return;
  read_pending_ = true;
  bool body = state_ == State::kLingering || (parser_ && parser_->header_seen);
  transport_->AsyncRead(body ? kBodyReadBytes : kReadBytes,
                        [self = shared_from_this()](Result<std::string> bytes) {
                          self->read_pending_ = false;
                          self->OnBytes(std::move(bytes));
                        });
}

void Connection::OnBytes(Result<std::string> bytes) {
  bool end = !bytes.ok() || bytes->empty();
  switch (state_) {
    case State::kClosed: return;
    case State::kReading: return OnRequestBytes(bytes);
    case State::kHandling:
    case State::kStreaming:
    case State::kAnswering: return OnBytesMeanwhile(std::move(bytes));
    case State::kLingering: return OnDiscarded(end ? 0 : bytes->size());
    case State::kHijacked: {
      if (!end) {
        buffer_ += *bytes;
        return DeliverHijacked();
      }
      auto reader = std::exchange(hijack_reader_, nullptr);
      if (reader) return reader(std::move(bytes));
      client_gone_ = true;  // told to the next read
      return;
    }
  }
}

void Connection::OnRequestBytes(const Result<std::string>& bytes) {
  if (!bytes.ok() || bytes->empty()) return DoClose();  // also in the middle of a request
  buffer_ += *bytes;
  Parse();
}

// While an answer is made: more requests (pipelining), or the client leaves.
void Connection::OnBytesMeanwhile(Result<std::string> bytes) {
  if (bytes.ok() && !bytes->empty()) {
    buffer_ += *bytes;
    if (buffer_.size() < kMaxReadAheadBytes) Read();
    return;
  }
  if (!bytes.ok() || state_ == State::kStreaming) return DoClose();
  ClientGone();  // a client that only closed its sending side still gets its whole answer
}

void Connection::Parse() {
  if (!std::exchange(request_begun_, true)) {
    transport_->SetTimer(context_->limits.header_timeout, [self = weak_from_this()] {
      if (auto alive = self.lock()) alive->Reject(408, "the request took too long to arrive");
    });
  }
  boost::system::error_code error;
  size_t used = 0;
  while (used < buffer_.size() && !parser_->is_done()) {
    size_t count =
        parser_->put(boost::asio::buffer(buffer_.data() + used, buffer_.size() - used), error);
    used += count;
    if (error || count == 0) break;
  }
  buffer_.erase(0, used);
  if (error && error != beast::error::need_more) {
    if (error == beast::error::header_limit) return Reject(431, "the request header is too large");
    if (error == beast::error::body_limit || error == beast::error::buffer_overflow) {
      return Reject(413, "limit is " + std::to_string(context_->limits.max_body_bytes));
    }
    return Reject(400, "malformed HTTP request: " + error.message());
  }
  if (parser_->is_done()) return Dispatch();
  if (parser_->is_header_done() && !std::exchange(parser_->header_seen, true)) {
    transport_->SetTimer(context_->limits.body_timeout, [self = weak_from_this()] {
      if (auto alive = self.lock()) alive->Reject(408, "the request body took too long to arrive");
    });
    if (View(parser_->get()[beast::field::expect]) == "100-continue") {
      transport_->AsyncWrite("HTTP/1.1 100 Continue\r\n\r\n", [](const Result<void>&) {});
    }
  }
  Read();
}

void Connection::Dispatch() {
  auto message = parser_->release();
  auto request = ToRequest(message, transport_->peer());
  if (!request.ok()) return Reject(400, request.error().message());
  AnswerRules rules;
  rules.keep_alive = message.keep_alive() && !draining_;
  rules.http10 = message.version() < 11;
  rules.head_only = message.method() == beast::verb::head;
  rules.gzip = request->headers.HasToken("Accept-Encoding", "gzip");
  parser_.reset();
  state_ = State::kHandling;
  transport_->CancelTimer();
  auto writer = std::make_shared<WriterOnConnection>(shared_from_this(), rules);
  context_->workers->Post([context = context_, writer = std::move(writer),
                           request = std::move(request).value()]() mutable {
    try {
      context->handler(std::move(request), std::move(writer));
    } catch (const std::exception& exception) {
      // The last guard for the libraries below that throw; the dropped writer answers 500.
      log::Error("request handler failed", {{"error", exception.what()}});
    }
  });
  if (buffer_.size() < kMaxReadAheadBytes) Read();
}

// What is wrong with the request makes the rest of the connection unreadable: answer and close.
void Connection::Reject(int status, std::string_view detail) {
  if (state_ != State::kReading) return;
  state_ = State::kAnswering;
  unread_ = true;
  AnswerRules rules{.keep_alive = false};
  Answer(WholeResponse(context_->error_response(status, detail), rules, 0), false);
}

// ---- answers ----

void Connection::Answer(std::string bytes, bool keep_alive) {
  transport_->AsyncWrite(std::move(bytes),
                         [self = shared_from_this(), keep_alive](const Result<void>& outcome) {
                           if (!outcome.ok()) return self->DoClose();
                           self->AfterAnswer(keep_alive);
                         });
}

void Connection::BeginStream(std::string head,
                             const std::shared_ptr<ResponseStreamOnConnection>& stream) {
  transport_->Post([self = shared_from_this(), stream] {
    if (self->state_ != State::kHandling || self->client_gone_) {
      stream->NotifyClosed();
      return self->DoClose();
    }
    self->state_ = State::kStreaming;
    self->stream_ = stream;
    if (self->draining_) stream->End();
  });
  transport_->AsyncWrite(std::move(head), [](const Result<void>&) {});
}

void Connection::EndStream(bool keep_alive) {
  transport_->Post([self = shared_from_this(), keep_alive] {
    if (auto stream = self->stream_.lock()) stream->NotifyClosed();
    self->AfterAnswer(keep_alive);
  });
}

void Connection::AfterAnswer(bool keep_alive) {
  if (state_ == State::kClosed) return;
  if (keep_alive && !draining_) return NextRequest();
  Linger();
}

// Closing with unread bytes would reset the connection and may destroy the answer on its way: tell
// the client that nothing more comes, and read on for a moment. Under TLS a client in the middle of
// sending must finish first: after our close_notify OpenSSL takes no more data.
void Connection::Linger() {
  if (client_gone_) return DoClose();
  state_ = State::kLingering;
  const bool wait_for_pause = unread_ && transport_->peer().tls;
  if (!wait_for_pause) transport_->ShutdownWrite();
  std::chrono::milliseconds limit = wait_for_pause ? kPause : kLingerTime;
  transport_->SetTimer(limit, [self = weak_from_this(), wait_for_pause] {
    auto alive = self.lock();
    if (!alive) return;
    if (!wait_for_pause) return alive->DoClose();
    alive->unread_ = false;
    alive->Linger();
  });
  Read();
}

void Connection::OnDiscarded(size_t bytes) {
  discarded_ += bytes;
  if (bytes == 0 || discarded_ > kMaxDiscardedBytes) return DoClose();
  if (unread_ && transport_->peer().tls) return Linger();  // the pause begins anew
  Read();
}

void Connection::OnClientGone(Closure handler) {
  transport_->Post([self = shared_from_this(), handler = std::move(handler)]() mutable {
    if (self->client_gone_ || self->state_ == State::kClosed) return handler();
    self->on_client_gone_ = std::move(handler);
  });
}

// ---- hijacked ----

void Connection::BeginHijack() {
  transport_->Post([self = shared_from_this()] {
    if (self->state_ == State::kHandling) self->state_ = State::kHijacked;
  });
}

void Connection::ReadHijacked(size_t max_bytes, RawStream::ReadHandler handler) {
  transport_->Post([self = shared_from_this(), max_bytes, handler = std::move(handler)]() mutable {
    if (self->state_ != State::kHijacked) {
      return handler(Error(Code::kCancelled, "connection closed"));
    }
    self->hijack_max_bytes_ = max_bytes;
    self->hijack_reader_ = std::move(handler);
    self->DeliverHijacked();
  });
}

void Connection::DeliverHijacked() {
  if (!hijack_reader_) return;
  if (!buffer_.empty()) {
    std::string bytes = buffer_.substr(0, hijack_max_bytes_);
    buffer_.erase(0, bytes.size());
    return std::exchange(hijack_reader_, nullptr)(std::move(bytes));
  }
  if (client_gone_) return std::exchange(hijack_reader_, nullptr)(std::string());
  if (read_pending_) return;
  read_pending_ = true;
  transport_->AsyncRead(hijack_max_bytes_, [self = shared_from_this()](Result<std::string> bytes) {
    self->read_pending_ = false;
    self->OnBytes(std::move(bytes));
  });
}

}  // namespace skiff::http
