#include "agent/dns/listeners.h"

#include <sys/socket.h>

#include <array>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>

#include "agent/dns/asio_address.h"
#include "base/log.h"

namespace skiff::agent::dns {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using asio::ip::udp;

constexpr size_t kBatch = 64;
// Larger questions than any client sends are cut, and then malformed.
constexpr size_t kMaxQueryBytes = 1500;
// What may wait while the thread is busy: some milliseconds' worth.
constexpr int kSocketBufferBytes = 1 << 20;
constexpr std::chrono::seconds kIdleFor{10};  // RFC 7766, section 6.2.3: a few seconds

Result<> BindError(const boost::system::error_code& error, const net::IpAddress& address,
                   uint16_t port) {
  if (!error) return {};
  return Error::Sys(error.value(), "listen for DNS", address.WithPort(port));
}

}  // namespace

struct UdpListener::Batch {
  std::array<std::array<char, kMaxQueryBytes>, kBatch> buffers;
  std::array<sockaddr_storage, kBatch> peers;
  std::array<iovec, kBatch> vectors;
  std::array<mmsghdr, kBatch> messages;
  // Answers of this wake-up, sent together.
  std::array<std::string, kBatch> answers;
  size_t answered = 0;
  bool gathering = false;
};

Result<> UdpListener::Start(const net::IpAddress& address, uint16_t port) {
  boost::system::error_code error;
  udp::endpoint endpoint(ToAsio(address), port);
  socket_.open(endpoint.protocol(), error);
  if (!error && address.is_v6()) socket_.set_option(asio::ip::v6_only(true), error);
  if (!error) socket_.bind(endpoint, error);
  if (!error) socket_.non_blocking(true, error);
  TRY(BindError(error, address, port));
  // As much as the system allows: without it the default serves too.
  socket_.set_option(asio::socket_base::receive_buffer_size(kSocketBufferBytes), error);
  socket_.set_option(asio::socket_base::send_buffer_size(kSocketBufferBytes), error);
  batch_ = std::make_shared<Batch>();
  Wait();
  return {};
}

uint16_t UdpListener::port() const { return socket_.local_endpoint().port(); }

void UdpListener::Stop() {
  boost::system::error_code ignored;
  socket_.close(ignored);
}

void UdpListener::Wait() {
  socket_.async_wait(udp::socket::wait_read, [self = shared_from_this()](auto error) {
    if (error) return;
    // A flood must not keep the thread from its other work.
    for (int rounds = 0; rounds < 16 && self->ReadBatch(); ++rounds) {
    }
    self->Wait();
  });
}

// True when there may be more.
bool UdpListener::ReadBatch() {
  Batch& batch = *batch_;
  for (size_t i = 0; i < kBatch; ++i) {
    batch.vectors[i] = {batch.buffers[i].data(), batch.buffers[i].size()};
    batch.messages[i] = {};
    batch.messages[i].msg_hdr.msg_name = &batch.peers[i];
    batch.messages[i].msg_hdr.msg_namelen = sizeof batch.peers[i];
    batch.messages[i].msg_hdr.msg_iov = &batch.vectors[i];
    batch.messages[i].msg_hdr.msg_iovlen = 1;
  }
  int count =
      recvmmsg(socket_.native_handle(), batch.messages.data(), kBatch, MSG_DONTWAIT, nullptr);
  if (count <= 0) return false;
  batch.answered = 0;
  batch.gathering = true;
  for (int i = 0; i < count; ++i) {
    auto index = static_cast<size_t>(i);
    std::string_view message(batch.buffers[index].data(), batch.messages[index].msg_len);
    // Answers never outrun their questions: slot `answered` is at most `index`, which is read.
    if (std::string_view known = responder_.Recall(message); !known.empty()) {
      size_t slot = batch.answered++;
      if (slot != index) batch.peers[slot] = batch.peers[index];
      batch.answers[slot] = known;
      batch.messages[slot].msg_hdr.msg_namelen = batch.messages[index].msg_hdr.msg_namelen;
      continue;
    }
    sockaddr_storage peer = batch.peers[index];
    socklen_t peer_size = batch.messages[index].msg_hdr.msg_namelen;
    auto answer = [self = shared_from_this(), peer, peer_size](std::string response) {
      Batch& out = *self->batch_;
      if (!out.gathering || out.answered == kBatch) {
        // Lost is lost, with UDP: the client asks again.
        (void)sendto(self->socket_.native_handle(), response.data(), response.size(), MSG_DONTWAIT,
                     reinterpret_cast<const sockaddr*>(&peer), peer_size);
        return;
      }
      size_t slot = out.answered++;
      out.peers[slot] = peer;
      out.answers[slot] = std::move(response);
      out.messages[slot].msg_hdr.msg_namelen = peer_size;
    };
    responder_.Respond(message, Responder::Transport::kUdp, std::move(answer));
  }
  batch.gathering = false;
  SendBatch();
  return static_cast<size_t>(count) == kBatch;
}

void UdpListener::SendBatch() {
  Batch& batch = *batch_;
  for (size_t i = 0; i < batch.answered; ++i) {
    batch.vectors[i] = {batch.answers[i].data(), batch.answers[i].size()};
    batch.messages[i].msg_hdr.msg_name = &batch.peers[i];
    batch.messages[i].msg_hdr.msg_iov = &batch.vectors[i];
    batch.messages[i].msg_hdr.msg_iovlen = 1;
  }
  for (size_t sent = 0; sent < batch.answered;) {
    int count = sendmmsg(socket_.native_handle(), batch.messages.data() + sent,
                         static_cast<unsigned>(batch.answered - sent), MSG_DONTWAIT);
    // The first one that cannot be sent is left out: its client is gone.
    sent += count > 0 ? static_cast<size_t>(count) : 1;
  }
}

class TcpListener::Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(tcp::socket socket, Responder& responder)
      : socket_(std::move(socket)), timer_(socket_.get_executor()), responder_(responder) {}

  void Read() {
    timer_.expires_after(kIdleFor);
    timer_.async_wait([self = weak_from_this()](auto error) {
      if (auto connection = self.lock(); connection && !error) connection->Close();
    });
    asio::async_read(socket_, asio::buffer(length_),
                     [self = shared_from_this()](auto error, size_t) {
                       if (!error) self->ReadBody();
                     });
  }
  void Close() {
    boost::system::error_code ignored;
    timer_.cancel();
    socket_.close(ignored);
  }

 private:
  void ReadBody() {
    buffer_.resize(static_cast<size_t>(length_[0]) << 8 | length_[1]);
    asio::async_read(socket_, asio::buffer(buffer_),
                     [self = shared_from_this()](auto error, size_t) {
                       if (!error) self->Answer();
                     });
  }
  void Answer() {
    bool answered = responder_.Respond(
        buffer_, Responder::Transport::kTcp,
        [self = shared_from_this()](const std::string& response) { self->Write(response); });
    if (!answered) Close();
  }
  void Write(const std::string& response) {
    out_ = {static_cast<char>(response.size() >> 8), static_cast<char>(response.size())};
    out_ += response;
    asio::async_write(socket_, asio::buffer(out_), [self = shared_from_this()](auto error, size_t) {
      if (!error) self->Read();
    });
  }

  tcp::socket socket_;
  asio::steady_timer timer_;
  Responder& responder_;
  std::array<uint8_t, 2> length_{};
  std::string buffer_, out_;
};

Result<> TcpListener::Start(const net::IpAddress& address, uint16_t port) {
  boost::system::error_code error;
  tcp::endpoint endpoint(ToAsio(address), port);
  acceptor_.open(endpoint.protocol(), error);
  if (!error) acceptor_.set_option(asio::socket_base::reuse_address(true), error);
  if (!error && address.is_v6()) acceptor_.set_option(asio::ip::v6_only(true), error);
  if (!error) acceptor_.bind(endpoint, error);
  if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
  TRY(BindError(error, address, port));
  Accept();
  return {};
}

void TcpListener::Stop() {
  boost::system::error_code ignored;
  acceptor_.close(ignored);
  for (auto& weak : connections_) {
    if (auto connection = weak.lock()) connection->Close();
  }
}

void TcpListener::Accept() {
  acceptor_.async_accept([self = shared_from_this()](auto error, tcp::socket socket) {
    if (error == asio::error::operation_aborted || !self->acceptor_.is_open()) return;
    if (error) {
      log::Warning("cannot accept a DNS connection", {{"error", error.message()}});
    } else {
      auto& connections = self->connections_;
      connections.remove_if([](const auto& weak) { return weak.expired(); });
      if (connections.size() >= self->max_connections_) {
        if (auto oldest = connections.front().lock()) oldest->Close();
        connections.pop_front();
      }
      auto connection = std::make_shared<Connection>(std::move(socket), self->responder_);
      connections.push_back(connection);
      connection->Read();
    }
    self->Accept();
  });
}

}  // namespace skiff::agent::dns
