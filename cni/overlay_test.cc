#include "cni/overlay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cni/test_addresses.h"

namespace skiff::cni {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

OverlayNode NodeOf(std::vector<std::string> addresses, std::vector<std::string> cidrs) {
  OverlayNode node;
  for (const auto& text : addresses) node.addresses.push_back(net::IpAddress::Parse(text).value());
  for (const auto& text : cidrs) node.pod_cidrs.push_back(net::IpPrefix::Parse(text).value());
  return node;
}

OverlayConfig ConfigOf(OverlayMode mode) { return {.mode = mode, .mtu = 1450}; }

const OverlayNode kSelf = NodeOf({"10.0.0.1"}, {"10.244.1.0/24"});
const OverlayNode kNear = NodeOf({"10.0.0.2"}, {"10.244.2.0/24"});
const OverlayNode kFar = NodeOf({"10.9.0.3"}, {"10.244.3.0/24"});
const std::vector<net::LinkAddress> kSubnets = {{7, net::IpAddress::V4(10, 0, 0, 1), 24}};

TEST(OverlayTest, Vxlan) {
  OverlayPlan plan = PlanOverlay(ConfigOf(OverlayMode::kVxlan), kSelf, {kNear, kFar}, kSubnets);
  EXPECT_TRUE(plan.vxlan);
  EXPECT_EQ(plan.link.mac, "0a:59:0a:f4:01:00");
  EXPECT_EQ(plan.link.mtu, 1450u);
  EXPECT_THAT(plan.link_addresses, ElementsAre(net::IpAddress::V4(10, 244, 1, 0)));
  EXPECT_THAT(plan.forwarding,
              ElementsAre(net::Forwarding{"0a:59:0a:f4:02:00", net::IpAddress::V4(10, 0, 0, 2)},
                          net::Forwarding{"0a:59:0a:f4:03:00", net::IpAddress::V4(10, 9, 0, 3)}));
  EXPECT_THAT(plan.neighbours,
              ElementsAre(net::Neighbour{net::IpAddress::V4(10, 244, 2, 0), "0a:59:0a:f4:02:00"},
                          net::Neighbour{net::IpAddress::V4(10, 244, 3, 0), "0a:59:0a:f4:03:00"}));
  ASSERT_THAT(plan.routes, SizeIs(2));
  EXPECT_EQ(plan.routes[0].link, 0) << "the VXLAN link";
  EXPECT_TRUE(plan.routes[0].on_link);
  EXPECT_EQ(plan.routes[0].source, net::IpAddress::V4(10, 244, 1, 0));
}

TEST(OverlayTest, HostGatewayReachesOnlyTheSubnet) {
  OverlayPlan plan =
      PlanOverlay(ConfigOf(OverlayMode::kHostGateway), kSelf, {kNear, kFar}, kSubnets);
  EXPECT_FALSE(plan.vxlan);
  ASSERT_THAT(plan.routes, SizeIs(1));
  EXPECT_EQ(plan.routes[0].gateway, net::IpAddress::V4(10, 0, 0, 2));
  EXPECT_EQ(plan.routes[0].link, 7);
  EXPECT_THAT(plan.unreachable, ElementsAre("10.244.3.0/24: its node is on no subnet of this one"));
}

TEST(OverlayTest, AutoChoosesForEachPeer) {
  OverlayPlan plan = PlanOverlay(ConfigOf(OverlayMode::kAuto), kSelf, {kNear, kFar}, kSubnets);
  EXPECT_TRUE(plan.vxlan);
  EXPECT_THAT(plan.routes, SizeIs(2));
  EXPECT_THAT(plan.forwarding, SizeIs(1));
  plan = PlanOverlay(ConfigOf(OverlayMode::kAuto), kSelf, {kNear}, kSubnets);
  EXPECT_FALSE(plan.vxlan);
}

TEST(OverlayTest, BothFamiliesOverOneUnderlay) {
  OverlayNode self = NodeOf({"10.0.0.1"}, {"10.244.1.0/24", "fd00:10:1::/64"});
  OverlayNode peer = NodeOf({"10.0.0.2"}, {"10.244.2.0/24", "fd00:10:2::/64"});
  OverlayPlan plan = PlanOverlay(ConfigOf(OverlayMode::kVxlan), self, {peer}, kSubnets);
  EXPECT_THAT(plan.forwarding, SizeIs(1));
  EXPECT_THAT(plan.neighbours, SizeIs(2));
  EXPECT_EQ(plan.routes[1].source, net::IpAddress::Parse("fd00:10:1::").value());

  OverlayNode six = NodeOf({"fd01::1"}, {"fd00:10:1::/64"});
  plan = PlanOverlay(ConfigOf(OverlayMode::kVxlan), six, {peer}, {});
  EXPECT_THAT(plan.unreachable, SizeIs(1)) << "no address of the underlay's family";
}

TEST(OverlayTest, TheUnderlayIsThePodsPrimaryFamilyWhereAllHaveIt) {
  OverlayNode dual = NodeOf({"10.0.0.1", "fd01::1"}, {"fd00:10:1::/64", "10.244.1.0/24"});
  OverlayNode other = NodeOf({"10.0.0.2", "fd01::2"}, {"fd00:10:2::/64", "10.244.2.0/24"});
  OverlayNode four = NodeOf({"10.0.0.3"}, {"fd00:10:3::/64", "10.244.3.0/24"});
  OverlayNode six = NodeOf({"fd01::4"}, {"fd00:10:4::/64", "10.244.4.0/24"});
  OverlayNode coming = NodeOf({}, {"fd00:10:5::/64"});
  EXPECT_EQ(UnderlayFamily(dual, {other, coming}), net::IpFamily::kV6);
  EXPECT_EQ(UnderlayFamily(dual, {other, six}), net::IpFamily::kV6);
  EXPECT_EQ(UnderlayFamily(dual, {other, four}), net::IpFamily::kV4);
  EXPECT_EQ(UnderlayFamily(dual, {four, six}), net::IpFamily::kV6) << "one is out of reach";
  EXPECT_EQ(UnderlayFamily(four, {dual}), net::IpFamily::kV4);

  OverlayPlan plan = PlanOverlay(ConfigOf(OverlayMode::kVxlan), dual, {other}, {});
  EXPECT_EQ(plan.link.name, "skiff-vxlan6");
  EXPECT_EQ(plan.forwarding[0].remote, net::IpAddress::Parse("fd01::2").value());
  EXPECT_THAT(plan.routes, SizeIs(2)) << "both families' pods";
}

TEST(OverlayTest, ASmallerMtuOfAPeerIsItsRoutes) {
  OverlayNode small = kNear, large = kFar;
  small.mtu = 1350;
  large.mtu = 8950;
  OverlayPlan plan = PlanOverlay(ConfigOf(OverlayMode::kAuto), kSelf, {small, large}, kSubnets);
  ASSERT_THAT(plan.routes, SizeIs(2));
  EXPECT_EQ(plan.routes[0].mtu, 1350u);
  EXPECT_EQ(plan.routes[1].mtu, 0u);
  EXPECT_EQ(plan.link.mtu, 1450u);
}

TEST(OverlayTest, NodesThatAreNotReadyAreLeftOut) {
  OverlayPlan plan = PlanOverlay(ConfigOf(OverlayMode::kVxlan), kSelf,
                                 {NodeOf({"10.0.0.4"}, {}), NodeOf({}, {"10.244.4.0/24"})}, {});
  EXPECT_FALSE(plan.vxlan);
  EXPECT_THAT(plan.routes, IsEmpty());
  EXPECT_THAT(plan.unreachable, IsEmpty());
}

TEST(OverlayTest, ModesAndTheirCost) {
  EXPECT_EQ(ParseOverlayMode("host-gw").value(), OverlayMode::kHostGateway);
  EXPECT_FALSE(ParseOverlayMode("udp").ok());
  EXPECT_EQ(ParseOverlayMode("wireguard").value(), OverlayMode::kWireguard);
  EXPECT_EQ(EncapsulationBytes(OverlayMode::kVxlan, net::IpFamily::kV4), 50u);
  EXPECT_EQ(EncapsulationBytes(OverlayMode::kAuto, net::IpFamily::kV6), 70u);
  EXPECT_EQ(EncapsulationBytes(OverlayMode::kHostGateway, net::IpFamily::kV4), 0u);
  EXPECT_EQ(EncapsulationBytes(OverlayMode::kWireguard, net::IpFamily::kV4), 60u);
  EXPECT_EQ(EncapsulationBytes(OverlayMode::kWireguard, net::IpFamily::kV6), 80u);
}

TEST(OverlayTest, WireguardHasATunnelToEachPeerThatToldAKey) {
  OverlayNode near = kNear, far = kFar;
  near.wireguard_key = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
  OverlayPlan plan = PlanOverlay(ConfigOf(OverlayMode::kWireguard), kSelf, {near, far}, kSubnets);
  EXPECT_TRUE(plan.wireguard);
  EXPECT_FALSE(plan.vxlan);
  ASSERT_THAT(plan.tunnels, SizeIs(1));
  EXPECT_EQ(plan.tunnels[0].public_key, near.wireguard_key);
  EXPECT_EQ(plan.tunnels[0].endpoint->address, near.addresses.front());
  EXPECT_EQ(plan.tunnels[0].allowed_ips, near.pod_cidrs);
  ASSERT_THAT(plan.routes, SizeIs(1));
  EXPECT_EQ(plan.routes[0].destination, near.pod_cidrs.front());
  EXPECT_EQ(plan.routes[0].link, 0);
  EXPECT_FALSE(plan.routes[0].gateway.has_value());
  ASSERT_THAT(plan.unreachable, SizeIs(1));
  EXPECT_THAT(plan.unreachable[0], testing::HasSubstr("no WireGuard key"));
  // A node alone needs the link too: whether the kernel has it is known at once.
  EXPECT_TRUE(PlanOverlay(ConfigOf(OverlayMode::kWireguard), kSelf, {}, kSubnets).wireguard);
}

}  // namespace
}  // namespace skiff::cni
