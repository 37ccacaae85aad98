// SocketAddress: an IpAddress and a port as bind(2), connect(2) and recvfrom(2) take them.
#pragma once

#include <sys/socket.h>

#include "base/net/ip.h"

namespace skiff::net {

class SocketAddress {
 public:
  // For the kernel to fill in.
  SocketAddress() = default;
  explicit SocketAddress(const Endpoint& endpoint);

  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage_); }
  socklen_t size() const { return size_; }
  // How much there is, before a call, and how much it wrote, after.
  socklen_t* mutable_size() { return &size_; }
  // Of what the kernel has filled in. CHECKs that it is of IPv4 or IPv6.
  Endpoint endpoint() const;

 private:
  sockaddr_storage storage_{};
  socklen_t size_ = sizeof storage_;
};

// AF_INET or AF_INET6.
int SocketFamily(IpFamily family);

}  // namespace skiff::net
