// The overlay between two machines: both families of pods over either family of the underlay, and
// what the probes of the path see.
#include "cni/overlay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "base/net/offload.h"
#include "cni/path_probe.h"
#include "cni/test_addresses.h"
#include "tests/support/needs.h"
#include "tests/support/netns.h"

namespace skiff::cni {
namespace {

using ::testing::SizeIs;

constexpr std::chrono::seconds kPatience{20};

OverlayNode Machine(std::vector<const char*> addresses, std::vector<const char*> cidrs) {
  OverlayNode node;
  for (const char* text : addresses) node.addresses.push_back(Address(text));
  for (const char* text : cidrs) node.pod_cidrs.push_back(Prefix(text));
  return node;
}

class OverlayKernelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    SKIFF_NEEDS(test::Need::kRoot, test::Need::kIpv6);
    a_ = test::TestNode::Make("left");
    b_ = test::TestNode::Make("right");
    test::Connect(*a_, {"192.0.2.1/24", "fd01::1/64"}, *b_, {"192.0.2.2/24", "fd01::2/64"});
  }

  // Both machines' ways to each other, and a responder on b.
  void Join(const OverlayNode& a, const OverlayNode& b) {
    Ensure(*a_, a, b);
    b_->Run([&] {
      responder_.reset();
      OverlayPlan plan = EnsureIn(b, a);
      responder_ = ProbeResponder::Start(plan.link_addresses).value();
    });
  }
  void Ensure(test::TestNode& node, const OverlayNode& self, const OverlayNode& peer) {
    node.Run([&] { EnsureIn(self, peer); });
  }
  OverlayPlan EnsureIn(const OverlayNode& self, const OverlayNode& peer) {
    net::Rtnl rtnl = net::Rtnl::Open().value();
    auto plan = EnsureOverlay(rtnl,
                              {.mode = mode_,
                               .mtu = mode_ == OverlayMode::kWireguard ? 1420u : 1430u,
                               .wireguard_private_key = private_keys_[self.wireguard_key]},
                              self, {peer});
    EXPECT_TRUE(plan.ok()) << plan.error().message();
    return plan.ok() ? *plan : OverlayPlan();
  }
  // From a; the peer's overlay addresses are the first ones of its ranges.
  std::vector<ProbeResult> Probe(const OverlayNode& peer,
                                 std::chrono::milliseconds patience = kPatience) {
    std::vector<net::IpAddress> addresses;
    for (const net::IpPrefix& pods : peer.pod_cidrs) addresses.push_back(pods.first());
    std::vector<ProbeResult> results;
    a_->Run([&] { results = ProbePeers(addresses, kProbePort, patience).value(); });
    return results;
  }
  void ExpectWhole(const OverlayNode& peer) {
    for (const ProbeResult& result : Probe(peer)) EXPECT_EQ(Judge(result), PathState::kWhole);
  }
  int LinkIndex(const std::string& name) {
    int index = 0;
    a_->Run([&] { index = net::Rtnl::Open()->LinkIndex(name).value_or(0); });
    return index;
  }

  OverlayMode mode_ = OverlayMode::kVxlan;
  std::map<std::string, std::string> private_keys_;  // by the public ones
  std::unique_ptr<test::TestNode> a_, b_;
  std::unique_ptr<ProbeResponder> responder_;
};

const OverlayNode kA = Machine({"192.0.2.1", "fd01::1"}, {"10.244.1.0/24", "fd02:0:0:1::/64"});
const OverlayNode kB = Machine({"192.0.2.2", "fd01::2"}, {"10.244.2.0/24", "fd02:0:0:2::/64"});
const OverlayNode kA6 = Machine({"fd01::1"}, {"10.244.1.0/24", "fd02:0:0:1::/64"});
const OverlayNode kB6 = Machine({"fd01::2"}, {"10.244.2.0/24", "fd02:0:0:2::/64"});

TEST_F(OverlayKernelTest, BothFamiliesOverEither) {
  Join(kA, kB);
  EXPECT_THAT(Probe(kB), SizeIs(2));
  ExpectWhole(kB);
  EXPECT_NE(LinkIndex("skiff-vxlan"), 0);
  // The nodes lose IPv4.
  Join(kA6, kB6);
  ExpectWhole(kB6);
  EXPECT_EQ(LinkIndex("skiff-vxlan"), 0);
  EXPECT_NE(LinkIndex("skiff-vxlan6"), 0);
  Join(kA, kB);
  ExpectWhole(kB);
  EXPECT_EQ(LinkIndex("skiff-vxlan6"), 0);
}

TEST_F(OverlayKernelTest, APeerReturnsWithAnotherAddress) {
  for (auto [self, peer, address, now] : {std::tuple(kA, kB, "192.0.2.9/24", "192.0.2.9"),
                                          std::tuple(kA6, kB6, "fd01::9/64", "fd01::9")}) {
    Join(self, peer);
    ExpectWhole(peer);
    int link = LinkIndex(peer.addresses[0].is_v4() ? "skiff-vxlan" : "skiff-vxlan6");
    std::string nodad = peer.addresses[0].is_v6() ? " nodad" : "";
    b_->Shell("ip addr del " + peer.addresses[0].ToString() +
              (peer.addresses[0].is_v4() ? "/24" : "/64") + " dev left");
    b_->Shell(std::string("ip addr add ") + address + " dev left" + nodad);
    peer.addresses = {Address(now)};
    Join(self, peer);
    ExpectWhole(peer);
    EXPECT_EQ(LinkIndex(peer.addresses[0].is_v4() ? "skiff-vxlan" : "skiff-vxlan6"), link)
        << "the link stays, and what goes over it";
  }
}

TEST_F(OverlayKernelTest, ASmallerPeerIsToldByItsRoutes) {
  OverlayNode small = kB;
  small.mtu = 1300;
  Join(kA, small);
  ExpectWhole(small);
  for (const char* route : {"ip route show 10.244.2.0/24", "ip -6 route show fd02:0:0:2::/64"}) {
    EXPECT_THAT(a_->Shell(route), ::testing::ContainsRegex("mtu (lock )?1300")) << route;
  }
  // It is what was wanted: nothing is written a second time, and back again it goes.
  Join(kA, small);
  Join(kA, kB);
  EXPECT_THAT(a_->Shell("ip route show 10.244.2.0/24"),
              ::testing::Not(::testing::HasSubstr("mtu")));
}

// The sum over a pseudo header (RFC 768), which is what stands in the checksum's field of a packet
// whose checksum is left to the device.
uint16_t PseudoHeaderSum(const net::IpAddress& from, const net::IpAddress& to, size_t bytes) {
  uint32_t sum = 17 + static_cast<uint32_t>(bytes);
  for (const net::IpAddress& address : {from, to}) {
    for (size_t i = 0; i < address.size(); i += 2) {
      sum += static_cast<uint32_t>(address.bytes()[i] << 8 | address.bytes()[i + 1]);
    }
  }
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

TEST_F(OverlayKernelTest, ChecksumsThatAreDamagedAreToldFromSilence) {
  constexpr size_t kUdpBytes = 8 + 18;  // of a probe
  OverlayNode peer = Machine({"192.0.2.2"}, {"10.244.2.0/24"});
  Join(kA, peer);
  // As a device that forgets to fill them in.
  b_->Shell(
      "nft add table ip bad; nft add chain ip bad in '{ type filter hook input priority 0; }'; "
      "nft add rule ip bad in udp dport " +
      std::to_string(kProbePort) + " udp checksum " +
      std::to_string(PseudoHeaderSum(Address("10.244.1.0"), Address("10.244.2.0"), kUdpBytes)) +
      " drop");
  std::vector<ProbeResult> results = Probe(peer, std::chrono::seconds(2));
  ASSERT_THAT(results, SizeIs(1));
  EXPECT_FALSE(results[0].udp);
  EXPECT_TRUE(results[0].udp_unchecked);
  EXPECT_EQ(Judge(results[0]), PathState::kDamaged);
  a_->Run([] {
    EXPECT_TRUE(net::TxChecksumOffload("skiff-vxlan").value());
    ASSERT_TRUE(net::SetTxChecksumOffload("skiff-vxlan", false).ok());
    EXPECT_FALSE(net::TxChecksumOffload("skiff-vxlan").value());
    EXPECT_EQ(net::TxChecksumOffload("none").error().code(), Code::kNotFound);
  });
  ExpectWhole(peer);

  b_->Shell("nft add rule ip bad in udp dport 8472 drop");
  results = Probe(peer, std::chrono::seconds(1));
  EXPECT_EQ(Judge(results[0]), PathState::kSilent);
}

// At the other machine, each with pods of its own.
std::vector<OverlayNode> ManyPeers() {
  std::vector<OverlayNode> peers(300, kB);
  net::IpAddress pods = net::IpAddress::V4(10, 250, 0, 0);
  for (OverlayNode& peer : peers) {
    peer.pod_cidrs = {net::IpPrefix::Of(pods, 26)};
    pods = pods.Plus(64);
  }
  return peers;
}

TEST_F(OverlayKernelTest, ManyPeersComeAndGo) {
  std::vector<OverlayNode> peers = ManyPeers();
  for (size_t count : {300u, 3u}) {
    peers.resize(count);
    a_->Run([&] {
      net::Rtnl rtnl = net::Rtnl::Open().value();
      auto plan = EnsureOverlay(rtnl, {.mtu = 1430}, kA, peers);
      EXPECT_TRUE(plan.ok()) << plan.error().message();
      const int link = rtnl.LinkIndex("skiff-vxlan").value();
      EXPECT_THAT(rtnl.ListForwarding(link).value(), SizeIs(count));
      EXPECT_THAT(rtnl.ListRoutes(net::IpFamily::kV4, net::RouteOwner::kSkiff).value(),
                  SizeIs(count));
    });
  }
}

TEST_F(OverlayKernelTest, AKernelWithoutWireguardIsToldOf) {
  if (test::Missing(test::Need::kWireguard).empty()) GTEST_SKIP() << "this kernel has WireGuard";
  a_->Run([] {
    net::Rtnl rtnl = net::Rtnl::Open().value();
    auto plan = EnsureOverlay(rtnl,
                              {.mode = OverlayMode::kWireguard,
                               .mtu = 1420,
                               .wireguard_private_key = net::MakeWireguardKey()},
                              kA, {});
    ASSERT_FALSE(plan.ok());
    EXPECT_EQ(plan.error().code(), Code::kUnimplemented);
    EXPECT_THAT(plan.error().message(), ::testing::HasSubstr("no WireGuard"));
  });
}

class WireguardKernelTest : public OverlayKernelTest {
 protected:
  void SetUp() override {
    SKIFF_NEEDS(test::Need::kWireguard);
    OverlayKernelTest::SetUp();
    mode_ = OverlayMode::kWireguard;
  }
  OverlayNode WithKey(OverlayNode node) {
    const std::string key = net::MakeWireguardKey();
    node.wireguard_key = net::WireguardPublicKey(key).value();
    private_keys_[node.wireguard_key] = key;
    return node;
  }
  net::WireguardDevice DeviceOf(test::TestNode& node) {
    net::WireguardDevice device;
    node.Run([&] { device = net::Wireguard::Open()->Get("skiff-wg").value(); });
    return device;
  }
};

TEST_F(WireguardKernelTest, BothFamiliesOverEither) {
  const OverlayNode a = WithKey(kA), b = WithKey(kB);
  Join(a, b);
  EXPECT_THAT(Probe(b), SizeIs(2));
  ExpectWhole(b);
  const net::WireguardDevice device = DeviceOf(*a_);
  EXPECT_EQ(device.private_key, private_keys_[a.wireguard_key]);
  ASSERT_THAT(device.peers, SizeIs(1));
  EXPECT_EQ(device.peers[0].allowed_ips, b.pod_cidrs);
  EXPECT_EQ(device.peers[0].endpoint->ToString(), "192.0.2.2:51820");
  // The same again changes nothing.
  Join(a, b);
  EXPECT_EQ(DeviceOf(*a_), device);
  // The nodes lose IPv4.
  OverlayNode a6 = a, b6 = b;
  a6.addresses = kA6.addresses;
  b6.addresses = kB6.addresses;
  Join(a6, b6);
  ExpectWhole(b6);
  EXPECT_EQ(DeviceOf(*a_).peers[0].endpoint->ToString(), "[fd01::2]:51820");
}

TEST_F(WireguardKernelTest, APeerWithANewKeyReplacesItself) {
  const OverlayNode a = WithKey(kA), b = WithKey(kB), again = WithKey(kB);
  Join(a, b);
  ExpectWhole(b);
  Join(a, again);
  ExpectWhole(again);
  EXPECT_THAT(DeviceOf(*a_).peers, SizeIs(1));
}

TEST_F(WireguardKernelTest, TheModeMayChangeAndEndsWithoutATrace) {
  Join(WithKey(kA), WithKey(kB));
  mode_ = OverlayMode::kVxlan;
  Join(kA, kB);
  ExpectWhole(kB);
  EXPECT_EQ(LinkIndex("skiff-wg"), 0);
  mode_ = OverlayMode::kWireguard;
  const OverlayNode a = WithKey(kA), b = WithKey(kB);
  Join(a, b);
  ExpectWhole(b);
  EXPECT_EQ(LinkIndex("skiff-vxlan"), 0);
  a_->Run([] {
    net::Rtnl rtnl = net::Rtnl::Open().value();
    EXPECT_TRUE(RemoveOverlay(rtnl, {}).ok());
  });
  EXPECT_EQ(LinkIndex("skiff-wg"), 0);
  EXPECT_EQ(a_->Shell("ip route show 10.244.2.0/24"), "");
}

TEST_F(WireguardKernelTest, ManyPeersFitAndGo) {
  OverlayNode self = WithKey(kA);
  std::vector<OverlayNode> peers = ManyPeers();
  for (OverlayNode& peer : peers) peer = WithKey(peer);
  const OverlayConfig config{.mode = OverlayMode::kWireguard,
                             .mtu = 1420,
                             .wireguard_private_key = private_keys_[self.wireguard_key]};
  for (size_t count : {300u, 3u, 0u}) {
    peers.resize(count);
    a_->Run([&] {
      net::Rtnl rtnl = net::Rtnl::Open().value();
      auto plan = EnsureOverlay(rtnl, config, self, peers);
      EXPECT_TRUE(plan.ok()) << plan.error().message();
    });
    EXPECT_THAT(DeviceOf(*a_).peers, SizeIs(count));
  }
}

}  // namespace
}  // namespace skiff::cni
