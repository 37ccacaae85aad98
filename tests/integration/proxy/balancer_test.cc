// The addresses of load balancers on the kernel: which machine of a network answers for them, what
// is reached there, and what is left when they go.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>

#include "agent/proxy/balancer_addresses.h"
#include "agent/proxy/testing.h"
#include "base/net/iptables.h"
#include "tests/support/needs.h"
#include "tests/support/netns.h"
#include "tests/support/traffic.h"

namespace skiff::agent::proxy {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kAddress4[] = "192.0.2.10", kAddress6[] = "2001:db8::10";

// Two nodes and a client on one Ethernet.
class BalancerKernelTest : public ::testing::Test {
 protected:
  struct Node {
    std::unique_ptr<test::TestNode> machine;
    std::unique_ptr<net::SystemIptables> iptables;
    std::unique_ptr<ThreadPool> blocking;
    std::unique_ptr<BalancerAddresses> balancers;
  };

  void SetUp() override {
    SKIFF_NEEDS(test::Need::kRoot, test::Need::kIptables, test::Need::kIpv6);
    switch_ = test::TestNode::Make("switch");
    client_ = test::TestNode::Make("client");
    switch_->Shell("ip link add lan type bridge; ip link set lan up");
    Plug(*client_, "1");
    for (size_t i = 0; i < 2; ++i) {
      Node& node = nodes_[i];
      node.machine = test::TestNode::Make("n" + std::to_string(i + 1));
      Plug(*node.machine, std::to_string(i + 2));
      node.machine->Shell("sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv4.ip_forward=1");
      node.machine->Run([&] {
        node.iptables = net::SystemIptables::Open().value();
        node.blocking = std::make_unique<ThreadPool>("blocking", 1);
        node.balancers = std::make_unique<BalancerAddresses>(node.machine->name(), *node.blocking,
                                                             node.iptables.get());
      });
    }
  }
  void TearDown() override {
    for (Node& node : nodes_) {
      if (node.blocking) node.blocking->Stop();
      node.balancers.reset();
    }
  }
  void Plug(test::TestNode& machine, const std::string& last) {
    Connect(machine, {"192.0.2." + last + "/24", "2001:db8::" + last + "/64"}, *switch_, {});
    switch_->Shell("ip link set " + machine.name() + " master lan");
  }

  // Both nodes are told that this one answers; "" for none.
  void Announce(const std::string& node_name) {
    auto service = testing::MakeService("web", "10.96.0.10");
    service.mutable_spec()->set_type("LoadBalancer");
    (*service.mutable_metadata()->mutable_annotations())["skiff.dev/load-balancer-node"] =
        node_name;
    for (const char* address : {kAddress4, kAddress6}) {
      service.mutable_status()->mutable_load_balancer()->add_ingress()->set_ip(address);
    }
    for (Node& node : nodes_) {
      node.balancers->BeginReplace();
      node.balancers->SetService(service);
      node.balancers->SyncDone();
    }
  }
  static bool Eventually(const std::function<bool()>& condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
    }
    return true;
  }
  // Whether some node answers for the address: it then refuses what is for no Service.
  bool IsRefused(const char* address) {
    auto answer = AskFrom(*client_, test::Transport::kTcp, address, 9999, std::chrono::seconds(3));
    return answer.error == ECONNREFUSED;
  }
  // Whose MAC the client sends to.
  bool ClientKnows(const char* address, const Node& node) {
    std::string mac = node.machine->Shell("ip -br link show switch | awk '{print $3}'");
    mac.resize(mac.find_last_not_of('\n') + 1);
    return client_->Shell(std::string("ip neigh show ") + address).find(mac) != std::string::npos;
  }
  static std::string Traces(const Node& node) {
    return node.machine->Shell(
        "ip link; ip -6 neigh show proxy; iptables-save; ip6tables-save; ip addr");
  }

  std::unique_ptr<test::TestNode> switch_, client_;
  Node nodes_[2];
};

TEST_F(BalancerKernelTest, OneNodeAnswersAndAnotherTakesOver) {
  EXPECT_FALSE(IsRefused(kAddress4));
  Announce("n1");
  for (const char* address : {kAddress4, kAddress6}) {
    EXPECT_TRUE(Eventually([&] { return IsRefused(address); })) << address;
    EXPECT_TRUE(ClientKnows(address, nodes_[0])) << address;
  }
  Announce("n2");
  // The client is told, before what it knows grows old.
  for (const char* address : {kAddress4, kAddress6}) {
    EXPECT_TRUE(Eventually([&] { return ClientKnows(address, nodes_[1]); })) << address;
    EXPECT_TRUE(Eventually([&] { return IsRefused(address); })) << address;
  }
  EXPECT_TRUE(Eventually([&] { return Traces(nodes_[0]).find("skiff-lb") == std::string::npos; }));
  for (const char* trace : {kAddress4, kAddress6, "SKIFF-LB"}) {
    EXPECT_TRUE(Eventually([&] { return Traces(nodes_[0]).find(trace) == std::string::npos; }))
        << Traces(nodes_[0]);
  }
  Announce("");
  for (const char* trace : {kAddress4, kAddress6, "SKIFF-LB", "skiff-lb"}) {
    EXPECT_TRUE(Eventually([&] { return Traces(nodes_[1]).find(trace) == std::string::npos; }))
        << Traces(nodes_[1]);
  }
}

TEST_F(BalancerKernelTest, ProgramsOfTheNodeAreNotReachedThere) {
  test::EchoServer server(nodes_[0].machine->netns(), test::Transport::kTcp,
                          net::IpAddress::Parse("::").value(), 9999, "node");
  Announce("n1");
  EXPECT_TRUE(Eventually([&] { return IsRefused(kAddress4) && IsRefused(kAddress6); }));
  EXPECT_EQ(AskFrom(*client_, test::Transport::kTcp, "192.0.2.2", 9999).server, "node");
}

TEST_F(BalancerKernelTest, ARestartTakesAwayWhatIsNotAskedForAnyMore) {
  Announce("n1");
  ASSERT_TRUE(Eventually([&] { return IsRefused(kAddress4); }));
  Node& node = nodes_[0];
  node.machine->Run([&] {
    node.balancers = std::make_unique<BalancerAddresses>("n1", *node.blocking, node.iptables.get());
  });
  EXPECT_THAT(Traces(node), HasSubstr(kAddress4))
      << "nothing happens before the listing is complete";
  node.balancers->BeginReplace();
  node.balancers->SyncDone();
  EXPECT_TRUE(Eventually([&] { return Traces(node).find(kAddress4) == std::string::npos; }));
  EXPECT_THAT(Traces(node), Not(HasSubstr("skiff-lb")));
}

}  // namespace
}  // namespace skiff::agent::proxy
