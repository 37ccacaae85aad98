// The fast path on the kernel: which packets take it and which do not, and what becomes of a
// connection when rules, routes, pods and agents change.
#include "cni/fastpath/fast_path.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <functional>
#include <thread>

#include "base/net/socket_address.h"
#include "cni/overlay.h"
#include "cni/test_addresses.h"
#include "tests/support/needs.h"
#include "tests/support/netns.h"
#include "tests/support/pod_node.h"

namespace skiff::cni {
namespace {

using std::chrono::steady_clock;
using test::AttachedPod;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr uint16_t kServerPort = 8080, kClientPort = 4242;
constexpr int kExchanges = 20;
constexpr timeval kLongWait{.tv_sec = 5, .tv_usec = 0};
constexpr timeval kShortWait{.tv_sec = 1, .tv_usec = 0};
constexpr std::chrono::seconds kDeadline{30};

void SetWait(int fd, const timeval& wait) {
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
}

// Everything, or fewer bytes where the connection ends or nothing comes.
std::string Receive(int fd, size_t size) {
  std::string data(size, '\0');
  size_t have = 0;
  while (have < size) {
    ssize_t got = recv(fd, data.data() + have, size - have, 0);
    if (got <= 0) break;
    have += static_cast<size_t>(got);
  }
  data.resize(have);
  return data;
}

// Whether all of it arrives; sent from a thread of its own, as it may be more than buffers take.
bool Transfer(int from, int to, size_t size) {
  const std::string message(size, 'x');
  std::thread sender([&] {
    for (size_t sent = 0; sent < size;) {
      ssize_t some = send(from, message.data() + sent, size - sent, MSG_NOSIGNAL);
      if (some <= 0) return;
      sent += static_cast<size_t>(some);
    }
  });
  const bool arrived = Receive(to, size) == message;
  sender.join();
  return arrived;
}

// A connection, or a pair of UDP sockets that know each other, with both ends.
struct Connection {
  UniqueFd client, server;
  bool ok() const { return client.valid() && server.valid(); }
  // Whether a message and its echo arrive.
  bool Exchange(size_t size = 100) const {
    return Transfer(client.get(), server.get(), size) && Transfer(server.get(), client.get(), size);
  }
  bool Exchanges(int times) const {
    for (int i = 0; i < times; ++i) {
      if (!Exchange()) return false;
    }
    return true;
  }
};

bool Within(std::chrono::nanoseconds deadline, const std::function<bool()>& happens) {
  const auto end = steady_clock::now() + deadline;
  while (steady_clock::now() < end) {
    if (happens()) return true;
  }
  return false;
}

// Two nodes joined by VXLAN. On the first the pods left, right and third, on the other far.
class FastPathKernelTest : public ::testing::TestWithParam<net::IpFamily> {
 protected:
  struct Node {
    std::unique_ptr<test::TestNode> machine;
    std::unique_ptr<test::PodNode> pods;
  };

  void SetUp() override {
    SKIFF_NEEDS(test::Need::kRoot, test::Need::kIptables, test::Need::kNftables, test::Need::kIpv6,
                test::Need::kConntrack, test::Need::kLinkPrograms);
    here_.machine = test::TestNode::Make("here");
    there_.machine = test::TestNode::Make("there");
    test::Connect(*here_.machine, {"192.0.2.1/24"}, *there_.machine, {"192.0.2.2/24"});
    const OverlayNode here{.addresses = {Address("192.0.2.1")},
                           .pod_cidrs = {Prefix("10.244.1.0/24"), Prefix("fd42:0:0:1::/64")}};
    const OverlayNode there{.addresses = {Address("192.0.2.2")},
                            .pod_cidrs = {Prefix("10.244.2.0/24"), Prefix("fd42:0:0:2::/64")}};
    SetUpNode(here_, here, there);
    SetUpNode(there_, there, here);
    left_ = here_.pods->Attach("left");
    right_ = here_.pods->Attach("right");
    third_ = here_.pods->Attach("third");
    far_ = there_.pods->Attach("far");
  }
  void SetUpNode(Node& node, const OverlayNode& self, const OverlayNode& peer) {
    node.machine->Run([&] {
      net::Rtnl rtnl = net::Rtnl::Open().value();
      EXPECT_TRUE(EnsureOverlay(rtnl, {.mtu = 1450}, self, {peer}).ok());
    });
    // Counts what passes on the slow path. (Bridges that call iptables pass multicast here, too.)
    node.machine->Shell(
        "nft 'add table inet witness; add chain inet witness forward "
        "{ type filter hook forward priority 100; }; add rule inet witness forward meta l4proto { "
        "tcp, udp } "
        "counter'");
    node.pods = std::make_unique<test::PodNode>(
        *node.machine, self.pod_cidrs,
        std::vector<net::IpPrefix>{Prefix("10.244.0.0/16"), Prefix("fd42::/48")});
  }
  void TearDown() override {
    for (Node* node : {&here_, &there_}) {
      if (node->pods == nullptr) continue;
      node->pods->Close([] {});
      EXPECT_EQ(node->machine->Shell("cat /proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal"),
                "0\n");
    }
  }

  bool v4() const { return GetParam() == net::IpFamily::kV4; }
  const char* nft_family() const { return v4() ? "ip" : "ip6"; }
  net::IpAddress AddressOf(const AttachedPod& pod) const { return Address(v4() ? pod.v4 : pod.v6); }

  UniqueFd Socket(int type, const net::IpAddress& address, uint16_t port) {
    UniqueFd made(socket(address.is_v4() ? AF_INET : AF_INET6, type | SOCK_CLOEXEC, 0));
    int on = 1;
    setsockopt(made.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    net::SocketAddress own(net::Endpoint{address, port});
    EXPECT_EQ(bind(made.get(), own.get(), own.size()), 0) << ErrnoText(errno);
    SetWait(made.get(), kLongWait);
    return made;
  }
  static int ConnectTo(const UniqueFd& fd, const net::IpAddress& address, uint16_t port) {
    net::SocketAddress peer(net::Endpoint{address, port});
    return connect(fd.get(), peer.get(), peer.size());
  }

  UniqueFd Listen(const AttachedPod& pod) {
    UniqueFd listener;
    pod.netns->Run([&] {
      listener = Socket(SOCK_STREAM, AddressOf(pod), kServerPort);
      EXPECT_EQ(listen(listener.get(), 8), 0);
    });
    return listener;
  }
  // From the left pod to the address, where the listener is behind it.
  Connection Connect(const UniqueFd& listener, const net::IpAddress& address,
                     const timeval& wait = kLongWait) {
    Connection connection;
    left_.netns->Run([&] {
      UniqueFd client = Socket(SOCK_STREAM, AddressOf(left_), 0);
      SetWait(client.get(), wait);
      if (ConnectTo(client, address, kServerPort) == 0) connection.client = std::move(client);
    });
    if (!connection.client.valid()) return connection;
    SetWait(connection.client.get(), kLongWait);
    connection.server.Reset(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    SetWait(connection.server.get(), kLongWait);
    return connection;
  }
  Connection ConnectTcp(const AttachedPod& to) { return Connect(Listen(to), AddressOf(to)); }
  Connection ConnectUdp(const AttachedPod& to) {
    Connection connection;
    to.netns->Run([&] {
      connection.server = Socket(SOCK_DGRAM, AddressOf(to), kServerPort);
      ConnectTo(connection.server, AddressOf(left_), kClientPort);
    });
    left_.netns->Run([&] {
      connection.client = Socket(SOCK_DGRAM, AddressOf(left_), kClientPort);
      ConnectTo(connection.client, AddressOf(to), kServerPort);
    });
    return connection;
  }

  // Packets that passed a node on the slow path so far.
  static long Slow(const Node& node) {
    std::string text = node.machine->Shell("nft list chain inet witness forward");
    return std::stol(text.substr(text.find("packets ") + 8));
  }
  // Whether messages come to pass without one packet on the slow path of the nodes. Once a second a
  // connection is seen there, and until a pod is attached.
  bool TakesTheFastPath(const Connection& connection, const std::vector<const Node*>& nodes) {
    auto slow = [&] {
      long sum = 0;
      for (const Node* node : nodes) sum += Slow(*node);
      return sum;
    };
    return Within(kDeadline, [&] {
      const long before = slow();
      return connection.Exchanges(kExchanges) && slow() == before;
    });
  }
  bool TakesTheFastPath(const Connection& connection) {
    return TakesTheFastPath(connection, {&here_});
  }
  // Whether all messages, from now on, are on the slow path.
  void ExpectSlow(const Connection& connection) {
    const long before = Slow(here_);
    EXPECT_TRUE(connection.Exchanges(kExchanges));
    EXPECT_GE(Slow(here_), before + 2 * kExchanges);
  }
  void SetRules(const std::string& rules) {
    here_.machine->Shell(
        "nft 'add table inet rules; add chain inet rules forward { type filter hook forward "
        "priority 11; }; " +
        rules + "'");
  }

  Node here_, there_;
  AttachedPod left_, right_, third_, far_;
};

TEST_P(FastPathKernelTest, EstablishedConnectionsTakeIt) {
  Connection connection = ConnectTcp(right_);
  ASSERT_TRUE(connection.ok());
  EXPECT_TRUE(TakesTheFastPath(connection));
  const uint64_t taken = here_.pods->fast_path().Taken();
  EXPECT_TRUE(connection.Exchange(8 << 20)) << "in large segments";
  EXPECT_GT(here_.pods->fast_path().Taken(), taken);
  // Connection tracking sees it end.
  const long before = Slow(here_);
  EXPECT_EQ(shutdown(connection.client.get(), SHUT_WR), 0);
  EXPECT_EQ(Receive(connection.server.get(), 1), "");
  EXPECT_GT(Slow(here_), before);
  EXPECT_TRUE(Transfer(connection.server.get(), connection.client.get(), 100)) << "half of it";
  connection.server.Reset();
  EXPECT_EQ(Receive(connection.client.get(), 1), "");
}

TEST_P(FastPathKernelTest, BetweenNodesTooBothWays) {
  Connection connection = ConnectTcp(far_);
  ASSERT_TRUE(connection.ok());
  EXPECT_TRUE(TakesTheFastPath(connection, {&here_, &there_}));
  EXPECT_TRUE(connection.Exchange(8 << 20));
  EXPECT_GT(there_.pods->fast_path().Taken(), 0u);
  Connection datagrams = ConnectUdp(far_);
  EXPECT_TRUE(TakesTheFastPath(datagrams, {&here_, &there_}));
  // What leaves the node carries nothing of ours.
  EXPECT_THAT(here_.machine->Shell("nft 'add table inet outer; add chain inet outer out { type "
                                   "filter hook postrouting priority 0; }; add rule inet outer out "
                                   "udp dport 8472 meta mark and 0x1000 != 0 counter'"),
              "");
  EXPECT_TRUE(Within(std::chrono::seconds(3), [&] {
    const long before = Slow(here_);
    return connection.Exchanges(kExchanges) && Slow(here_) > before;
  }));
  EXPECT_THAT(here_.machine->Shell("nft list chain inet outer out"), HasSubstr("packets 0 "));
}

TEST_P(FastPathKernelTest, DatagramsTakeItAndLookTheSame) {
  Connection datagrams = ConnectUdp(right_);
  const int on = 1;
  setsockopt(datagrams.server.get(), IPPROTO_IP, IP_RECVTTL, &on, sizeof on);
  setsockopt(datagrams.server.get(), IPPROTO_IPV6, IPV6_RECVHOPLIMIT, &on, sizeof on);
  auto hops = [&] {
    EXPECT_EQ(send(datagrams.client.get(), "x", 1, 0), 1);
    char byte = 0, control[64];
    iovec data{&byte, 1};
    msghdr message{.msg_iov = &data,
                   .msg_iovlen = 1,
                   .msg_control = control,
                   .msg_controllen = sizeof control};
    EXPECT_EQ(recvmsg(datagrams.server.get(), &message, 0), 1);
    int value = 0;
    if (cmsghdr* header = CMSG_FIRSTHDR(&message)) memcpy(&value, CMSG_DATA(header), sizeof value);
    return value;
  };
  EXPECT_EQ(hops(), 63) << "on the slow path";
  EXPECT_TRUE(TakesTheFastPath(datagrams));
  EXPECT_EQ(hops(), 63);
  // The pod's statistics count them.
  auto received = [&] {
    long packets = 0;
    right_.netns->Run([&] {
      net::Rtnl rtnl = net::Rtnl::Open().value();
      packets = static_cast<long>(rtnl.GetLink("eth0")->counters.rx_packets);
    });
    return packets;
  };
  const long before = received();
  EXPECT_TRUE(datagrams.Exchanges(kExchanges));
  EXPECT_GE(received(), before + kExchanges);
}

TEST_P(FastPathKernelTest, TheSlowPathSeesEachConnectionFromTimeToTime) {
  Connection connection = ConnectTcp(right_);
  ASSERT_TRUE(connection.ok());
  for (int times = 0; times < 2; ++times) {
    ASSERT_TRUE(TakesTheFastPath(connection));
    const long before = Slow(here_);
    EXPECT_TRUE(Within(std::chrono::seconds(5),
                       [&] { return connection.Exchange() && Slow(here_) > before; }));
  }
}

TEST_P(FastPathKernelTest, TranslatedConnectionsStayOnTheSlowPath) {
  const char* vip = v4() ? "10.202.0.1" : "fd43::1";
  here_.machine->Shell(
      std::string("nft 'add table inet translate; add chain inet translate pre { type nat hook "
                  "prerouting priority -105; }; add rule inet translate pre ") +
      nft_family() + " daddr " + vip + " dnat " + nft_family() + " to " +
      AddressOf(right_).ToString() + "'");
  Connection connection = Connect(Listen(right_), Address(vip));
  ASSERT_TRUE(connection.ok());
  EXPECT_TRUE(connection.Exchange(1 << 20));
  ExpectSlow(connection);
}

TEST_P(FastPathKernelTest, APolicyThatComesHoldsForNewConnections) {
  const UniqueFd listener = Listen(right_);
  Connection connection = Connect(listener, AddressOf(right_));
  ASSERT_TRUE(connection.ok());
  EXPECT_TRUE(TakesTheFastPath(connection));
  // As agent/policy/plan.h has it.
  SetRules(
      "add rule inet rules forward ct state established,related accept; "
      "add rule inet rules forward drop");
  EXPECT_TRUE(connection.Exchanges(kExchanges)) << "what exists goes on, as it does without";
  EXPECT_TRUE(TakesTheFastPath(connection));
  EXPECT_FALSE(Connect(listener, AddressOf(right_), kShortWait).ok());
  here_.machine->Shell("nft delete table inet rules");
  EXPECT_TRUE(Connect(listener, AddressOf(right_)).ok());
}

TEST_P(FastPathKernelTest, ARuleThatRefusesAllHoldsWithinMoments) {
  Connection connection = ConnectTcp(right_);
  ASSERT_TRUE(connection.ok());
  EXPECT_TRUE(TakesTheFastPath(connection));
  SetRules("add rule inet rules forward drop");
  for (const UniqueFd* end : {&connection.client, &connection.server}) {
    SetWait(end->get(), kShortWait);
  }
  EXPECT_TRUE(Within(kDeadline, [&] { return !connection.Exchange(); }));
}

TEST_P(FastPathKernelTest, AnAddressUsedAgainIsTheNextPods) {
  const net::IpAddress v4_address = Address(right_.v4), v6_address = Address(right_.v6);
  Connection old = ConnectTcp(right_);
  ASSERT_TRUE(old.ok());
  EXPECT_TRUE(TakesTheFastPath(old));
  here_.pods->Detach("right");
  const uint64_t taken = here_.pods->fast_path().Taken();
  AttachedPod next = here_.pods->Attach("next", {}, {v4_address, v6_address});
  const UniqueFd listener = Listen(next);
  // It knows nothing of the connection, and says so.
  ASSERT_EQ(send(old.client.get(), "x", 1, MSG_NOSIGNAL), 1);
  char byte = 0;
  EXPECT_EQ(recv(old.client.get(), &byte, 1, 0), -1);
  EXPECT_EQ(errno, ECONNRESET);
  EXPECT_EQ(here_.pods->fast_path().Taken(), taken);
  Connection now = Connect(listener, AddressOf(next));
  ASSERT_TRUE(now.ok());
  EXPECT_TRUE(TakesTheFastPath(now));
}

TEST_P(FastPathKernelTest, AnothersAddressIsNoWayIn) {
  Connection datagrams = ConnectUdp(right_);
  ASSERT_TRUE(TakesTheFastPath(datagrams));
  // The third pod says that it is the left one.
  const std::string own = AddressOf(left_).ToString();
  third_.netns->Shell("ip addr add " + own + (v4() ? "/32" : "/128 nodad") + " dev lo");
  third_.netns->Run([&] {
    const UniqueFd liar = Socket(SOCK_DGRAM, AddressOf(left_), kClientPort);
    ASSERT_EQ(ConnectTo(liar, AddressOf(right_), kServerPort), 0);
    const uint64_t taken = here_.pods->fast_path().Taken();
    for (int i = 0; i < kExchanges; ++i) EXPECT_EQ(send(liar.get(), "x", 1, 0), 1);
    EXPECT_EQ(here_.pods->fast_path().Taken(), taken);
  });
}

TEST_P(FastPathKernelTest, WhatIsTooLargeForTheWayIsToldSo) {
  Connection datagrams = ConnectUdp(right_);
  ASSERT_TRUE(TakesTheFastPath(datagrams));
  here_.machine->Shell(std::string(v4() ? "ip route" : "ip -6 route") + " replace " +
                       AddressOf(right_).ToString() + " dev skiff0 mtu 1300");
  const int probe = IP_PMTUDISC_DO;
  setsockopt(datagrams.client.get(), v4() ? IPPROTO_IP : IPPROTO_IPV6,
             v4() ? IP_MTU_DISCOVER : IPV6_MTU_DISCOVER, &probe, sizeof probe);
  EXPECT_TRUE(Within(kDeadline, [&] {
    const std::string large(1350, 'x');
    return datagrams.Exchange() &&
           send(datagrams.client.get(), large.data(), large.size(), 0) == -1 && errno == EMSGSIZE;
  }));
  EXPECT_TRUE(datagrams.Exchange());
}

TEST_P(FastPathKernelTest, OddPacketsTakeTheSlowPath) {
  Connection datagrams = ConnectUdp(right_);
  ASSERT_TRUE(TakesTheFastPath(datagrams));
  EXPECT_TRUE(datagrams.Exchange(4000)) << "in fragments";
  long before = Slow(here_);
  const uint64_t taken = here_.pods->fast_path().Taken();
  EXPECT_TRUE(datagrams.Exchange(4000));
  EXPECT_GT(Slow(here_), before);
  EXPECT_EQ(here_.pods->fast_path().Taken(), taken);
  if (!v4()) return;
  const unsigned char nothing[] = {IPOPT_NOP, IPOPT_NOP, IPOPT_NOP, IPOPT_EOL};
  ASSERT_EQ(setsockopt(datagrams.client.get(), IPPROTO_IP, IP_OPTIONS, nothing, sizeof nothing), 0);
  before = Slow(here_);
  for (int i = 0; i < kExchanges; ++i) {
    EXPECT_TRUE(Transfer(datagrams.client.get(), datagrams.server.get(), 100));
  }
  EXPECT_GE(Slow(here_), before + kExchanges) << "with options";
}

TEST_P(FastPathKernelTest, LimitedPodsStayOnTheSlowPath) {
  SKIFF_NEEDS(test::Need::kShaping);
  AttachedPod slow =
      here_.pods->Attach("slow", {.ingress_bits = 100'000'000, .egress_bits = 100'000'000});
  Connection connection = ConnectTcp(slow);
  ASSERT_TRUE(connection.ok());
  // One that may, so that the fast path is at work.
  EXPECT_TRUE(TakesTheFastPath(ConnectUdp(right_)));
  ExpectSlow(connection);
  Connection outside = ConnectTcp(far_);
  EXPECT_TRUE(TakesTheFastPath(outside, {&here_, &there_}));
}

TEST_P(FastPathKernelTest, AgentsComeAndGoUnderConnections) {
  Connection connection = ConnectTcp(right_), across = ConnectTcp(far_);
  ASSERT_TRUE(connection.ok() && across.ok());
  // As the service proxy's rules have it.
  SetRules("insert rule inet rules forward ct state invalid drop");
  EXPECT_TRUE(TakesTheFastPath(connection));
  here_.pods->Restart();
  EXPECT_TRUE(connection.Exchanges(kExchanges));
  EXPECT_TRUE(TakesTheFastPath(connection));
  EXPECT_TRUE(TakesTheFastPath(across, {&here_, &there_}));
  EXPECT_TRUE(Within(kDeadline, [&] {
    return connection.Exchange() && here_.pods->fast_path().Taken() > 0;
  })) << "by the programs of the new one";
  // More than a window that connection tracking does not see.
  EXPECT_TRUE(connection.Exchange(32 << 20) && across.Exchange(32 << 20));
  here_.pods->Restart(/*fast_path=*/false);
  EXPECT_TRUE(Within(kDeadline, [&] {
    return here_.machine->Shell("tc qdisc show").find("clsact") == std::string::npos;
  }));
  ExpectSlow(connection);
  EXPECT_TRUE(across.Exchanges(kExchanges));
  EXPECT_THAT(here_.machine->Shell("nft list tables"), Not(HasSubstr("skiff-fast-path")));
  here_.pods->Restart();
  EXPECT_TRUE(TakesTheFastPath(connection));
}

TEST_P(FastPathKernelTest, WhatOthersFlushComesBack) {
  Connection connection = ConnectTcp(right_);
  ASSERT_TRUE(connection.ok());
  EXPECT_TRUE(TakesTheFastPath(connection));
  here_.machine->Shell("nft delete table inet skiff-fast-path");
  EXPECT_TRUE(Within(kDeadline, [&] {
    return here_.machine->Shell("nft list tables").find("skiff-fast-path") != std::string::npos;
  }));
  EXPECT_TRUE(TakesTheFastPath(connection));
}

INSTANTIATE_TEST_SUITE_P(Families, FastPathKernelTest,
                         ::testing::Values(net::IpFamily::kV4, net::IpFamily::kV6),
                         [](const auto& param_info) {
                           return param_info.param == net::IpFamily::kV4 ? "IPv4" : "IPv6";
                         });

}  // namespace
}  // namespace skiff::cni
