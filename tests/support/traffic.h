// Small TCP, UDP and SCTP peers for tests of the network: servers that answer with their name and
// clients that ask. All block with short timeouts; the calls act in the calling thread's network
// namespace.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "base/net/ip.h"
#include "base/os/unique_fd.h"
#include "tests/support/netns.h"

namespace skiff::test {

enum class Transport { kTcp, kUdp, kSctp };

// Answers every connection or datagram with "NAME PEER-ADDRESS", from inside a namespace, until it
// is destroyed.
class EchoServer {
 public:
  // address: where to listen; unspecified for all.
  EchoServer(const net::Netns& netns, Transport transport, const net::IpAddress& address,
             uint16_t port, std::string name);
  ~EchoServer();

 private:
  void Serve(Transport transport, const std::string& name);
  UniqueFd socket_;
  Pipe stop_;
  std::thread thread_;
};

struct Answer {
  std::string server;  // empty: no answer
  std::string peer;    // who the server saw, without port
  int error = 0;       // errno of connect or receive; ETIMEDOUT when nothing came
};
// Asks once. local_port: 0 for any.
Answer Ask(Transport transport, const net::IpAddress& address, uint16_t port,
           std::chrono::milliseconds timeout = std::chrono::seconds(2), uint16_t local_port = 0);
// Asks from within a node.
Answer AskFrom(TestNode& node, Transport transport, const std::string& address, uint16_t port,
               std::chrono::milliseconds timeout = std::chrono::seconds(2));
// Asks from within a pod's namespace.
Answer AskFrom(const TestNetns& pod, Transport transport, const std::string& address, uint16_t port,
               std::chrono::milliseconds timeout = std::chrono::seconds(2));

}  // namespace skiff::test
