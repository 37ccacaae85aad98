#include "base/net/socket_address.h"

#include <netinet/in.h>

#include <cstring>

namespace skiff::net {

SocketAddress::SocketAddress(const Endpoint& endpoint) {
  if (endpoint.address.is_v4()) {
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(endpoint.port);
    std::memcpy(&v4.sin_addr, endpoint.address.bytes(), sizeof v4.sin_addr);
    std::memcpy(&storage_, &v4, size_ = sizeof v4);
  } else {
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(endpoint.port);
    std::memcpy(&v6.sin6_addr, endpoint.address.bytes(), sizeof v6.sin6_addr);
    std::memcpy(&storage_, &v6, size_ = sizeof v6);
  }
}

Endpoint SocketAddress::endpoint() const {
  if (storage_.ss_family == AF_INET) {
    sockaddr_in v4;
    std::memcpy(&v4, &storage_, sizeof v4);
    return {IpAddress::FromBytes(IpFamily::kV4, &v4.sin_addr), ntohs(v4.sin_port)};
  }
  CHECK(storage_.ss_family == AF_INET6);
  sockaddr_in6 v6;
  std::memcpy(&v6, &storage_, sizeof v6);
  return {IpAddress::FromBytes(IpFamily::kV6, &v6.sin6_addr), ntohs(v6.sin6_port)};
}

int SocketFamily(IpFamily family) { return family == IpFamily::kV4 ? AF_INET : AF_INET6; }

}  // namespace skiff::net
