#include "base/http/answer.h"

#include <zlib.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <ctime>
#include <utility>

namespace skiff::http {
namespace {

void AppendField(std::string& head, std::string_view name, std::string_view value) {
  head.append(name).append(": ");
  // A line break in a value would begin a header of its own (response splitting).
  for (char c : value) head += c == '\r' || c == '\n' || c == '\0' ? ' ' : c;
  head += "\r\n";
}

std::string HttpDate() {
  std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[40];
  size_t length = std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &parts);
  return {text, length};
}

// Empty when it cannot be compressed.
std::string Gzip(const std::string& body) {
  z_stream stream{};
  constexpr int kGzipFormat = 16;
  if (deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, MAX_WBITS + kGzipFormat, 8,
                   Z_DEFAULT_STRATEGY) != Z_OK) {
    return {};
  }
  std::string compressed(deflateBound(&stream, body.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(body.data()));
  stream.avail_in = static_cast<uInt>(body.size());
  stream.next_out = reinterpret_cast<Bytef*>(compressed.data());
  stream.avail_out = static_cast<uInt>(compressed.size());
  bool complete = deflate(&stream, Z_FINISH) == Z_STREAM_END;
  compressed.resize(stream.total_out);
  deflateEnd(&stream);
  return complete ? compressed : std::string();
}

// RFC 9110 6.4.1.
bool MayHaveBody(int status) { return status >= 200 && status != 204 && status != 304; }

// Reads ahead of the HTTP conversation go to the one who took the connection over.
class HijackedStream final : public RawStream, public std::enable_shared_from_this<HijackedStream> {
 public:
  explicit HijackedStream(std::shared_ptr<Connection> connection)
      : connection_(std::move(connection)) {}
  ~HijackedStream() override { connection_->Close(); }

  void AsyncRead(size_t max_bytes, ReadHandler handler) override {
    connection_->ReadHijacked(max_bytes,
                              [self = shared_from_this(), handler = std::move(handler)](
                                  Result<std::string> bytes) { handler(std::move(bytes)); });
  }
  void AsyncWrite(std::string bytes, WriteHandler handler) override {
    connection_->transport().AsyncWrite(std::move(bytes),
                                        [self = shared_from_this(), handler = std::move(handler)](
                                            Result<void> outcome) { handler(std::move(outcome)); });
  }
  size_t queued_bytes() const override { return connection_->transport().queued_bytes(); }
  void ShutdownWrite() override { connection_->transport().ShutdownWrite(); }
  void Close() override { connection_->Close(); }

 private:
  const std::shared_ptr<Connection> connection_;
};

}  // namespace

std::string ResponseHead(int status, const Headers& headers, const AnswerRules& rules) {
  std::string head = rules.http10 ? "HTTP/1.0 " : "HTTP/1.1 ";
  head += std::to_string(status);
  head.append(" ").append(ReasonPhrase(status)).append("\r\n");
  for (const auto& [name, value] : headers.fields()) AppendField(head, name, value);
  AppendField(head, "Date", HttpDate());
  if (!rules.keep_alive) {
    AppendField(head, "Connection", "close");
  } else if (rules.http10) {
    AppendField(head, "Connection", "keep-alive");
  }
  return head += "\r\n";
}

std::string WholeResponse(Response response, const AnswerRules& rules, size_t gzip_from_bytes) {
  if (rules.gzip && gzip_from_bytes != 0 && response.body.size() >= gzip_from_bytes &&
      !response.headers.Has("Content-Encoding")) {
    if (std::string compressed = Gzip(response.body); !compressed.empty()) {
      response.body = std::move(compressed);
      response.headers.Set("Content-Encoding", "gzip");
      response.headers.Add("Vary", "Accept-Encoding");
    }
  }
  if (MayHaveBody(response.status)) {
    response.headers.Set("Content-Length", std::to_string(response.body.size()));
  }
  std::string bytes = ResponseHead(response.status, response.headers, rules);
  if (!rules.head_only && MayHaveBody(response.status)) bytes += response.body;
  return bytes;
}

// ---- ResponseStreamOnConnection ----

ResponseStreamOnConnection::~ResponseStreamOnConnection() { End(); }

bool ResponseStreamOnConnection::Write(std::string chunk) {
  std::lock_guard lock(mutex_);
  if (ended_ || closed_) return false;
  if (chunk.empty() || rules_.head_only) return true;
  Transport& transport = connection_->transport();
  size_t queued = transport.queued_bytes();
  if (queued != 0 && queued + chunk.size() > connection_->context().limits.max_queued_bytes) {
    return false;
  }
  if (!rules_.http10) {
    char size[20];
    int length = std::snprintf(size, sizeof size, "%zx\r\n", chunk.size());
    chunk.insert(0, size, static_cast<size_t>(length));
    chunk += "\r\n";
  }
  transport.AsyncWrite(std::move(chunk), [self = weak_from_this()](const Result<void>&) {
    if (auto alive = self.lock()) alive->NotifyDrained();
  });
  return true;
}

size_t ResponseStreamOnConnection::queued_bytes() const {
  return connection_->transport().queued_bytes();
}

bool ResponseStreamOnConnection::MarkEnded() {
  std::lock_guard lock(mutex_);
  return !closed_ && !std::exchange(ended_, true);
}

void ResponseStreamOnConnection::End() {
  if (!MarkEnded()) return;
  bool chunked = !rules_.http10 && !rules_.head_only;
  connection_->transport().AsyncWrite(
      chunked ? "0\r\n\r\n" : "",
      [connection = connection_,
       keep_alive = rules_.keep_alive && !rules_.http10](const Result<void>& outcome) {
        if (outcome.ok()) connection->EndStream(keep_alive);
      });
}

void ResponseStreamOnConnection::Abort() {
  if (MarkEnded()) connection_->Close();
}

void ResponseStreamOnConnection::OnClosed(Closure handler) {
  std::unique_lock lock(mutex_);
  if (!closed_) {
    on_closed_ = std::move(handler);
    return;
  }
  lock.unlock();
  connection_->transport().Post(std::move(handler));
}

void ResponseStreamOnConnection::OnDrained(Closure handler) {
  {
    std::lock_guard lock(mutex_);
    on_drained_ = std::move(handler);
  }
  connection_->transport().Post([self = weak_from_this()] {
    if (auto alive = self.lock()) alive->NotifyDrained();
  });
}

void ResponseStreamOnConnection::NotifyDrained() {
  if (queued_bytes() >= connection_->context().limits.max_queued_bytes / 2) return;
  Closure handler;
  {
    std::lock_guard lock(mutex_);
    if (!closed_) handler = std::exchange(on_drained_, nullptr);
  }
  if (handler) handler();
}

void ResponseStreamOnConnection::NotifyClosed() {
  Closure handler;
  Closure dropped;  // destroyed outside the lock: it may own this stream
  {
    std::lock_guard lock(mutex_);
    if (std::exchange(closed_, true)) return;
    handler = std::exchange(on_closed_, nullptr);
    dropped = std::exchange(on_drained_, nullptr);
  }
  if (handler) handler();
}

// ---- WriterOnConnection ----

WriterOnConnection::~WriterOnConnection() {
  if (answered_) return;
  Response failure = connection_->context().error_response(500, "the request was not answered");
  connection_->Answer(WholeResponse(std::move(failure), rules_, 0), rules_.keep_alive);
}

void WriterOnConnection::MarkAnswered() {
  bool twice = answered_.exchange(true);
  CHECK(!twice);
}

void WriterOnConnection::Send(Response response) {
  MarkAnswered();
  connection_->Answer(
      WholeResponse(std::move(response), rules_, connection_->context().gzip_from_bytes),
      rules_.keep_alive);
}

std::shared_ptr<ResponseStream> WriterOnConnection::Stream(int status, Headers headers) {
  MarkAnswered();
  AnswerRules rules = rules_;
  if (rules.http10) {
    rules.keep_alive = false;  // the end of the connection is the end of the answer
  } else {
    headers.Set("Transfer-Encoding", "chunked");
  }
  auto stream = std::make_shared<ResponseStreamOnConnection>(connection_, rules);
  connection_->BeginStream(ResponseHead(status, headers, rules), stream);
  return stream;
}

StreamPtr WriterOnConnection::Hijack() {
  MarkAnswered();
  connection_->BeginHijack();
  return std::make_shared<HijackedStream>(connection_);
}

void WriterOnConnection::OnClientGone(Closure handler) {
  connection_->OnClientGone(std::move(handler));
}

}  // namespace skiff::http
