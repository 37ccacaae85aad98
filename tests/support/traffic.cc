#include "tests/support/traffic.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace skiff::test {
namespace {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

SocketAddress Make(const net::IpAddress& address, uint16_t port) {
  SocketAddress made;
  if (address.is_v4()) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&made.storage);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    memcpy(&v4->sin_addr, address.bytes(), 4);
    made.size = sizeof *v4;
  } else {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&made.storage);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    memcpy(&v6->sin6_addr, address.bytes(), 16);
    made.size = sizeof *v6;
  }
  return made;
}

std::string HostOf(const sockaddr_storage& storage) {
  if (storage.ss_family == AF_INET) {
    return net::IpAddress::FromBytes(net::IpFamily::kV4,
                                     &reinterpret_cast<const sockaddr_in&>(storage).sin_addr)
        .ToString();
  }
  return net::IpAddress::FromBytes(net::IpFamily::kV6,
                                   &reinterpret_cast<const sockaddr_in6&>(storage).sin6_addr)
      .ToString();
}

UniqueFd MakeSocket(Transport transport, const net::IpAddress& address, int flags) {
  int type = transport == Transport::kUdp ? SOCK_DGRAM : SOCK_STREAM;
  int protocol = transport == Transport::kSctp ? IPPROTO_SCTP : 0;
  UniqueFd fd(socket(address.is_v4() ? AF_INET : AF_INET6, type | SOCK_CLOEXEC | flags, protocol));
  CHECK(fd.valid());
  int on = 1;
  CHECK(setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
  return fd;
}

// 0, or the errno that ends the wait.
int WaitFor(int fd, short events, std::chrono::milliseconds timeout) {
  pollfd poller{.fd = fd, .events = events, .revents = 0};
  int ready = poll(&poller, 1, static_cast<int>(timeout.count()));
  if (ready == 0) return ETIMEDOUT;
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}

template <class Work>
void RunIn(const net::Netns& netns, const Work& work) {
  std::thread([&] {
    CHECK(setns(netns.fd(), CLONE_NEWNET) == 0);
    work();
  }).join();
}

}  // namespace

EchoServer::EchoServer(const net::Netns& netns, Transport transport, const net::IpAddress& address,
                       uint16_t port, std::string name)
    : stop_(MakePipe().value()) {
  RunIn(netns, [&] {
    socket_ = MakeSocket(transport, address, 0);
    SocketAddress local = Make(address, port);
    CHECK(bind(socket_.get(), local.get(), local.size) == 0);
    if (transport != Transport::kUdp) CHECK(listen(socket_.get(), 64) == 0);
  });
  thread_ = std::thread([this, transport, name = std::move(name)] { Serve(transport, name); });
}

EchoServer::~EchoServer() {
  stop_.write_end.Reset();
  thread_.join();
}

void EchoServer::Serve(Transport transport, const std::string& name) {
  for (;;) {
    pollfd pollers[2] = {{.fd = socket_.get(), .events = POLLIN, .revents = 0},
                         {.fd = stop_.read_end.get(), .events = POLLIN, .revents = 0}};
    if (poll(pollers, 2, -1) < 0) continue;
    if (pollers[1].revents != 0) return;
    sockaddr_storage peer{};
    socklen_t size = sizeof peer;
    char buffer[256];
    if (transport == Transport::kUdp) {
      ssize_t got = recvfrom(socket_.get(), buffer, sizeof buffer, MSG_DONTWAIT,
                             reinterpret_cast<sockaddr*>(&peer), &size);
      if (got < 0) continue;
      std::string answer = name + " " + HostOf(peer);
      (void)sendto(socket_.get(), answer.data(), answer.size(), 0,
                   reinterpret_cast<sockaddr*>(&peer), size);
    } else {
      UniqueFd connection(
          accept4(socket_.get(), reinterpret_cast<sockaddr*>(&peer), &size, SOCK_CLOEXEC));
      if (!connection.valid()) continue;
      std::string answer = name + " " + HostOf(peer);
      (void)send(connection.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
    }
  }
}

Answer Ask(Transport transport, const net::IpAddress& address, uint16_t port,
           std::chrono::milliseconds timeout, uint16_t local_port) {
  UniqueFd fd = MakeSocket(transport, address, SOCK_NONBLOCK);
  if (local_port != 0) {
    SocketAddress local =
        Make(address.is_v4() ? net::IpAddress() : net::IpAddress::Parse("::").value(), local_port);
    if (bind(fd.get(), local.get(), local.size) != 0) return {.error = errno};
  }
  SocketAddress remote = Make(address, port);
  if (connect(fd.get(), remote.get(), remote.size) != 0) {
    if (errno != EINPROGRESS) return {.error = errno};
    if (int error = WaitFor(fd.get(), POLLOUT, timeout)) return {.error = error};
  }
  if (transport == Transport::kUdp && send(fd.get(), "ask", 3, 0) != 3) return {.error = errno};
  std::string text;
  for (;;) {
    if (int error = WaitFor(fd.get(), POLLIN, timeout)) return {.error = error};
    char buffer[256];
    ssize_t got = recv(fd.get(), buffer, sizeof buffer, 0);
    if (got < 0) return {.error = errno};
    text.append(buffer, static_cast<size_t>(got));
    if (got == 0 || transport == Transport::kUdp) break;
  }
  size_t space = text.find(' ');
  if (space == std::string::npos) return {.error = EPROTO};
  return {.server = text.substr(0, space), .peer = text.substr(space + 1)};
}

Answer AskFrom(TestNode& node, Transport transport, const std::string& address, uint16_t port,
               std::chrono::milliseconds timeout) {
  Answer answer;
  node.Run([&] { answer = Ask(transport, net::IpAddress::Parse(address).value(), port, timeout); });
  return answer;
}

Answer AskFrom(const TestNetns& pod, Transport transport, const std::string& address, uint16_t port,
               std::chrono::milliseconds timeout) {
  Answer answer;
  pod.Run([&] { answer = Ask(transport, net::IpAddress::Parse(address).value(), port, timeout); });
  return answer;
}

}  // namespace skiff::test
