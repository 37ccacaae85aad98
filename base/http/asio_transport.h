// Transport over Boost.Asio sockets: TCP, UNIX and TLS. Heavy; for listener.cc only.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "base/http/tls.h"
#include "base/http/transport.h"

namespace skiff::http {

namespace asio = boost::asio;
using TcpSocket = asio::ip::tcp::socket;
using UnixSocket = asio::local::stream_protocol::socket;
using TlsSocket = asio::ssl::stream<TcpSocket>;

inline constexpr size_t kMaxReadBytes = 64 * 1024;
inline constexpr size_t kMaxMergedWriteBytes = 64 * 1024;

inline Error FromAsio(const boost::system::error_code& code, const char* operation) {
  if (code == asio::error::operation_aborted) return {Code::kCancelled, "connection closed"};
  if (code.category() == boost::system::system_category()) {
    return Error::Sys(code.value(), operation);
  }
  return {Code::kUnavailable, std::string(operation) + ": " + code.message()};
}

// The socket was made on a strand of its own (its executor), on which everything here runs.
template <class Socket>
class AsioTransport final : public Transport,
                            public std::enable_shared_from_this<AsioTransport<Socket>> {
 public:
  static constexpr bool kTls = std::is_same_v<Socket, TlsSocket>;

  // context: kept alive with the transport, so that a stream may outlive its server.
  AsioTransport(std::shared_ptr<asio::io_context> context, Socket socket, Peer peer,
                std::chrono::milliseconds write_timeout, std::shared_ptr<TlsContext> tls)
      : context_(std::move(context)),
        tls_(std::move(tls)),
        socket_(std::move(socket)),
        timer_(socket_.get_executor()),
        write_timer_(socket_.get_executor()),
        write_timeout_(write_timeout),
        peer_(std::move(peer)) {}

  void Handshake(std::function<void(Result<void>)> done) override {
    if constexpr (kTls) {
      socket_.async_handshake(asio::ssl::stream_base::server, [self = this->shared_from_this(),
                                                               done = std::move(done)](auto error) {
        if (error) return done(FromAsio(error, "TLS handshake"));
        ReadPeerCertificate(self->socket_.native_handle(), self->peer_);
        done({});
      });
    } else {
      Post([done = std::move(done)] { done({}); });
    }
  }

  void AsyncRead(size_t max_bytes, ReadHandler handler) override {
    if (context_->stopped()) return handler(Error(Code::kCancelled, "server stopped"));
    asio::post(socket_.get_executor(), [self = this->shared_from_this(), max_bytes,
                                        handler = std::move(handler)]() mutable {
      self->StartRead(max_bytes, std::move(handler));
    });
  }

  void AsyncWrite(std::string bytes, WriteHandler handler) override {
    if (context_->stopped()) return handler(Error(Code::kCancelled, "server stopped"));
    queued_bytes_ += bytes.size();
    asio::post(socket_.get_executor(), [self = this->shared_from_this(), bytes = std::move(bytes),
                                        handler = std::move(handler)]() mutable {
      self->queue_.push_back({std::move(bytes), std::move(handler)});
      self->StartWrite();
    });
  }

  size_t queued_bytes() const override { return queued_bytes_; }

  void ShutdownWrite() override {
    asio::post(socket_.get_executor(), [self = this->shared_from_this()] {
      self->shutdown_wanted_ = true;
      self->StartWrite();
    });
  }

  void Close() override {
    asio::post(socket_.get_executor(), [self = this->shared_from_this()] { self->DoClose(); });
  }

  void Post(Closure work) override {
    asio::post(socket_.get_executor(),
               [self = this->shared_from_this(), work = std::move(work)] { work(); });
  }

  void SetTimer(std::chrono::milliseconds after, Closure expired) override {
    timer_.expires_after(after);
    timer_.async_wait([self = this->weak_from_this(), expired = std::move(expired)](auto error) {
      auto alive = self.lock();
      if (!error && alive) expired();
    });
  }
  void CancelTimer() override { timer_.cancel(); }

  const Peer& peer() const override { return peer_; }

 private:
  struct Pending {
    std::string bytes;
    WriteHandler handler;
  };

  void StartRead(size_t max_bytes, ReadHandler handler) {
    if (closed_) return handler(Error(Code::kCancelled, "connection closed"));
    read_buffer_.resize(std::min(max_bytes, kMaxReadBytes));
    socket_.async_read_some(
        asio::buffer(read_buffer_),
        [self = this->shared_from_this(), handler = std::move(handler)](auto error, size_t count) {
          if (error == asio::error::eof || error == asio::ssl::error::stream_truncated) {
            return handler(std::string());
          }
          if (error) return handler(FromAsio(error, "read"));
          self->read_buffer_.resize(count);
          handler(std::exchange(self->read_buffer_, {}));
        });
  }

  // Takes what is queued, merged up to a record's worth, and writes it.
  void StartWrite() {
    if (writing_) return;
    if (closed_) return FailWrites(Error(Code::kCancelled, "connection closed"));
    if (queue_.empty()) {
      if (shutdown_wanted_) DoShutdown();
      return;
    }
    current_.clear();
    written_ = 0;
    do {
      if (current_.empty()) {
        current_ = std::move(queue_.front().bytes);
      } else {
        current_ += queue_.front().bytes;
      }
      current_handlers_.push_back(std::move(queue_.front().handler));
      queue_.pop_front();
    } while (!queue_.empty() &&
             current_.size() + queue_.front().bytes.size() <= kMaxMergedWriteBytes);
    writing_ = true;
    WriteSome();
  }

  void WriteSome() {
    write_timer_.expires_after(write_timeout_);
    write_timer_.async_wait([self = this->weak_from_this()](auto error) {
      auto alive = self.lock();
      if (!error && alive) alive->DoClose();
    });
    auto rest = asio::buffer(current_.data() + written_, current_.size() - written_);
    socket_.async_write_some(rest, [self = this->shared_from_this()](auto error, size_t count) {
      self->write_timer_.cancel();
      self->OnWritten(error, count);
    });
  }

  void OnWritten(const boost::system::error_code& error, size_t count) {
    if (error) {
      writing_ = false;
      DoClose();
      return FailWrites(FromAsio(error, "write"));
    }
    written_ += count;
    if (written_ < current_.size()) return WriteSome();
    queued_bytes_ -= current_.size();
    writing_ = false;
    current_ = {};
    for (auto& handler : std::exchange(current_handlers_, {})) handler({});
    StartWrite();
  }

  void FailWrites(const Error& error) {
    auto handlers = std::exchange(current_handlers_, {});
    for (auto& pending : std::exchange(queue_, {})) handlers.push_back(std::move(pending.handler));
    queued_bytes_ = 0;
    for (auto& handler : handlers) handler(error);
  }

  void DoShutdown() {
    if (std::exchange(shutdown_done_, true)) return;
    boost::system::error_code ignored;  // the peer may be gone; reading will tell
    if constexpr (kTls) {
      socket_.async_shutdown([self = this->shared_from_this()](auto) {});
    } else {
      socket_.shutdown(Socket::shutdown_send, ignored);
    }
  }

  void DoClose() {
    if (std::exchange(closed_, true)) return;
    timer_.cancel();
    write_timer_.cancel();
    boost::system::error_code ignored;  // closing: there is nobody left to tell
    socket_.lowest_layer().close(ignored);
    if (!writing_) FailWrites(Error(Code::kCancelled, "connection closed"));
  }

  const std::shared_ptr<asio::io_context> context_;
  const std::shared_ptr<TlsContext> tls_;
  Socket socket_;
  asio::steady_timer timer_;
  asio::steady_timer write_timer_;
  const std::chrono::milliseconds write_timeout_;
  Peer peer_;
  std::atomic<size_t> queued_bytes_{0};
  // On the strand:
  std::string read_buffer_;
  std::deque<Pending> queue_;
  std::string current_;
  size_t written_ = 0;
  std::vector<WriteHandler> current_handlers_;
  bool writing_ = false;
  bool shutdown_wanted_ = false;
  bool shutdown_done_ = false;
  bool closed_ = false;
};

}  // namespace skiff::http
