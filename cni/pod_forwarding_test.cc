#include "cni/pod_forwarding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/net/fake_iptables.h"
#include "cni/test_addresses.h"

namespace skiff::cni {
namespace {

using ::testing::ElementsAre;
using ::testing::Optional;

constexpr net::IpFamily kFirstFamily = net::IpFamily::kV4, kOtherFamily = net::IpFamily::kV6;

class PodForwardingTest : public ::testing::Test {
 protected:
  PodForwardingTest() {
    forwarding_ = std::make_unique<PodForwarding>(iptables_, executor_);
    forwarding_->SetClusterCidrs({Prefix("10.244.0.0/16"), Prefix("fd00:244::/32")});
    Settle();
  }
  void Settle() { executor_.Advance(std::chrono::seconds(5)); }
  std::vector<std::string> Forward(net::IpFamily family) {
    return *iptables_.Rules(family, "filter", "FORWARD");
  }

  ManualExecutor executor_;
  net::FakeIptables iptables_;
  std::unique_ptr<PodForwarding> forwarding_;
};

TEST_F(PodForwardingTest, NothingIsDoneBeforeItIsKnownWhoseNetworkItIs) {
  EXPECT_THAT(iptables_.TakePayloads(), ElementsAre());
}

TEST_F(PodForwardingTest, PodsOfPluginsMayPass) {
  ASSERT_TRUE(
      iptables_.Restore(kFirstFamily, "*filter\n-A FORWARD -s 192.0.2.1/32 -j DROP\nCOMMIT\n")
          .ok());
  forwarding_->SetWanted(true);
  Settle();
  EXPECT_THAT(iptables_.Rules(kFirstFamily, "filter", "SKIFF-PODS"),
              Optional(ElementsAre("-s 10.244.0.0/16 -j ACCEPT", "-d 10.244.0.0/16 -j ACCEPT",
                                   "-m mark --mark 0x4000/0x4000 -j ACCEPT",
                                   "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")));
  EXPECT_THAT(Forward(kFirstFamily), ElementsAre("-s 192.0.2.1/32 -j DROP", "-j SKIFF-PODS"))
      << "others' refusals first";
  EXPECT_THAT(Forward(kOtherFamily), ElementsAre("-j SKIFF-PODS"));
  iptables_.TakePayloads();
  forwarding_->SetWanted(true);
  executor_.Advance(std::chrono::minutes(2));
  EXPECT_THAT(iptables_.TakePayloads(), ElementsAre()) << "nothing changed";
}

TEST_F(PodForwardingTest, WritesAgainWhatOthersRemove) {
  forwarding_->SetWanted(true);
  Settle();
  for (const char* line : {"-F SKIFF-PODS", "-D FORWARD -j SKIFF-PODS"}) {
    ASSERT_TRUE(
        iptables_.Restore(kFirstFamily, "*filter\n" + std::string(line) + "\nCOMMIT\n").ok());
    executor_.Advance(std::chrono::seconds(35));
    EXPECT_EQ(iptables_.Rules(kFirstFamily, "filter", "SKIFF-PODS")->size(), 4u) << line;
    EXPECT_THAT(Forward(kFirstFamily), ElementsAre("-j SKIFF-PODS")) << line;
  }
  iptables_.Flush();
  iptables_.FailNext(Error(Code::kUnavailable, "xtables lock"));
  executor_.Advance(std::chrono::seconds(35));
  EXPECT_THAT(Forward(kFirstFamily), ElementsAre("-j SKIFF-PODS"));
}

TEST_F(PodForwardingTest, TheRulesGoWithThePluginsAndWithAFamily) {
  forwarding_->SetWanted(true);
  Settle();
  forwarding_->SetClusterCidrs({Prefix("10.244.0.0/16")});
  Settle();
  EXPECT_THAT(Forward(kFirstFamily), ElementsAre("-j SKIFF-PODS"));
  EXPECT_THAT(Forward(kOtherFamily), ElementsAre());
  // A process that is told otherwise when it starts.
  forwarding_ = std::make_unique<PodForwarding>(iptables_, executor_);
  forwarding_->SetWanted(false);
  forwarding_->SetClusterCidrs({Prefix("10.244.0.0/16")});
  Settle();
  EXPECT_THAT(Forward(kFirstFamily), ElementsAre());
  EXPECT_FALSE(iptables_.ChainExists(kFirstFamily, "filter", "SKIFF-PODS").value());
}

TEST_F(PodForwardingTest, IsRemovedWhole) {
  forwarding_->SetWanted(true);
  Settle();
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(RemovePodForwarding(iptables_).ok());
    EXPECT_THAT(iptables_.Chains(kFirstFamily, "filter"), ElementsAre());
    EXPECT_THAT(Forward(kOtherFamily), ElementsAre());
  }
}

}  // namespace
}  // namespace skiff::cni
