#include "cni/path_probe.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <list>
#include <map>
#include <string_view>
#include <thread>

#include "base/net/socket_address.h"
#include "base/os/unique_fd.h"

namespace skiff::cni {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::string_view kRequest = "skiff path probe?";
constexpr std::string_view kReply = "skiff path probe!";
// Behind either: how it was sent, and is to be answered.
constexpr char kChecked = 'c', kUnchecked = 'u';
constexpr size_t kMessageBytes = kRequest.size() + 1;
// More than one segment, so that segmentation is tried too.
constexpr size_t kStreamBytes = 8192;
constexpr size_t kMaxStreams = 64;
constexpr milliseconds kRepeatAfter{500};
constexpr milliseconds kStreamPatience{5000};

Result<UniqueFd> OpenSocket(net::IpFamily family, int type) {
  UniqueFd fd(::socket(net::SocketFamily(family), type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return Error::Sys(errno, "socket");
  return fd;
}

// What is sent from there on has a checksum, or none. Packets without one are taken in any case.
void UseChecksums(int fd, net::IpFamily family, bool on) {
  int off = on ? 0 : 1, yes = 1;
  if (family == net::IpFamily::kV4) {
    (void)::setsockopt(fd, SOL_SOCKET, SO_NO_CHECK, &off, sizeof off);
    return;
  }
  // A kernel that refuses leaves the checksum on: then nothing is told apart, and nothing is lost.
  (void)::setsockopt(fd, IPPROTO_UDP, UDP_NO_CHECK6_TX, &off, sizeof off);
  (void)::setsockopt(fd, IPPROTO_UDP, UDP_NO_CHECK6_RX, &yes, sizeof yes);
}

std::string Message(std::string_view kind, bool checked) {
  return std::string(kind) + (checked ? kChecked : kUnchecked);
}

}  // namespace

PathState Judge(const ProbeResult& result) {
  if (result.udp && result.tcp) return PathState::kWhole;
  return result.udp || result.tcp || result.udp_unchecked ? PathState::kDamaged
                                                          : PathState::kSilent;
}

// ---- answers ----

class ProbeResponder::Impl {
 public:
  ~Impl() {
    if (!thread_.joinable()) return;
    uint64_t one = 1;
    (void)::write(stop_.get(), &one, sizeof one);  // an eventfd takes it
    thread_.join();
  }

  Result<> Start(const std::vector<net::IpAddress>& addresses, uint16_t port) {
    stop_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!stop_) return Error::Sys(errno, "eventfd");
    for (const net::IpAddress& address : addresses) {
      for (int type : {SOCK_DGRAM, SOCK_STREAM}) TRY(Listen(address, port, type));
    }
    thread_ = std::thread([this] {
      pthread_setname_np(pthread_self(), "overlay-probe");
      Run();
    });
    return {};
  }

 private:
  struct Listener {
    UniqueFd fd;
    net::IpFamily family;
    bool datagrams;
  };
  struct Stream {
    UniqueFd fd;
    steady_clock::time_point until;
    size_t received = 0, sent = 0;
  };

  Result<> Listen(const net::IpAddress& address, uint16_t port, int type) {
    UniqueFd fd = TRY(OpenSocket(address.family(), type));
    int yes = 1;
    // For streams alone: two programs could share a port of datagrams.
    if (type == SOCK_STREAM) {
      (void)::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    }
    if (address.is_v6()) {
      (void)::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes);
    }
    net::SocketAddress local({address, port});
    if (::bind(fd.get(), local.get(), local.size()) != 0 ||
        (type == SOCK_STREAM && ::listen(fd.get(), kMaxStreams) != 0)) {
      return Error(Code::kUnavailable,
                   "listen on " + address.WithPort(port) + ": " + ErrnoText(errno));
    }
    if (type == SOCK_DGRAM) UseChecksums(fd.get(), address.family(), true);
    listeners_.push_back({std::move(fd), address.family(), type == SOCK_DGRAM});
    return {};
  }

  void Run() {
    while (true) {
      std::vector<pollfd> polled = {{stop_.get(), POLLIN, 0}};
      for (const Listener& listener : listeners_) polled.push_back({listener.fd.get(), POLLIN, 0});
      for (const Stream& stream : streams_) {
        short events = stream.received == stream.sent ? POLLIN : POLLOUT;
        polled.push_back({stream.fd.get(), events, 0});
      }
      const bool waiting = !streams_.empty();
      if (::poll(polled.data(), polled.size(),
                 waiting ? static_cast<int>(kStreamPatience.count()) : -1) < 0 &&
          errno != EINTR) {
        return;
      }
      if (polled[0].revents != 0) return;
      auto entry = polled.begin() + 1 + static_cast<ptrdiff_t>(listeners_.size());
      auto now = steady_clock::now();
      for (auto stream = streams_.begin(); stream != streams_.end(); ++entry) {
        bool open = entry->revents == 0 || Echo(*stream);
        stream = open && now < stream->until ? std::next(stream) : streams_.erase(stream);
      }
      for (size_t i = 0; i < listeners_.size(); ++i) {
        if (polled[1 + i].revents == 0) continue;
        listeners_[i].datagrams ? Answer(listeners_[i]) : Accept(listeners_[i]);
      }
    }
  }

  static void Answer(const Listener& listener) {
    std::array<char, kMessageBytes + 1> buffer;
    net::SocketAddress peer;
    ssize_t size = ::recvfrom(listener.fd.get(), buffer.data(), buffer.size(), MSG_DONTWAIT,
                              peer.get(), peer.mutable_size());
    if (size != static_cast<ssize_t>(kMessageBytes)) return;
    std::string_view request(buffer.data(), kMessageBytes);
    if (!request.starts_with(kRequest)) return;
    const bool checked = request.back() == kChecked;
    std::string reply = Message(kReply, checked);
    UseChecksums(listener.fd.get(), listener.family, checked);
    // Lost is lost: the peer asks again.
    (void)::sendto(listener.fd.get(), reply.data(), reply.size(), MSG_DONTWAIT, peer.get(),
                   peer.size());
  }

  void Accept(const Listener& listener) {
    UniqueFd fd(::accept4(listener.fd.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) return;
    if (streams_.size() >= kMaxStreams) streams_.pop_front();
    streams_.push_back({std::move(fd), steady_clock::now() + kStreamPatience});
  }

  // Sends back as many bytes as came. False: the stream is done with.
  static bool Echo(Stream& stream) {
    std::array<char, kStreamBytes> buffer{};
    if (stream.received == stream.sent) {
      ssize_t size = ::recv(stream.fd.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (size <= 0) return size < 0 && errno == EAGAIN;
      stream.received += static_cast<size_t>(size);
    }
    size_t owed = std::min(stream.received - stream.sent, buffer.size());
    ssize_t sent = ::send(stream.fd.get(), buffer.data(), owed, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN;
    stream.sent += static_cast<size_t>(sent);
    return stream.sent < kStreamBytes;
  }

  UniqueFd stop_;
  std::vector<Listener> listeners_;
  std::list<Stream> streams_;
  std::thread thread_;
};

ProbeResponder::ProbeResponder(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ProbeResponder::~ProbeResponder() = default;

Result<std::unique_ptr<ProbeResponder>> ProbeResponder::Start(
    const std::vector<net::IpAddress>& addresses, uint16_t port) {
  auto impl = std::make_unique<Impl>();
  TRY(impl->Start(addresses, port));
  return std::unique_ptr<ProbeResponder>(new ProbeResponder(std::move(impl)));
}

// ---- questions ----

namespace {

class Prober {
 public:
  Prober(const std::vector<net::IpAddress>& peers, uint16_t port) : port_(port) {
    for (const net::IpAddress& peer : peers) peers_.push_back({.address = peer});
  }

  Result<> Open() {
    for (const Peer& peer : peers_) {
      for (bool checked : {true, false}) {
        UniqueFd& fd = datagrams_[{peer.address.family(), checked}];
        if (fd) continue;
        fd = TRY(OpenSocket(peer.address.family(), SOCK_DGRAM));
        UseChecksums(fd.get(), peer.address.family(), checked);
      }
    }
    return {};
  }

  void Run(milliseconds patience) {
    const auto until = steady_clock::now() + patience;
    for (auto now = steady_clock::now(); now < until && !AllWhole(); now = steady_clock::now()) {
      Ask();
      const auto again = std::min(now + kRepeatAfter, until);
      while (now < again && !AllWhole()) {
        Wait(std::chrono::ceil<milliseconds>(again - now));
        now = steady_clock::now();
      }
    }
  }

  std::vector<ProbeResult> Results() const {
    std::vector<ProbeResult> results;
    for (const Peer& peer : peers_) results.push_back(peer.result);
    return results;
  }

 private:
  struct Peer {
    net::IpAddress address;
    ProbeResult result;
    UniqueFd stream;
    size_t sent = 0, received = 0;
  };

  bool AllWhole() const {
    return std::ranges::all_of(
        peers_, [](const Peer& peer) { return Judge(peer.result) == PathState::kWhole; });
  }

  void Ask() {
    for (Peer& peer : peers_) {
      net::SocketAddress to({peer.address, port_});
      for (bool checked : {true, false}) {
        if (checked ? peer.result.udp : peer.result.udp_unchecked) continue;
        std::string request = Message(kRequest, checked);
        int fd = datagrams_[{peer.address.family(), checked}].get();
        (void)::sendto(fd, request.data(), request.size(), MSG_DONTWAIT, to.get(), to.size());
      }
      if (!peer.result.tcp && !peer.stream) Dial(peer, to);
    }
  }

  static void Dial(Peer& peer, net::SocketAddress& to) {
    auto fd = OpenSocket(peer.address.family(), SOCK_STREAM);
    if (!fd.ok() || (::connect(fd->get(), to.get(), to.size()) != 0 && errno != EINPROGRESS))
      return;
    peer.stream = std::move(*fd);
    peer.sent = peer.received = 0;
  }

  void Wait(milliseconds most) {
    std::vector<pollfd> polled;
    for (const auto& [kind, fd] : datagrams_) polled.push_back({fd.get(), POLLIN, 0});
    std::vector<Peer*> streaming;
    for (Peer& peer : peers_) {
      if (!peer.stream) continue;
      short events = peer.sent < kStreamBytes ? POLLIN | POLLOUT : POLLIN;
      polled.push_back({peer.stream.get(), events, 0});
      streaming.push_back(&peer);
    }
    if (::poll(polled.data(), polled.size(), static_cast<int>(most.count())) <= 0) return;
    auto entry = polled.begin();
    for (const auto& [kind, fd] : datagrams_) {
      if ((entry++)->revents != 0) TakeAnswers(fd.get(), kind.second);
    }
    for (Peer* peer : streaming) {
      if ((entry++)->revents != 0 && !Stream(*peer)) peer->stream = UniqueFd();
    }
  }

  void TakeAnswers(int fd, bool checked) {
    std::array<char, kMessageBytes + 1> buffer;
    while (true) {
      net::SocketAddress from;
      ssize_t size = ::recvfrom(fd, buffer.data(), buffer.size(), MSG_DONTWAIT, from.get(),
                                from.mutable_size());
      if (size < 0) return;
      std::string_view answer(buffer.data(), static_cast<size_t>(size));
      if (answer != Message(kReply, checked)) continue;
      net::IpAddress address = from.endpoint().address;
      for (Peer& peer : peers_) {
        if (peer.address == address) {
          (checked ? peer.result.udp : peer.result.udp_unchecked) = true;
        }
      }
    }
  }

  // False: the stream has come to its end, well or not; the next round dials again if it must.
  static bool Stream(Peer& peer) {
    std::array<char, kStreamBytes> buffer{};
    if (peer.sent < kStreamBytes) {
      ssize_t size = ::send(peer.stream.get(), buffer.data(), kStreamBytes - peer.sent,
                            MSG_DONTWAIT | MSG_NOSIGNAL);
      if (size < 0 && errno != EAGAIN) return false;
      if (size > 0) peer.sent += static_cast<size_t>(size);
    }
    ssize_t size = ::recv(peer.stream.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (size < 0) return errno == EAGAIN;
    peer.received += static_cast<size_t>(size);
    peer.result.tcp = peer.result.tcp || peer.received >= kStreamBytes;
    return size > 0 && !peer.result.tcp;
  }

  const uint16_t port_;
  std::vector<Peer> peers_;
  std::map<std::pair<net::IpFamily, bool>, UniqueFd> datagrams_;  // by family and checksum
};

}  // namespace

Result<std::vector<ProbeResult>> ProbePeers(const std::vector<net::IpAddress>& peers, uint16_t port,
                                            milliseconds patience) {
  if (peers.size() > kMaxProbes) {
    return Error(Code::kInvalidArgument, "too many peers to probe at once");
  }
  Prober prober(peers, port);
  TRY(prober.Open());
  prober.Run(patience);
  return prober.Results();
}

}  // namespace skiff::cni
