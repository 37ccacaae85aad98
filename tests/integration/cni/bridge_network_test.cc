// BridgeNetwork on the real kernel: a node, an outside machine, pods; real TCP and UDP.
#include "cni/bridge_network.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <iostream>
#include <tuple>

#include "base/net/conntrack.h"
#include "base/net/iptables.h"
#include "base/net/rtnl.h"
#include "base/os/files.h"
#include "cni/leases.h"
#include "cni/test_addresses.h"
#include "tests/support/needs.h"
#include "tests/support/netns.h"
#include "tests/support/traffic.h"

namespace skiff::cni {
namespace {

using test::AskFrom;
using test::EchoServer;
using test::TestNetns;
using test::TestNode;
using test::Transport;
using ::testing::HasSubstr;
using ::testing::Not;

const net::IpAddress kAny4 = net::IpAddress();

// Passes calls on, but fails one of them, after it took effect or before.
class FailingIptables : public net::Iptables {
 public:
  explicit FailingIptables(net::Iptables& real) : real_(real) {}
  // The call with this number (from 0) fails; calls are counted anew.
  void FailCall(int number, bool after_effect) {
    fail_at_ = number;
    after_effect_ = after_effect;
    calls_ = 0;
  }
  int calls() const { return calls_; }

  Result<> Restore(net::IpFamily family, std::string_view payload) override {
    bool fails = calls_++ == fail_at_;
    if (!fails || after_effect_) {
      Result<> result = real_.Restore(family, payload);
      if (!fails || !result.ok()) return result;
    }
    return Error(Code::kUnavailable, "injected failure");
  }
  Result<std::string> Save(net::IpFamily family, std::string_view table) override {
    return real_.Save(family, table);
  }
  Result<bool> ChainExists(net::IpFamily family, std::string_view table,
                           std::string_view chain) override {
    return real_.ChainExists(family, table, chain);
  }
  Result<std::vector<std::string>> ListChain(net::IpFamily family, std::string_view table,
                                             std::string_view chain) override {
    return real_.ListChain(family, table, chain);
  }
  bool Supports(net::IpFamily family) const override { return real_.Supports(family); }

 private:
  net::Iptables& real_;
  int fail_at_ = -1, calls_ = 0;
  bool after_effect_ = false;
};

class BridgeNetworkTest : public ::testing::Test {
 protected:
  void SetUp() override {
    SKIFF_NEEDS(test::Need::kRoot, test::Need::kIptables, test::Need::kIpv6,
                test::Need::kConntrack);
    std::tie(node_, outside_) = test::MakeNodeAndOutside();
    node_->Run([this] { iptables_ = net::SystemIptables::Open().value(); });
    rules_before_ = Rules();
    links_before_ = Links();
    Open();
  }

  // A new daemon on the same state, as after a restart.
  void Open(const std::string& boot = "boot-1") {
    node_->Run([&] {
      BridgeConfig config{.state_dir = state_.path(), .boot_id = boot};
      network_ = BridgeNetwork::Open(config, *iptables_, conntrack_).value();
      auto set = network_->SetPodCidrs(cidrs_, cluster_cidrs_);
      ASSERT_TRUE(set.ok()) << set.error().ToString();
    });
  }

  struct Pod {
    std::string id;
    std::unique_ptr<TestNetns> netns;
    Attachment attachment;
    std::string v4() const {
      for (const PodAddress& address : attachment.addresses) {
        if (address.address.is_v4()) return address.address.ToString();
      }
      return "";
    }
    std::string v6() const {
      for (const PodAddress& address : attachment.addresses) {
        if (address.address.is_v6()) return address.address.ToString();
      }
      return "";
    }
  };
  AttachRequest RequestFor(const Pod& pod, std::vector<PortMapping> ports = {}) {
    return {.sandbox_id = pod.id,
            .netns_path = pod.netns->path(),
            .pod_namespace = "default",
            .pod_name = "pod-" + pod.id,
            .pod_uid = "uid-" + pod.id,
            .ports = std::move(ports)};
  }
  Pod Attach(const std::string& id, std::vector<PortMapping> ports = {}) {
    Pod pod{.id = id, .netns = TestNetns::Make()};
    node_->Run([&] {
      auto attachment = network_->Attach(RequestFor(pod, std::move(ports)));
      ASSERT_TRUE(attachment.ok()) << attachment.error().ToString();
      pod.attachment = *attachment;
    });
    return pod;
  }
  void Detach(const std::string& id) {
    node_->Run([&] {
      auto detached = network_->Detach(id);
      EXPECT_TRUE(detached.ok()) << detached.error().ToString();
    });
  }

  std::string Rules() {
    // Counters, dates and chain policies aside.
    return node_->Shell("(iptables-save; ip6tables-save) | grep '^-A' | sort");
  }
  std::string Links() { return node_->Shell("ip -o link | sed 's/^[0-9]*: //;s/[:@].*//' | sort"); }

  TempDir state_ = TempDir::Make().value();
  std::vector<net::IpPrefix> cidrs_ = {Prefix("10.201.1.0/24"), Prefix("fd00:201:1::/64")};
  std::vector<net::IpPrefix> cluster_cidrs_ = {Prefix("10.201.0.0/16"), Prefix("fd00:201::/32")};
  net::SystemConntrack conntrack_;
  std::unique_ptr<TestNode> node_, outside_;
  std::unique_ptr<net::SystemIptables> iptables_;
  std::unique_ptr<BridgeNetwork> network_;
  std::string rules_before_, links_before_;
};

TEST_F(BridgeNetworkTest, PodsReachEachOtherTheNodeAndTheOutside) {
  Pod a = Attach("a"), b = Attach("b");
  EXPECT_EQ(a.v4(), "10.201.1.2");
  EXPECT_EQ(b.v6(), "fd00:201:1::3");
  EXPECT_EQ(a.attachment.mtu, 1500u);
  EchoServer pod_b(b.netns->netns(), Transport::kTcp, Address("::"), 80, "b");
  EchoServer node(node_->netns(), Transport::kUdp, Address("::"), 53, "node");
  EchoServer outside(outside_->netns(), Transport::kTcp, Address("::"), 443, "outside");
  for (std::string own : {a.v4(), a.v6()}) {
    bool v4 = own == a.v4();
    auto answer = AskFrom(*a.netns, Transport::kTcp, v4 ? b.v4() : b.v6(), 80);
    EXPECT_EQ(answer.server, "b");
    EXPECT_THAT(answer.peer, HasSubstr(own)) << "pods see each other's addresses";
    answer = AskFrom(*node_, Transport::kTcp, v4 ? b.v4() : b.v6(), 80);
    EXPECT_THAT(answer.peer, HasSubstr(v4 ? "10.201.1.1" : "fd00:201:1::1"));
    answer = AskFrom(*a.netns, Transport::kUdp, v4 ? "10.201.1.1" : "fd00:201:1::1", 53);
    EXPECT_EQ(answer.server, "node");
    answer = AskFrom(*a.netns, Transport::kTcp, v4 ? "10.200.0.2" : "fd00:200::2", 443);
    EXPECT_EQ(answer.server, "outside");
    EXPECT_THAT(answer.peer, HasSubstr(v4 ? "10.200.0.1" : "fd00:200::1")) << "masqueraded";
  }
}

TEST_F(BridgeNetworkTest, PodsTalkWhetherOrNotBridgesCallIptables) {
  SKIFF_NEEDS(test::Need::kBrNetfilter);
  Pod a = Attach("a"), b = Attach("b", {{Protocol::kTcp, 8080, 80, {}}});
  EchoServer server(b.netns->netns(), Transport::kTcp, kAny4, 80, "b");
  for (const char* on : {"0", "1"}) {
    node_->Shell(std::string("sysctl -qw net.bridge.bridge-nf-call-iptables=") + on);
    EXPECT_EQ(AskFrom(*a.netns, Transport::kTcp, b.v4(), 80).server, "b") << on;
    // Translated: the answer must come back through the node.
    EXPECT_EQ(AskFrom(*a.netns, Transport::kTcp, "10.200.0.1", 8080).server, "b") << on;
    EXPECT_EQ(AskFrom(*b.netns, Transport::kTcp, "10.200.0.1", 8080).server, "b")
        << "hairpin " << on;
  }
}

TEST_F(BridgeNetworkTest, HostPorts) {
  Pod web = Attach("web", {{Protocol::kTcp, 8080, 80, {}},
                           {Protocol::kUdp, 5353, 53, Address("10.200.0.1")},
                           {Protocol::kTcp, 0, 443, {}}});
  EchoServer tcp(web.netns->netns(), Transport::kTcp, Address("::"), 80, "web");
  EchoServer udp(web.netns->netns(), Transport::kUdp, kAny4, 53, "dns");
  auto answer = AskFrom(*outside_, Transport::kTcp, "10.200.0.1", 8080);
  EXPECT_EQ(answer.server, "web");
  EXPECT_THAT(answer.peer, HasSubstr("10.200.0.2")) << "clients keep their address";
  EXPECT_EQ(AskFrom(*outside_, Transport::kTcp, "fd00:200::1", 8080).server, "web");
  EXPECT_EQ(AskFrom(*outside_, Transport::kUdp, "10.200.0.1", 5353).server, "dns");
  EXPECT_EQ(AskFrom(*node_, Transport::kTcp, "10.200.0.1", 8080).server, "web");
  EXPECT_EQ(AskFrom(*node_, Transport::kTcp, "127.0.0.1", 8080).server, "web");
  EXPECT_EQ(AskFrom(*node_, Transport::kTcp, "fd00:200::1", 8080).server, "web");
  EXPECT_EQ(AskFrom(*node_, Transport::kUdp, "10.201.1.1", 5353).server, "") << "another address";
  EXPECT_EQ(AskFrom(*web.netns, Transport::kTcp, "10.200.0.1", 8080).server, "web") << "hairpin";

  Pod other{.id = "other", .netns = TestNetns::Make()};
  node_->Run([&] {
    auto clash = network_->Attach(RequestFor(other, {{Protocol::kTcp, 8080, 80, {}}}));
    ASSERT_FALSE(clash.ok());
    EXPECT_EQ(clash.error().code(), Code::kAlreadyExists);
    EXPECT_THAT(clash.error().message(), HasSubstr("pod-web"));
  });
  Detach("web");
  EXPECT_EQ(AskFrom(*outside_, Transport::kTcp, "10.200.0.1", 8080).error, ECONNREFUSED);
  EXPECT_THAT(Rules(), Not(HasSubstr("SKIFF-HP-")));
}

TEST_F(BridgeNetworkTest, UdpClientsFollowAHostPortToItsNewPod) {
  std::vector<PortMapping> ports{{Protocol::kUdp, 5353, 53, {}}};
  Pod first = Attach("first", ports);
  auto ask = [&] {
    test::Answer answer;
    outside_->Run([&] {
      answer = test::Ask(Transport::kUdp, Address("10.200.0.1"), 5353,
                         std::chrono::milliseconds(300), /*local_port=*/40000);
    });
    return answer.server;
  };
  {
    EchoServer server(first.netns->netns(), Transport::kUdp, kAny4, 53, "first");
    EXPECT_EQ(ask(), "first");
  }
  Detach("first");
  EXPECT_EQ(ask(), "") << "and an entry for the node itself is made";
  Pod second = Attach("second", ports);
  EchoServer server(second.netns->netns(), Transport::kUdp, kAny4, 53, "second");
  EXPECT_EQ(ask(), "second");
}

TEST_F(BridgeNetworkTest, PodsDoNotReachTheNodesLoopback) {
  Pod a = Attach("a");
  EchoServer secret(node_->netns(), Transport::kTcp, Address("127.0.0.1"), 9999, "secret");
  EXPECT_EQ(AskFrom(*node_, Transport::kTcp, "127.0.0.1", 9999).server, "secret");
  // As a pod with NET_RAW or NET_ADMIN can: sends 127.0.0.1 to the gateway.
  a.netns->Run([] { ASSERT_TRUE(net::WriteNetSysctl("ipv4/conf/all/route_localnet", "1").ok()); });
  a.netns->Shell(
      "ip addr del 127.0.0.1/8 dev lo; ip route del local 127.0.0.0/8 table local 2>/dev/null; "
      "ip route add 127.0.0.1 via 10.201.1.1");
  EXPECT_EQ(
      AskFrom(*a.netns, Transport::kTcp, "127.0.0.1", 9999, std::chrono::milliseconds(500)).server,
      "");
}

TEST_F(BridgeNetworkTest, AttachAndDetachAreIdempotent) {
  Pod a = Attach("a", {{Protocol::kTcp, 8080, 80, {}}});
  std::string rules = Rules();
  node_->Run([&] {
    auto again = network_->Attach(RequestFor(a, {{Protocol::kTcp, 8080, 80, {}}}));
    ASSERT_TRUE(again.ok());
    EXPECT_EQ(again->addresses, a.attachment.addresses);
    EXPECT_TRUE(network_->Check("a").ok());
    EXPECT_EQ(network_->Check("b").error().code(), Code::kNotFound);
  });
  EXPECT_EQ(Rules(), rules);
  // The pod's processes are gone, and its namespace with them.
  a.netns.reset();
  node_->Run([&] { EXPECT_EQ(network_->Check("a").error().code(), Code::kFailedPrecondition); });
  Detach("a");
  Detach("a");
  Detach("never");
  node_->Run([&] { EXPECT_TRUE(network_->RemoveAll().ok()); });
  EXPECT_EQ(Rules(), rules_before_);
  EXPECT_EQ(Links(), links_before_);
}

TEST_F(BridgeNetworkTest, ADetachedPodIsCutOffAtOnceThoughItsInterfaceGoesLater) {
  Pod a = Attach("a"), b = Attach("b");
  EchoServer server(a.netns->netns(), Transport::kUdp, kAny4, 80, "a");
  EXPECT_EQ(AskFrom(*b.netns, Transport::kUdp, a.v4(), 80).server, "a");
  Detach("a");
  EXPECT_NE(AskFrom(*b.netns, Transport::kUdp, a.v4(), 80).server, "a");
  EXPECT_NE(AskFrom(*node_, Transport::kUdp, a.v4(), 80).server, "a");
  // In the namespace it was in, too: the name must be free.
  node_->Run([&] { EXPECT_TRUE(network_->Attach(RequestFor(a)).ok()); });
  Detach("a");
  node_->Run([&] { EXPECT_TRUE(network_->FinishRemovals().ok()); });
  EXPECT_THAT(Links(), Not(HasSubstr(a.attachment.host_interface)));
  EXPECT_THAT(Links(), HasSubstr(b.attachment.host_interface));
  EXPECT_EQ(ListDirectory(state_.path() + "/leases/boot-1")->size(), 1u);
}

TEST_F(BridgeNetworkTest, ACrashBeforeADetachedInterfaceIsGoneIsRepaired) {
  Pod a = Attach("a");
  network_.reset();
  ASSERT_TRUE(LeaseTable::Open(state_.path(), "boot-1").value()->Retire("a").ok());
  Open();
  node_->Run([&] { EXPECT_TRUE(network_->FinishRemovals().ok()); });
  EXPECT_THAT(Links(), Not(HasSubstr(a.attachment.host_interface)));
  EXPECT_TRUE(ListDirectory(state_.path() + "/leases/boot-1")->empty());
}

TEST_F(BridgeNetworkTest, FailuresLeaveNothing) {
  std::string links = Links(), rules = Rules();
  Pod a{.id = "a", .netns = TestNetns::Make()};
  a.netns->Shell("ip link add eth0 type bridge");
  node_->Run([&] {
    auto attached = network_->Attach(RequestFor(a, {{Protocol::kTcp, 8080, 80, {}}}));
    ASSERT_FALSE(attached.ok());
    EXPECT_EQ(attached.error().sys_errno(), EEXIST);
    EXPECT_EQ(network_->Get("a").error().code(), Code::kNotFound);

    AttachRequest request = RequestFor(a);
    request.netns_path = "/run/no-such-netns";
    EXPECT_EQ(network_->Attach(request).error().code(), Code::kNotFound);
    request.netns_path = "/proc/self/ns/mnt";
    EXPECT_EQ(network_->Attach(request).error().code(), Code::kInvalidArgument);
    request = RequestFor(a);
    request.sandbox_id = "../../etc/passwd";
    EXPECT_EQ(network_->Attach(request).error().code(), Code::kInvalidArgument);
  });
  EXPECT_EQ(Links(), links);
  EXPECT_EQ(Rules(), rules);
  EXPECT_TRUE(ListDirectory(state_.path() + "/leases/boot-1")->empty());
  // The same request succeeds once the obstacle is gone.
  a.netns->Shell("ip link del eth0");
  node_->Run([&] { EXPECT_TRUE(network_->Attach(RequestFor(a)).ok()); });
}

TEST_F(BridgeNetworkTest, EveryFailureOfARuleIsUndoneOrFinishedLater) {
  FailingIptables failing(*iptables_);
  network_.reset();
  node_->Run([&] {
    BridgeConfig config{.state_dir = state_.path(), .boot_id = "boot-1"};
    network_ = BridgeNetwork::Open(config, failing, conntrack_).value();
    network_->SetPodCidrs(cidrs_, cluster_cidrs_).value();
  });
  std::string links = Links(), rules = Rules();
  Pod a{.id = "a", .netns = TestNetns::Make()};
  for (bool after_effect : {false, true}) {
    int failures = 0;
    for (int call = 0;; ++call) {
      bool attached = false, detached = false;
      node_->Run([&] {
        failing.FailCall(call, after_effect);
        attached = network_->Attach(RequestFor(a, {{Protocol::kTcp, 8080, 80, {}}})).ok();
        int attach_calls = failing.calls();
        detached = network_->Detach("a").ok();
        failures += !attached || !detached;
        // A failed call may be repeated, and then nothing is left.
        EXPECT_TRUE(network_->Detach("a").ok()) << call;
        EXPECT_TRUE(network_->FinishRemovals().ok()) << call;
        EXPECT_GT(attach_calls, 0);
      });
      EXPECT_EQ(Links(), links) << call;
      EXPECT_EQ(Rules(), rules) << call;
      EXPECT_TRUE(ListDirectory(state_.path() + "/leases/boot-1")->empty()) << call;
      if (attached && detached) break;
    }
    EXPECT_GE(failures, 4) << "both families, up and down";
  }
}

TEST_F(BridgeNetworkTest, ACrashAfterTheRecordIsRepaired) {
  // The daemon died when the lease was on disk and nothing else had been done.
  Pod a{.id = "a", .netns = TestNetns::Make()}, b{.id = "b", .netns = TestNetns::Make()};
  network_.reset();
  {
    auto leases = LeaseTable::Open(state_.path(), "boot-1").value();
    for (const Pod* pod : {&a, &b}) {
      Lease draft{.sandbox_id = pod->id, .netns_path = pod->netns->path()};
      draft.ports = {{Protocol::kTcp, static_cast<uint16_t>(pod->id == "a" ? 8080 : 8081), 80, {}}};
      draft.attachment.interface = "eth0";
      draft.attachment.mtu = 1500;
      ASSERT_TRUE(leases->Acquire(draft, {}, cidrs_).ok());
    }
  }
  Open();
  node_->Run([&] {
    EXPECT_EQ(network_->Check("a").error().code(), Code::kFailedPrecondition);
    auto attached = network_->Attach(RequestFor(a, {{Protocol::kTcp, 8080, 80, {}}}));
    ASSERT_TRUE(attached.ok()) << attached.error().ToString();
    EXPECT_TRUE(network_->Check("a").ok());
    EXPECT_TRUE(network_->Recover({"a"}).ok());
    EXPECT_EQ(network_->Get("b").error().code(), Code::kNotFound);
  });
  EchoServer server(a.netns->netns(), Transport::kTcp, kAny4, 80, "a");
  EXPECT_EQ(AskFrom(*outside_, Transport::kTcp, "10.200.0.1", 8080).server, "a");
  EXPECT_EQ(AskFrom(*outside_, Transport::kTcp, "10.200.0.1", 8081).error, ECONNREFUSED);
}

TEST_F(BridgeNetworkTest, RestartKeepsPodsAndRebootFreesThem) {
  Pod a = Attach("a", {{Protocol::kTcp, 8080, 80, {}}}), b = Attach("b");
  EchoServer server(a.netns->netns(), Transport::kTcp, kAny4, 80, "a");
  std::string rules = Rules();
  network_.reset();
  Open();
  EXPECT_EQ(Rules(), rules);
  node_->Run([&] { EXPECT_TRUE(network_->Recover({"a"}).ok()); });
  EXPECT_EQ(AskFrom(*outside_, Transport::kTcp, "10.200.0.1", 8080).server, "a");
  EXPECT_THAT(Links(), Not(HasSubstr(b.attachment.host_interface)));
  node_->Run([&] {
    EXPECT_EQ(network_->Get("a")->addresses, a.attachment.addresses);
    EXPECT_FALSE(network_->Get("b").ok());
  });
  network_.reset();
  Open("boot-2");
  node_->Run([&] {
    EXPECT_TRUE(network_->Recover({}).ok());
    EXPECT_TRUE(network_->RemoveAll().ok());
  });
  EXPECT_EQ(Links(), links_before_);
  EXPECT_EQ(Rules(), rules_before_);
}

TEST_F(BridgeNetworkTest, PutsBackWhatOthersRemove) {
  Pod a = Attach("a", {{Protocol::kTcp, 8080, 80, {}}});
  EchoServer server(a.netns->netns(), Transport::kTcp, kAny4, 80, "a");
  node_->Shell("ip link del skiff0; iptables -t nat -F; iptables -t nat -X; iptables -F");
  Pod b = Attach("b");
  EXPECT_EQ(AskFrom(*b.netns, Transport::kTcp, a.v4(), 80).server, "a");
  EXPECT_EQ(AskFrom(*outside_, Transport::kTcp, "10.200.0.1", 8080).server, "a");
}

TEST_F(BridgeNetworkTest, ReconcileNoticesFlushedRules) {
  Pod a = Attach("a", {{Protocol::kTcp, 8080, 80, {}}});
  std::string rules = Rules();
  for (const char* command : {"iptables -t nat -F", "ip6tables -F; ip6tables -X",
                              "iptables -t nat -D POSTROUTING 1", "true"}) {
    node_->Shell(command);
    node_->Run([&] { EXPECT_TRUE(network_->Reconcile().ok()); });
    EXPECT_EQ(Rules(), rules) << command;
  }
}

TEST_F(BridgeNetworkTest, NewCidrsLeaveOldPodsConnected) {
  Pod old_pod = Attach("old");
  cidrs_ = {Prefix("10.201.9.0/24")};
  node_->Run([&] {
    auto set = network_->SetPodCidrs(cidrs_, cluster_cidrs_);
    ASSERT_TRUE(set.ok()) << set.error().ToString();
  });
  Pod fresh = Attach("fresh");
  EXPECT_EQ(fresh.v4(), "10.201.9.2");
  EchoServer server(old_pod.netns->netns(), Transport::kTcp, kAny4, 80, "old");
  EXPECT_EQ(AskFrom(*fresh.netns, Transport::kTcp, old_pod.v4(), 80).server, "old");
  node_->Run([&] {
    ASSERT_FALSE(network_->SetPodCidrs({}, {}).ok());
    ASSERT_FALSE(network_->SetPodCidrs({Prefix("10.1.0.0/24"), Prefix("10.2.0.0/24")}, {}).ok());
    ASSERT_FALSE(network_->SetPodCidrs({Prefix("10.1.0.0/31")}, {}).ok());
  });
}

TEST_F(BridgeNetworkTest, ManyAtOnceAndFast) {
  constexpr int kPods = 40;
  std::vector<Pod> pods(kPods);
  for (int i = 0; i < kPods; ++i) pods[i] = {"p" + std::to_string(i), TestNetns::Make(), {}};
  std::chrono::nanoseconds alone{0};
  node_->Run([&] {
    auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kPods / 2; ++i) {
      auto attached = network_->Attach(RequestFor(pods[i]));
      ASSERT_TRUE(attached.ok()) << attached.error().ToString();
      pods[i].attachment = *attached;
    }
    alone = (std::chrono::steady_clock::now() - start) / (kPods / 2);
    std::vector<std::thread> threads;
    for (int i = kPods / 2; i < kPods; ++i) {
      threads.emplace_back([&, i] {
        auto attached = network_->Attach(RequestFor(pods[i]));
        ASSERT_TRUE(attached.ok()) << attached.error().ToString();
        pods[i].attachment = *attached;
      });
    }
    for (std::thread& thread : threads) thread.join();
  });
  std::cout << "attach: " << alone.count() / 1000 << " us\n";
  RecordProperty("attach_us", static_cast<int>(alone.count() / 1000));
  std::set<std::string> addresses;
  for (const Pod& pod : pods) addresses.insert(pod.v4());
  EXPECT_EQ(addresses.size(), static_cast<size_t>(kPods));
  node_->Run([&] {
    auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kPods / 2; ++i) EXPECT_TRUE(network_->Detach(pods[i].id).ok());
    auto each = (std::chrono::steady_clock::now() - start) / (kPods / 2);
    start = std::chrono::steady_clock::now();
    std::vector<std::thread> threads;
    for (const Pod& pod : pods) {
      threads.emplace_back([&] { EXPECT_TRUE(network_->Detach(pod.id).ok()); });
    }
    for (std::thread& thread : threads) thread.join();
    auto together = std::chrono::steady_clock::now() - start;
    std::cout << "detach: " << each.count() / 1000 << " us alone, " << together.count() / 1000
              << " us for " << kPods / 2 << " at once\n";
    EXPECT_TRUE(network_->RemoveAll().ok());
  });
  EXPECT_EQ(Links(), links_before_);
}

}  // namespace
}  // namespace skiff::cni
