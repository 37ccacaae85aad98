// A node whose packet filter forwards nothing by itself, as docker leaves it, and whose pods'
// network is not ours: Services and pods work all the same.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <tuple>

#include "agent/proxy/proxy.h"
#include "agent/proxy/testing.h"
#include "base/net/conntrack.h"
#include "base/net/iptables.h"
#include "base/net/nft.h"
#include "cni/pod_forwarding.h"
#include "cni/test_addresses.h"
#include "tests/support/needs.h"
#include "tests/support/netns.h"
#include "tests/support/traffic.h"

namespace skiff::agent::proxy {
namespace {

using test::EchoServer;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr auto kOverTcp = test::Transport::kTcp;
constexpr uint16_t kPodPort = 8080;

//   outside 10.200.0.2 --- 10.200.0.1 node 10.210.0.1 --- 10.210.0.2 far, with the pod 10.201.2.2
//                                     | 10.201.1.1
//                                     pod 10.201.1.2
class ForwardingTest : public ::testing::TestWithParam<Mode> {
 protected:
  void SetUp() override {
    SKIFF_NEEDS(test::Need::kRoot, test::Need::kIptables, test::Need::kIpv6, test::Need::kConntrack,
                test::Need::kNftables);
    std::tie(node_, outside_) = test::MakeNodeAndOutside();
    far_ = test::TestNode::Make("far");
    pod_ = test::TestNode::Make("pod");
    Cable();
    node_->Shell(
        "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1;"
        "iptables -P FORWARD DROP; ip6tables -P FORWARD DROP");
    const auto any = net::IpAddress::Parse("::").value();
    servers_.push_back(std::make_unique<EchoServer>(far_->netns(), kOverTcp, any, kPodPort, "far"));
    servers_.push_back(
        std::make_unique<EchoServer>(outside_->netns(), kOverTcp, any, kPodPort, "outside"));
    node_->Run([this] {
      iptables_ = net::SystemIptables::Open().value();
      blocking_ = std::make_unique<ThreadPool>("blocking", 1);
      proxy_ = ServiceProxy::Start(
                   {.mode = GetParam(), .node_name = "node", .cluster_cidrs = cluster_cidrs_},
                   {*blocking_, *iptables_, conntrack_, &nft_})
                   .value();
      forwarding_ = std::make_unique<cni::PodForwarding>(*iptables_, *blocking_);
    });
    forwarding_->SetClusterCidrs(cluster_cidrs_);
    StartService();
  }
  void TearDown() override {
    if (!proxy_) return;
    proxy_.reset();
    forwarding_.reset();
    blocking_.reset();
    node_->Run([this] {
      EXPECT_TRUE(RemoveAllRules(*iptables_).ok());
      EXPECT_TRUE(RemoveAllRules(nft_).ok());
      EXPECT_TRUE(cni::RemovePodForwarding(*iptables_).ok());
    });
    EXPECT_THAT(Rules(), Not(HasSubstr("-j ACCEPT")));
  }

  void Cable() {
    Connect(*node_, {"10.210.0.1/24", "fd00:210::1/64"}, *far_,
            {"10.210.0.2/24", "fd00:210::2/64"});
    Connect(*node_, {"10.201.1.1/24", "fd00:201:1::1/64"}, *pod_,
            {"10.201.1.2/24", "fd00:201:1::2/64"});
    node_->Shell(
        "ip route add 10.201.2.2 via 10.210.0.2; ip route add fd00:201:2::2 via fd00:210::2");
    far_->Shell(
        "ip addr add 10.201.2.2/32 dev lo; ip addr add fd00:201:2::2/128 dev lo;"
        "ip route add default via 10.210.0.1; ip route add default via fd00:210::1");
    outside_->Shell("ip route add default via 10.200.0.1; ip route add default via fd00:200::1");
    pod_->Shell("ip route add default via 10.201.1.1; ip route add default via fd00:201:1::1");
  }
  // At 10.202.0.10, fd00:202::10 and the node port 30080, of the pod far away.
  void StartService() {
    auto service = testing::MakeService("web", "10.202.0.10", "TCP", "http", 80, 30080);
    service.mutable_spec()->add_cluster_ips("fd00:202::10");
    proxy_->SetService(service);
    proxy_->SetEndpointSlice(
        testing::MakeSlice("web", {{"10.201.2.2"}}, "TCP", "http", kPodPort, "4"));
    proxy_->SetEndpointSlice(
        testing::MakeSlice("web", {{"fd00:201:2::2"}}, "TCP", "http", kPodPort, "6"));
    proxy_->SyncDone();
    std::promise<void> synced;
    proxy_->WhenSynced([&] { synced.set_value(); });
    ASSERT_EQ(synced.get_future().wait_for(std::chrono::seconds(30)), std::future_status::ready);
  }
  std::string Asked(test::TestNode& from, const std::string& address, uint16_t port) {
    return AskFrom(from, kOverTcp, address, port).server;
  }
  // Over IPv6, whose rules are written last.
  bool Passes() {
    return AskFrom(*pod_, kOverTcp, "fd00:201:2::2", kPodPort, std::chrono::milliseconds(300))
               .server == "far";
  }
  // Whether pods come to pass, or do so no more, in the end.
  bool PassesInTheEnd(bool passes) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (Passes() != passes && std::chrono::steady_clock::now() < deadline) {
    }
    return Passes();
  }
  std::string Rules() { return node_->Shell("iptables-save -t filter; ip6tables-save -t filter"); }

  const std::vector<net::IpPrefix> cluster_cidrs_{cni::Prefix("10.201.0.0/16"),
                                                  cni::Prefix("fd00:201::/32")};
  std::unique_ptr<test::TestNode> node_, outside_, far_, pod_;
  std::vector<std::unique_ptr<EchoServer>> servers_;
  net::SystemNft nft_;
  net::SystemConntrack conntrack_;
  std::unique_ptr<net::SystemIptables> iptables_;
  std::unique_ptr<ThreadPool> blocking_;
  std::unique_ptr<ServiceProxy> proxy_;
  std::unique_ptr<cni::PodForwarding> forwarding_;
};

INSTANTIATE_TEST_SUITE_P(Modes, ForwardingTest, ::testing::Values(Mode::kIptables, Mode::kNftables),
                         [](const auto& param_info) {
                           return param_info.param == Mode::kIptables ? "Iptables" : "Nftables";
                         });

TEST_P(ForwardingTest, PodsAndServicesPassANodeThatForwardsNothing) {
  ASSERT_FALSE(Passes()) << "the node forwards by itself";
  forwarding_->SetWanted(true);
  ASSERT_TRUE(PassesInTheEnd(true)) << Rules();
  for (const char* address : {"10.202.0.10", "fd00:202::10"}) {
    EXPECT_EQ(Asked(*pod_, address, 80), "far") << address;
    EXPECT_EQ(Asked(*outside_, address, 80), "far") << address;
  }
  for (const char* address : {"10.200.0.1", "fd00:200::1"}) {
    EXPECT_EQ(Asked(*outside_, address, 30080), "far") << address;
  }
  for (const char* address : {"10.200.0.2", "fd00:200::2"}) {
    EXPECT_EQ(Asked(*pod_, address, kPodPort), "outside") << address;
  }
  // What others refuse stays refused, and what is no pod's does not pass.
  node_->Shell("iptables -I FORWARD -s 10.201.1.2 -d 10.200.0.2 -j REJECT");
  EXPECT_EQ(Asked(*pod_, "10.200.0.2", kPodPort), "");
  EXPECT_EQ(
      AskFrom(*outside_, kOverTcp, "10.210.0.2", kPodPort, std::chrono::milliseconds(300)).server,
      "");
  // Another network comes that sees to it by itself.
  forwarding_->SetWanted(false);
  EXPECT_FALSE(PassesInTheEnd(false));
  EXPECT_THAT(Rules(), Not(HasSubstr("SKIFF-PODS")));
}

}  // namespace
}  // namespace skiff::agent::proxy
