// The sockets of the DNS server: one UDP and one TCP listener an address.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <list>
#include <memory>

#include "agent/dns/responder.h"
#include "base/net/ip.h"
#include "base/result.h"

namespace skiff::agent::dns {

// Reads and answers many datagrams a wake-up. On the io_context's thread; answers under way hold
// the listener.
class UdpListener : public std::enable_shared_from_this<UdpListener> {
 public:
  UdpListener(boost::asio::io_context& io, Responder& responder)
      : socket_(io), responder_(responder) {}
  Result<> Start(const net::IpAddress& address, uint16_t port);
  void Stop();
  uint16_t port() const;

 private:
  struct Batch;
  void Wait();
  bool ReadBatch();
  void SendBatch();

  boost::asio::ip::udp::socket socket_;
  Responder& responder_;
  std::shared_ptr<Batch> batch_;
};

class TcpListener : public std::enable_shared_from_this<TcpListener> {
 public:
  TcpListener(boost::asio::io_context& io, Responder& responder, size_t max_connections)
      : io_(io), acceptor_(io), responder_(responder), max_connections_(max_connections) {}
  Result<> Start(const net::IpAddress& address, uint16_t port);
  void Stop();

 private:
  class Connection;
  void Accept();

  boost::asio::io_context& io_;
  boost::asio::ip::tcp::acceptor acceptor_;
  Responder& responder_;
  const size_t max_connections_;
  std::list<std::weak_ptr<Connection>> connections_;  // oldest first
};

}  // namespace skiff::agent::dns
