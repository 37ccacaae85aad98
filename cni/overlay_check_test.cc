#include "cni/overlay_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace skiff::cni {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

net::IpAddress PodAddress(int peer) {
  return net::IpAddress::V4(10, 244, static_cast<uint8_t>(peer), 0);
}

OverlayPlan PlanOf(std::vector<int> peers, uint8_t subnet = 0) {
  OverlayPlan plan;
  for (int peer : peers) {
    std::string mac = "0a:59:0a:f4:00:0" + std::to_string(peer);
    plan.forwarding.push_back({mac, net::IpAddress::V4(10, 0, subnet, static_cast<uint8_t>(peer))});
    plan.neighbours.push_back({PodAddress(peer), mac});
  }
  return plan;
}

class OverlayCheckTest : public testing::Test {
 protected:
  void Round(PathState state) {
    for (const net::IpAddress& peer : check_.Due()) check_.Take(peer, state);
  }
  OverlayCheck check_;
};

TEST_F(OverlayCheckTest, APeerIsProbedUntilItHasAnsweredOnce) {
  check_.SetPeers(PlanOf({1, 2}));
  EXPECT_FALSE(check_.AllWhole());
  EXPECT_THAT(check_.Due(), ElementsAre(PodAddress(1), PodAddress(2)));
  check_.Take(PodAddress(1), PathState::kWhole);
  EXPECT_THAT(check_.Due(), ElementsAre(PodAddress(2)));
  check_.Take(PodAddress(2), PathState::kWhole);
  EXPECT_THAT(check_.Due(), IsEmpty());
  EXPECT_TRUE(check_.AllWhole());
  EXPECT_FALSE(check_.Health().degraded);
  // One that returns with another address is probed again, and it alone.
  OverlayPlan plan = PlanOf({1, 2});
  plan.forwarding[1].remote = net::IpAddress::V4(10, 9, 9, 9);
  check_.SetPeers(plan);
  EXPECT_THAT(check_.Due(), ElementsAre(PodAddress(2)));
}

TEST_F(OverlayCheckTest, LotsTakeTurns) {
  check_.SetPeers(PlanOf({1, 2, 3}));
  EXPECT_THAT(check_.Due(2), ElementsAre(PodAddress(1), PodAddress(2)));
  EXPECT_THAT(check_.Due(2), ElementsAre(PodAddress(3)));
  EXPECT_THAT(check_.Due(2), ElementsAre(PodAddress(1), PodAddress(2)));
}

TEST_F(OverlayCheckTest, SilenceIsTroubleOnceItLasts) {
  check_.SetPeers(PlanOf({1, 2, 3, 4, 5}));
  Round(PathState::kSilent);
  Round(PathState::kSilent);
  EXPECT_FALSE(check_.Health().degraded) << "they may have just joined";
  Round(PathState::kSilent);
  EXPECT_EQ(check_.Health().reason, "PeersSilent");
  EXPECT_THAT(check_.Health().message, HasSubstr("10.0.0.1, 10.0.0.2, 10.0.0.3 and 2 more"));
  EXPECT_FALSE(check_.WantsChecksumsInSoftware());
  check_.SetPeers({});
  EXPECT_FALSE(check_.Health().degraded);
}

TEST_F(OverlayCheckTest, DamageIsRepairedInSoftwareOnce) {
  check_.SetPeers(PlanOf({1}));
  Round(PathState::kDamaged);
  EXPECT_TRUE(check_.WantsChecksumsInSoftware());
  EXPECT_FALSE(check_.WantsChecksumsInSoftware());
  check_.SetChecksumsInSoftware(true);
  EXPECT_EQ(check_.Health().reason, "ChecksumsInSoftware");
  EXPECT_TRUE(check_.Health().degraded);
  Round(PathState::kWhole);
  EXPECT_EQ(check_.Health().reason, "ChecksumsInSoftware");
}

TEST_F(OverlayCheckTest, DamageThatStaysIsTold) {
  check_.SetPeers(PlanOf({1}));
  for (int i = 0; i < 3; ++i) Round(PathState::kDamaged);
  check_.SetChecksumsInSoftware(true);
  EXPECT_EQ(check_.Health().reason, "PacketsDamaged");
  EXPECT_THAT(check_.Health().message, HasSubstr("10.0.0.1"));
}

TEST(PathProbeTest, Judgement) {
  EXPECT_EQ(Judge({true, true, true}), PathState::kWhole);
  EXPECT_EQ(Judge({true, true, false}), PathState::kWhole) << "a checksum of zero may be refused";
  EXPECT_EQ(Judge({false, false, true}), PathState::kDamaged);
  EXPECT_EQ(Judge({true, false, true}), PathState::kDamaged);
  EXPECT_EQ(Judge({}), PathState::kSilent);
}

TEST(PathProbeTest, LoopbackIsWhole) {
  const net::IpAddress loopback = net::IpAddress::V4(127, 0, 0, 1);
  // Other tests may run beside this one.
  uint16_t port = 38473;
  auto responder = ProbeResponder::Start({loopback}, port);
  while (!responder.ok() && port < 38573) responder = ProbeResponder::Start({loopback}, ++port);
  ASSERT_TRUE(responder.ok()) << responder.error().message();
  auto results = ProbePeers({loopback}, port, std::chrono::seconds(30));
  ASSERT_TRUE(results.ok());
  ASSERT_THAT(*results, SizeIs(1));
  EXPECT_EQ(Judge(results->front()), PathState::kWhole);
  EXPECT_FALSE(ProbeResponder::Start({net::IpAddress::V4(192, 0, 2, 1)}, port).ok());
}

}  // namespace
}  // namespace skiff::cni
