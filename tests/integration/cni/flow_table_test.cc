// The short way of pods' TCP connections, on the kernel: who takes it and who does not, and what
// becomes of a connection on it when rules, routes and pods change.
#include "cni/flow_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "base/net/socket_address.h"
#include "cni/test_addresses.h"
#include "tests/support/needs.h"
#include "tests/support/netns.h"
#include "tests/support/traffic.h"

namespace skiff::cni {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr uint16_t kEchoPort = 8080;
constexpr int kExchanges = 20;
constexpr timeval kEchoWait{.tv_sec = 5, .tv_usec = 0};
constexpr timeval kShortEchoWait{.tv_sec = 1, .tv_usec = 0};

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

// A TCP connection between two nodes, with both its ends.
struct Connection {
  UniqueFd client, server;
  bool ok() const { return client.valid() && server.valid(); }
  // Whether a message and its echo arrive.
  bool Exchange(size_t size = 100) {
    return Transfer(client.get(), server.get(), size) && Transfer(server.get(), client.get(), size);
  }
  bool Exchanges(int times) {
    for (int i = 0; i < times; ++i) {
      if (!Exchange()) return false;
    }
    return true;
  }
};

// A node with the pods left and right on its bridge, one address of each family each.
class FlowTableKernelTest : public ::testing::TestWithParam<net::IpFamily> {
 protected:
  void SetUp() override {
    SKIFF_NEEDS(test::Need::kRoot, test::Need::kNftables, test::Need::kIpv6,
                test::Need::kFlowtables);
    node_ = test::TestNode::Make("node");
    node_->Shell(
        "ip link add skiff0 address 0a:58:0a:f4:01:01 type bridge mcast_snooping 0; ip link set "
        "skiff0 up; "
        "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 "
        "net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.skiff0.send_redirects=0; "
        "ip addr add 10.244.1.1/32 dev skiff0; ip addr add fd42::1/128 dev skiff0 nodad");
    // Counts what comes the long way.
    node_->Shell(
        "nft 'add table inet witness; add chain inet witness forward "
        "{ type filter hook forward priority 100; }; add rule inet witness forward counter'");
    left_ = AddPod("left", 2);
    right_ = AddPod("right", 3);
    spec_ = {.links = {"skiff0"}, .ranges = {Prefix("10.244.0.0/16"), Prefix("fd42::/48")}};
    Write();
  }

  std::unique_ptr<test::TestNode> AddPod(const std::string& name, int number) {
    auto pod = test::TestNode::Make(name);
    const std::string n = std::to_string(number), v4 = "10.244.1." + n, v6 = "fd42::" + n;
    Connect(*node_, {}, *pod, {v4 + "/32", v6 + "/128"});
    // As the pod network has it: a MAC that follows from the address.
    pod->Shell(
        "sysctl -qw net.ipv6.conf.node.accept_redirects=0; ip link set node address "
        "0a:58:0a:f4:01:0" +
        n +
        "; ip route add 10.244.1.1 dev node; "
        "ip route add default via 10.244.1.1; ip -6 route add fd42::1 dev node; "
        "ip -6 route add default via fd42::1");
    node_->Shell("ip link set " + name + " master skiff0; ip route replace " + v4 +
                 "/32 dev skiff0; ip -6 route replace " + v6 + "/128 dev skiff0");
    return pod;
  }
  void Write() {
    node_->Run([&] {
      auto written = nft_.Commit(PlanFlowTable(spec_));
      EXPECT_TRUE(written.ok()) << written.error().message();
    });
  }

  bool v4() const { return GetParam() == net::IpFamily::kV4; }
  net::IpAddress PodAddress(int number) const {
    return Address((v4() ? "10.244.1." : "fd42::") + std::to_string(number));
  }
  const char* nft_family() const { return v4() ? "ip" : "ip6"; }

  UniqueFd Listen(test::TestNode& pod) {
    UniqueFd socket_fd;
    pod.Run([&] {
      socket_fd.Reset(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
      int on = 1;
      setsockopt(socket_fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
      net::SocketAddress any(net::Endpoint{Address("::"), kEchoPort});
      EXPECT_EQ(bind(socket_fd.get(), any.get(), any.size()), 0);
      EXPECT_EQ(listen(socket_fd.get(), 8), 0);
    });
    SetWait(socket_fd.get(), kEchoWait);
    return socket_fd;
  }
  // From the left pod to the address, where the listener is behind it.
  Connection Connected(const UniqueFd& listener, const net::IpAddress& address,
                       const timeval& wait = kEchoWait) {
    Connection connection;
    left_->Run([&] {
      UniqueFd client(socket(v4() ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
      SetWait(client.get(), wait);
      net::SocketAddress there(net::Endpoint{address, kEchoPort});
      if (connect(client.get(), there.get(), there.size()) == 0)
        connection.client = std::move(client);
    });
    if (!connection.client.valid()) return connection;
    connection.server.Reset(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    SetWait(connection.server.get(), kEchoWait);
    return connection;
  }

  // Packets that came the long way so far.
  long LongWay() {
    std::string text = node_->Shell("nft list chain inet witness forward");
    return std::stol(text.substr(text.find("packets ") + 8));
  }

  // Whether messages come to pass without one packet on the long way. A neighbour or an address
  // that changes sends a connection back to it, for a second at most.
  bool TakesTheShortWay(Connection& connection) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (std::chrono::steady_clock::now() < deadline) {
      const long before = LongWay();
      if (!connection.Exchanges(kExchanges)) return false;
      if (LongWay() == before) return true;
    }
    return false;
  }

  std::unique_ptr<test::TestNode> node_, left_, right_;
  FlowTableSpec spec_;
  net::SystemNft nft_;
};

TEST_P(FlowTableKernelTest, EstablishedConnectionsTakeIt) {
  UniqueFd listener = Listen(*right_);
  Connection connection = Connected(listener, PodAddress(3));
  ASSERT_TRUE(connection.ok());
  EXPECT_TRUE(TakesTheShortWay(connection));
  EXPECT_TRUE(connection.Exchange(4 << 20)) << "in large segments";
  // It ends on the long way.
  const long before = LongWay();
  EXPECT_EQ(shutdown(connection.client.get(), SHUT_WR), 0);
  EXPECT_EQ(Receive(connection.server.get(), 1), "");
  EXPECT_GT(LongWay(), before);
  connection.server.Reset();
  EXPECT_EQ(Receive(connection.client.get(), 1), "");
}

TEST_P(FlowTableKernelTest, ItComesAndGoesUnderConnections) {
  UniqueFd listener = Listen(*right_);
  Connection connection = Connected(listener, PodAddress(3));
  ASSERT_TRUE(connection.ok());
  EXPECT_TRUE(TakesTheShortWay(connection));
  node_->Run([&] { EXPECT_TRUE(RemoveFlowTable(nft_).ok()); });
  long before = LongWay();
  EXPECT_TRUE(connection.Exchanges(kExchanges));
  EXPECT_GE(LongWay(), before + 2 * kExchanges);
  Write();
  EXPECT_TRUE(TakesTheShortWay(connection));
}

TEST_P(FlowTableKernelTest, TranslatedConnectionsTakeIt) {
  const char* vip = v4() ? "10.202.0.1" : "fd43::1";
  node_->Shell(
      std::string("nft 'add table inet translate; add chain inet translate pre { type nat hook "
                  "prerouting priority -105; }; add rule inet translate pre ") +
      nft_family() + " daddr " + vip + " dnat " + nft_family() + " to " + PodAddress(3).ToString() +
      "'");
  UniqueFd listener = Listen(*right_);
  Connection connection = Connected(listener, Address(vip));
  ASSERT_TRUE(connection.ok());
  EXPECT_TRUE(TakesTheShortWay(connection));
  EXPECT_TRUE(connection.Exchange(1 << 20));
}

TEST_P(FlowTableKernelTest, APolicyThatComesHoldsForNewConnections) {
  UniqueFd listener = Listen(*right_);
  Connection connection = Connected(listener, PodAddress(3));
  ASSERT_TRUE(connection.ok());
  EXPECT_TRUE(TakesTheShortWay(connection));
  // As agent/policy/plan.h has it.
  node_->Shell(
      "nft 'add table inet rules; add chain inet rules forward { type filter hook forward "
      "priority 11; }; add rule inet rules forward ct state established,related accept; "
      "add rule inet rules forward drop'");
  EXPECT_TRUE(connection.Exchanges(kExchanges)) << "what exists goes on, as it does without";
  EXPECT_FALSE(Connected(listener, PodAddress(3), kShortEchoWait).ok());
  node_->Shell("nft delete table inet rules");
  EXPECT_TRUE(Connected(listener, PodAddress(3)).ok());
}

TEST_P(FlowTableKernelTest, DatagramsStayOnTheLongWay) {
  test::EchoServer server(right_->netns(), test::Transport::kUdp, Address("::"), kEchoPort,
                          "right");
  long before = 0;
  left_->Run([&] {
    for (int i = 0; i < kExchanges; ++i) {
      if (i == 3) before = LongWay();
      EXPECT_EQ(
          test::Ask(test::Transport::kUdp, PodAddress(3), kEchoPort, std::chrono::seconds(5), 4242)
              .server,
          "right");
    }
  });
  EXPECT_GE(LongWay(), before + 2 * (kExchanges - 3));
}

TEST_P(FlowTableKernelTest, AnAddressUsedAgainIsTheNextPods) {
  UniqueFd listener = Listen(*right_);
  Connection old = Connected(listener, PodAddress(3));
  ASSERT_TRUE(old.ok());
  EXPECT_TRUE(TakesTheShortWay(old));
  // Gone with its link before it could say a word.
  node_->Shell("ip link del right");
  auto next = AddPod("next", 3);
  UniqueFd its_listener = Listen(*next);
  // It knows nothing of the connection, and says so.
  ASSERT_EQ(send(old.client.get(), "x", 1, MSG_NOSIGNAL), 1);
  char byte = 0;
  EXPECT_EQ(recv(old.client.get(), &byte, 1, 0), -1);
  EXPECT_EQ(errno, ECONNRESET);
  Connection now = Connected(its_listener, PodAddress(3));
  ASSERT_TRUE(now.ok());
  EXPECT_TRUE(TakesTheShortWay(now));
}

TEST_P(FlowTableKernelTest, ARouteThatChangesHoldsAtOnce) {
  UniqueFd listener = Listen(*right_);
  Connection connection = Connected(listener, PodAddress(3));
  ASSERT_TRUE(connection.ok());
  EXPECT_TRUE(TakesTheShortWay(connection));
  const std::string route = (v4() ? "ip route" : "ip -6 route"), to = PodAddress(3).ToString();
  node_->Shell(route + " del " + to + "; " + route + " add blackhole " + to);
  SetWait(connection.server.get(), kShortEchoWait);
  ASSERT_EQ(send(connection.client.get(), "x", 1, MSG_NOSIGNAL), 1);
  EXPECT_EQ(Receive(connection.server.get(), 1), "");
  node_->Shell(route + " del blackhole " + to + "; " + route + " add " + to + " dev skiff0");
  SetWait(connection.server.get(), {.tv_sec = 20, .tv_usec = 0});  // the sender tries again
  EXPECT_EQ(Receive(connection.server.get(), 1), "x");
  EXPECT_TRUE(connection.Exchanges(kExchanges));
}

TEST_P(FlowTableKernelTest, LinksThatGoAreForgotten) {
  node_->Shell(
      "ip link add over type veth peer name there; ip link set over up; ip link set there up; "
      "ip route add 10.244.2.0/24 dev over proto 83");
  std::vector<std::string> links;
  auto observe = [&] {
    node_->Run([&] {
      net::Rtnl rtnl = net::Rtnl::Open().value();
      links = ObserveFlowLinks(rtnl, "skiff0").value();
    });
  };
  auto devices = [&] {
    std::vector<net::nft::Flowtable> tables;
    node_->Run([&] { tables = nft_.ListFlowtables(FlowsTable()).value(); });
    return tables.empty() ? std::vector<std::string>() : tables[0].devices;
  };
  observe();
  EXPECT_THAT(links, ElementsAre("over", "skiff0"));
  spec_.links = links;
  Write();
  EXPECT_THAT(devices(), ElementsAre("over", "skiff0"));
  node_->Shell("ip link del over");
  EXPECT_THAT(devices(), ElementsAre("skiff0")) << "by the kernel";
  observe();
  EXPECT_THAT(links, ElementsAre("skiff0"));
  // nft(8) lists it, and what the check made is not there.
  node_->Run([&] { EXPECT_TRUE(CheckFlowTables(nft_).ok()); });
  EXPECT_THAT(node_->Shell("nft list ruleset"), ::testing::HasSubstr("flow add @pods"));
  node_->Run([&] { EXPECT_TRUE(RemoveFlowTable(nft_).ok()); });
  EXPECT_THAT(devices(), IsEmpty());
  EXPECT_THAT(node_->Shell("nft list tables"), ::testing::Not(::testing::HasSubstr("skiff-flows")));
}

INSTANTIATE_TEST_SUITE_P(Families, FlowTableKernelTest,
                         ::testing::Values(net::IpFamily::kV4, net::IpFamily::kV6),
                         [](const auto& param_info) {
                           return param_info.param == net::IpFamily::kV4 ? "IPv4" : "IPv6";
                         });

}  // namespace
}  // namespace skiff::cni
