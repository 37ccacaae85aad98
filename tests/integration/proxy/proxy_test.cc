// ServiceProxy with BridgeNetwork on the real kernel: pods behind VIPs, asked from pods, the node
// and outside.
#include "agent/proxy/proxy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <iostream>
#include <set>
#include <tuple>

#include "agent/proxy/testing.h"
#include "base/net/conntrack.h"
#include "base/net/iptables.h"
#include "base/net/nft.h"
#include "base/os/files.h"
#include "tests/support/needs.h"
#include "tests/support/netns.h"
#include "tests/support/pod_node.h"
#include "tests/support/traffic.h"

namespace skiff::agent::proxy {
namespace {

using test::AskFrom;
using test::EchoServer;
using test::TestNetns;
using test::TestNode;
using testing::EndpointSpec;
using ::testing::HasSubstr;
using testing::MakeService;
using testing::MakeSlice;
using ::testing::Not;
constexpr auto kTcp = test::Transport::kTcp;
constexpr auto kUdp = test::Transport::kUdp;
constexpr auto kShort = std::chrono::milliseconds(400);

net::IpPrefix Prefix(std::string_view text) { return net::IpPrefix::Parse(text).value(); }

class ProxyKernelTest : public ::testing::TestWithParam<Mode> {
 protected:
  void SetUp() override {
    SKIFF_NEEDS(test::Need::kRoot, test::Need::kIptables, test::Need::kIpv6, test::Need::kConntrack,
                test::Need::kNftables);
    std::tie(node_, outside_) = test::MakeNodeAndOutside();
    outside_->Shell("ip route add 10.202.0.0/16 via 10.200.0.1");
    outside_->Shell("ip route add fd00:202::/64 via fd00:200::1");
    on_node_ = std::make_unique<test::PodNode>(
        *node_, std::vector{Prefix("10.201.1.0/24"), Prefix("fd00:201:1::/64")}, cluster_cidrs_);
    Start();
    proxy_->SyncDone();
    WaitSynced();
  }
  void TearDown() override {
    if (!proxy_) return;
    proxy_.reset();
    on_node_->Close([this] {
      EXPECT_TRUE(RemoveAllRules(on_node_->iptables()).ok());
      EXPECT_TRUE(RemoveAllRules(on_node_->nft()).ok());
    });
  }

  void Start() {
    proxy_.reset();
    node_->Run([this] {
      Config config{.mode = GetParam(), .node_name = "this-node", .cluster_cidrs = cluster_cidrs_};
      proxy_ = ServiceProxy::Start(config, {on_node_->blocking(), on_node_->iptables(),
                                            on_node_->conntrack(), &on_node_->nft()})
                   .value();
    });
  }
  void WaitSynced() {
    std::promise<void> synced;
    proxy_->WhenSynced([&] { synced.set_value(); });
    ASSERT_EQ(synced.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready)
        << (proxy_->GetStatus().last_error ? proxy_->GetStatus().last_error->message() : "");
  }

  struct Pod : test::AttachedPod {
    std::vector<std::unique_ptr<EchoServer>> servers;
  };
  // A pod that answers on TCP 8080 and UDP 5353 with its name.
  Pod& AddPod(const std::string& name) {
    auto pod = std::make_unique<Pod>(Pod{on_node_->Attach(name), {}});
    net::IpAddress any = net::IpAddress::Parse("::").value();
    pod->servers.push_back(
        std::make_unique<EchoServer>(pod->netns->netns(), kTcp, any, 8080, name));
    pod->servers.push_back(
        std::make_unique<EchoServer>(pod->netns->netns(), kUdp, any, 5353, name));
    return *pods_.emplace_back(std::move(pod));
  }
  static EndpointSpec Here(const std::string& address) { return {address, "this-node"}; }
  // Which servers answer within so many connections.
  template <class From>
  std::set<std::string> Servers(From& from, const std::string& address, uint16_t port,
                                int asks = 30, test::Transport transport = kTcp) {
    std::set<std::string> servers;
    for (int i = 0; i < asks; ++i) servers.insert(AskFrom(from, transport, address, port).server);
    return servers;
  }
  std::string Rules() { return on_node_->Rules(); }

  const std::vector<net::IpPrefix> cluster_cidrs_{Prefix("10.201.0.0/16"), Prefix("fd00:201::/32")};
  std::unique_ptr<TestNode> node_, outside_;
  std::unique_ptr<test::PodNode> on_node_;
  std::unique_ptr<ServiceProxy> proxy_;
  std::vector<std::unique_ptr<Pod>> pods_;
};

using Set = std::set<std::string>;

INSTANTIATE_TEST_SUITE_P(Modes, ProxyKernelTest,
                         ::testing::Values(Mode::kIptables, Mode::kNftables),
                         [](const auto& param_info) {
                           return param_info.param == Mode::kIptables ? "Iptables" : "Nftables";
                         });

class IptablesModeTest : public ProxyKernelTest {};
INSTANTIATE_TEST_SUITE_P(Mode, IptablesModeTest, ::testing::Values(Mode::kIptables));

TEST_P(ProxyKernelTest, AVipReachesEveryPodFromEverywhere) {
  Pod &a = AddPod("a"), &b = AddPod("b"), &c = AddPod("c");
  auto service = MakeService("web", "10.202.0.10", "TCP", "http", 80, 30080);
  service.mutable_spec()->add_cluster_ips("fd00:202::10");
  proxy_->SetService(service);
  // Of c nobody says where it is, as in slices made by hand.
  proxy_->SetEndpointSlice(
      MakeSlice("web", {Here(a.v4), Here(b.v4), {c.v4, ""}}, "TCP", "http", 8080));
  proxy_->SetEndpointSlice(
      MakeSlice("web", {Here(a.v6), Here(b.v6), {c.v6, ""}}, "TCP", "http", 8080, "v6"));
  WaitSynced();
  Set all{"a", "b", "c"};
  for (const char* bridged : {"1", "0"}) {
    // From a pod that is one of the endpoints: hairpin included.
    if (test::Missing(test::Need::kBrNetfilter).empty()) {
      node_->Shell(std::string("sysctl -qw net.bridge.bridge-nf-call-iptables=") + bridged);
    }
    for (const Pod* pod : {&a, &c}) {
      EXPECT_EQ(Servers(*pod->netns, "10.202.0.10", 80), all) << "bridged " << bridged;
    }
  }
  EXPECT_EQ(Servers(*a.netns, "fd00:202::10", 80), all);
  EXPECT_EQ(Servers(*node_, "10.202.0.10", 80), all);
  EXPECT_EQ(Servers(*node_, "10.200.0.1", 30080), all);
  EXPECT_EQ(Servers(*node_, "127.0.0.1", 30080), all);
  EXPECT_EQ(Servers(*outside_, "10.200.0.1", 30080), all);
  EXPECT_EQ(Servers(*outside_, "fd00:200::1", 30080), all);
  EXPECT_EQ(Servers(*outside_, "10.202.0.10", 80), all);
  // Pods see each other; who comes from outside is masqueraded so that answers pass here again.
  for (int i = 0; i < 10; ++i) {
    auto answer = AskFrom(*a.netns, kTcp, "10.202.0.10", 80);
    if (answer.server != "a") {
      EXPECT_THAT(answer.peer, HasSubstr(a.v4));
    }
  }
  EXPECT_THAT(AskFrom(*outside_, kTcp, "10.200.0.1", 30080).peer, HasSubstr("10.201.1.1"));
}

TEST_P(ProxyKernelTest, RefusesWithoutEndpoints) {
  auto service = MakeService("web", "10.202.0.10", "TCP", "http", 80, 30080);
  service.mutable_spec()->add_cluster_ips("fd00:202::10");
  proxy_->SetService(service);
  WaitSynced();
  Pod& a = AddPod("a");
  EXPECT_EQ(AskFrom(*a.netns, kTcp, "10.202.0.10", 80).error, ECONNREFUSED);
  EXPECT_EQ(AskFrom(*a.netns, kTcp, "fd00:202::10", 80).error, ECONNREFUSED);
  EXPECT_EQ(AskFrom(*node_, kTcp, "10.202.0.10", 80).error, ECONNREFUSED);
  EXPECT_EQ(AskFrom(*outside_, kTcp, "10.200.0.1", 30080).error, ECONNREFUSED);
  proxy_->SetEndpointSlice(MakeSlice("web", {{a.v4}}, "TCP", "http", 8080));
  WaitSynced();
  EXPECT_EQ(AskFrom(*node_, kTcp, "10.202.0.10", 80).server, "a");
  EXPECT_EQ(AskFrom(*outside_, kTcp, "10.200.0.1", 30080).server, "a");
}

TEST_P(ProxyKernelTest, LocalPolicies) {
  Pod& a = AddPod("a");
  Pod& far = AddPod("far");
  auto service = MakeService("web", "10.202.0.10", "TCP", "http", 80, 30080);
  service.mutable_spec()->set_external_traffic_policy("Local");
  proxy_->SetService(service);
  proxy_->SetEndpointSlice(
      MakeSlice("web", {{a.v4, "this-node"}, {far.v4, "other-node"}}, "TCP", "http", 8080));
  WaitSynced();
  EXPECT_EQ(Servers(*outside_, "10.200.0.1", 30080), Set{"a"});
  EXPECT_THAT(AskFrom(*outside_, kTcp, "10.200.0.1", 30080).peer, HasSubstr("10.200.0.2"))
      << "the client's address is kept";
  EXPECT_EQ(Servers(*a.netns, "10.200.0.1", 30080), (Set{"a", "far"})) << "pods are no outsiders";
  service.mutable_spec()->set_internal_traffic_policy("Local");
  proxy_->SetService(service);
  WaitSynced();
  EXPECT_EQ(Servers(*far.netns, "10.202.0.10", 80), Set{"a"});
  proxy_->SetEndpointSlice(MakeSlice("web", {{far.v4, "other-node"}}, "TCP", "http", 8080));
  WaitSynced();
  EXPECT_EQ(AskFrom(*outside_, kTcp, "10.200.0.1", 30080, kShort).error, ETIMEDOUT);
  EXPECT_EQ(AskFrom(*node_, kTcp, "10.202.0.10", 80, kShort).error, ETIMEDOUT);
}

TEST_P(ProxyKernelTest, ExternalAddressesAndSourceRanges) {
  Pod &a = AddPod("a"), &b = AddPod("b");
  outside_->Shell("ip route add 203.0.113.0/24 via 10.200.0.1");
  // What is refused would go back where it came from; a redirect uses up the refusal's allowance.
  node_->Shell(
      "sysctl -qw net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.outside.send_redirects=0");
  outside_->Shell("ip route add 2001:db8::/64 via fd00:200::1");
  auto service = MakeService("web", "10.202.0.10", "TCP", "http", 80);
  auto& spec = *service.mutable_spec();
  spec.set_type("LoadBalancer");
  spec.add_external_ips("203.0.113.7");
  for (const char* address : {"203.0.113.10", "2001:db8::10"}) {
    service.mutable_status()->mutable_load_balancer()->add_ingress()->set_ip(address);
  }
  proxy_->SetService(service);
  proxy_->SetEndpointSlice(MakeSlice("web", {{a.v4}, {b.v4}}, "TCP", "http", 8080));
  proxy_->SetEndpointSlice(MakeSlice("web", {{a.v6}}, "TCP", "http", 8080, "v6"));
  WaitSynced();
  EXPECT_EQ(Servers(*outside_, "203.0.113.7", 80), (Set{"a", "b"}));
  EXPECT_EQ(Servers(*outside_, "203.0.113.10", 80), (Set{"a", "b"}));
  EXPECT_EQ(AskFrom(*outside_, kTcp, "2001:db8::10", 80).server, "a");
  spec.add_load_balancer_source_ranges("10.200.0.0/24");
  proxy_->SetService(service);
  WaitSynced();
  EXPECT_EQ(AskFrom(*outside_, kTcp, "203.0.113.10", 80).server.empty(), false);
  EXPECT_EQ(AskFrom(*outside_, kTcp, "2001:db8::10", 80, kShort).error, ETIMEDOUT)
      << "ranges of one family close the other";
  EXPECT_EQ(AskFrom(*a.netns, kTcp, "203.0.113.10", 80, kShort).error, ETIMEDOUT);
  spec.set_load_balancer_source_ranges(0, "192.0.2.0/28");
  spec.add_load_balancer_source_ranges("fd00:200::2/128");
  proxy_->SetService(service);
  WaitSynced();
  EXPECT_EQ(AskFrom(*outside_, kTcp, "203.0.113.10", 80, kShort).error, ETIMEDOUT);
  EXPECT_EQ(AskFrom(*outside_, kTcp, "2001:db8::10", 80).server, "a");
  EXPECT_EQ(Servers(*outside_, "203.0.113.7", 80), (Set{"a", "b"})) << "not for external IPs";
  proxy_->DeleteEndpointSlice("ns1", "web-1");
  WaitSynced();
  EXPECT_EQ(AskFrom(*outside_, kTcp, "203.0.113.7", 80).error, ECONNREFUSED);
}

TEST_P(ProxyKernelTest, SessionAffinity) {
  std::vector<EndpointSpec> endpoints;
  for (const char* name : {"a", "b", "c", "d"}) endpoints.push_back({AddPod(name).v4});
  auto service = MakeService("web", "10.202.0.10", "TCP", "http", 80);
  service.mutable_spec()->set_session_affinity("ClientIP");
  service.mutable_spec()
      ->mutable_session_affinity_config()
      ->mutable_client_ip()
      ->set_timeout_seconds(30);
  proxy_->SetService(service);
  proxy_->SetEndpointSlice(MakeSlice("web", endpoints, "TCP", "http", 8080));
  WaitSynced();
  Set first = Servers(*node_, "10.202.0.10", 80);
  EXPECT_EQ(first.size(), 1u);
  // Kept over a change of other endpoints and over a restart of the proxy.
  std::erase_if(endpoints, [&](const EndpointSpec& endpoint) {
    return std::any_of(pods_.begin(), pods_.end(), [&](const auto& pod) {
      return pod->v4 == endpoint.address && pod->name == (first.contains("a") ? "b" : "a");
    });
  });
  proxy_->SetEndpointSlice(MakeSlice("web", endpoints, "TCP", "http", 8080));
  WaitSynced();
  EXPECT_EQ(Servers(*node_, "10.202.0.10", 80), first);
  Start();
  proxy_->SetService(service);
  proxy_->SetEndpointSlice(MakeSlice("web", endpoints, "TCP", "http", 8080));
  proxy_->SyncDone();
  WaitSynced();
  EXPECT_EQ(Servers(*node_, "10.202.0.10", 80), first);
}

TEST_P(ProxyKernelTest, UdpClientsMoveToTheEndpointsThatAreLeft) {
  Pod &a = AddPod("a"), &b = AddPod("b");
  proxy_->SetService(MakeService("dns", "10.202.0.53", "UDP", "dns", 53, 30053));
  proxy_->SetEndpointSlice(MakeSlice("dns", {{a.v4}}, "UDP", "dns", 5353));
  WaitSynced();
  // One socket each, so that the connection lives on.
  auto ask = [](const std::string& address, uint16_t port) {
    return test::Ask(kUdp, net::IpAddress::Parse(address).value(), port, kShort, 41000).server;
  };
  std::string vip, node_port;
  auto ask_both = [&] {
    node_->Run([&] { vip = ask("10.202.0.53", 53); });
    outside_->Run([&] { node_port = ask("10.200.0.1", 30053); });
  };
  ask_both();
  EXPECT_EQ(vip, "a");
  EXPECT_EQ(node_port, "a");
  proxy_->SetEndpointSlice(MakeSlice("dns", {{b.v4}}, "UDP", "dns", 5353));
  WaitSynced();
  ask_both();
  EXPECT_EQ(vip, "b");
  EXPECT_EQ(node_port, "b");
  EXPECT_GE(proxy_->GetStatus().stale_flows_deleted, 2u);
  // While nobody listens to changes.
  Start();
  proxy_->SetService(MakeService("dns", "10.202.0.53", "UDP", "dns", 53, 30053));
  proxy_->SetEndpointSlice(MakeSlice("dns", {{a.v4}}, "UDP", "dns", 5353));
  proxy_->SyncDone();
  WaitSynced();
  ask_both();
  EXPECT_EQ(vip, "a");
  EXPECT_EQ(node_port, "a");
}

TEST_P(ProxyKernelTest, NoConnectionFailsWhileEndpointsChangeAndTheProxyRestarts) {
  Pod &a = AddPod("a"), &b = AddPod("b");
  proxy_->SetService(MakeService("web", "10.202.0.10", "TCP", "http", 80));
  proxy_->SetEndpointSlice(MakeSlice("web", {{a.v4}}, "TCP", "http", 8080));
  WaitSynced();
  std::atomic<bool> stop = false;
  std::atomic<int> asked = 0, failed = 0;
  std::thread load([&] {
    auto scope = net::NetnsScope::Enter(node_->netns()).value();
    while (!stop) {
      auto answer = test::Ask(kTcp, net::IpAddress::V4(10, 202, 0, 10), 80);
      ++asked;
      if (answer.server.empty()) ++failed;
    }
  });
  for (int i = 0; i < 20; ++i) {
    // A rolling change: the new one joins before the old one leaves.
    proxy_->SetEndpointSlice(MakeSlice("web", {{a.v4}, {b.v4}}, "TCP", "http", 8080));
    WaitSynced();
    proxy_->SetEndpointSlice(MakeSlice("web", {{i % 2 ? a.v4 : b.v4}}, "TCP", "http", 8080));
    WaitSynced();
    if (i % 5 != 0) continue;
    Start();
    proxy_->SetService(MakeService("web", "10.202.0.10", "TCP", "http", 80));
    proxy_->SetEndpointSlice(MakeSlice("web", {{i % 2 ? a.v4 : b.v4}}, "TCP", "http", 8080));
    proxy_->SyncDone();
    WaitSynced();
  }
  stop = true;
  load.join();
  EXPECT_GT(asked, 50);
  EXPECT_EQ(failed, 0);
}

TEST_P(IptablesModeTest, RulesAreInTheFormTheyWereWrittenIn) {
  // What iptables-save shows is what was planned, so that people and tools find kube-proxy's rules.
  proxy_->SetService(MakeService("web", "10.202.0.10", "TCP", "http", 80, 30080));
  proxy_->SetEndpointSlice(
      MakeSlice("web", {Here("10.201.1.2"), {"10.201.2.2"}}, "TCP", "http", 8080));
  WaitSynced();
  std::string rules = Rules();
  for (const char* rule :
       {"-A KUBE-SERVICES -d 10.202.0.10/32 -p tcp -m comment --comment \"ns1/web:http cluster "
        "IP\" "
        "-m tcp --dport 80 -j KUBE-SVC-",
        "-A KUBE-NODEPORTS -p tcp -m comment --comment \"ns1/web:http\" -m tcp --dport 30080 "
        "-j KUBE-EXT-",
        "-p tcp -m comment --comment \"ns1/web:http\" -m tcp -j DNAT --to-destination "
        "10.201.1.2:8080\n",
        "-p tcp -m comment --comment \"ns1/web:http -> 10.201.2.2:8080\" -j DNAT "
        "--to-destination 10.201.2.2:8080\n",
        "-A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" "
        "-j MASQUERADE --random-fully\n",
        "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n"}) {
    EXPECT_THAT(rules, HasSubstr(rule));
  }
  proxy_->DeleteService("ns1", "web");
  WaitSynced();
  EXPECT_THAT(Rules(), Not(HasSubstr("ns1/web")));
  EXPECT_EQ(proxy_->GetStatus().full_syncs, 1u) << "single rules were found again and deleted";
}

TEST_P(ProxyKernelTest, ThousandServices) {
  for (int i = 0; i < 1000; ++i) {
    std::string name = "svc" + std::to_string(i);
    std::string ip = "10.202." + std::to_string(i / 250 + 1) + "." + std::to_string(i % 250 + 1);
    proxy_->SetService(MakeService(name, ip, "TCP", "http", 80));
    proxy_->SetEndpointSlice(
        MakeSlice(name, {{"10.201.7.7"}, {"10.201.7.8"}}, "TCP", "http", 8080));
  }
  WaitSynced();
  auto first = proxy_->GetStatus().last_duration;
  Pod& a = AddPod("a");
  proxy_->SetService(MakeService("web", "10.202.0.10", "TCP", "http", 80));
  proxy_->SetEndpointSlice(MakeSlice("web", {{a.v4}}, "TCP", "http", 8080));
  WaitSynced();
  auto added = proxy_->GetStatus().last_duration;
  EXPECT_EQ(AskFrom(*node_, kTcp, "10.202.0.10", 80).server, "a");
  proxy_->DeleteService("ns1", "web");
  WaitSynced();
  auto removed = proxy_->GetStatus().last_duration;
  std::cout << "1000 services: all " << first.count() / 1000000 << " ms, one added "
            << added.count() / 1000000 << " ms, one removed " << removed.count() / 1000000
            << " ms, rules " << proxy_->GetStatus().rules << "\n";
  EXPECT_EQ(proxy_->GetStatus().full_syncs, 1u);
}

}  // namespace
}  // namespace skiff::agent::proxy
