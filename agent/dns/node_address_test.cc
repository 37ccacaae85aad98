#include "agent/dns/node_address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/net/fake_iptables.h"

namespace skiff::agent::dns {
namespace {

TEST(NodeAddressTest, RulesKeepDnsOutOfConntrack) {
  net::FakeIptables iptables;
  std::vector<net::IpAddress> addresses = {net::IpAddress::V4(10, 96, 0, 10)};
  std::string payload =
      PlanRules(addresses, net::IpFamily::kV4,
                {"PREROUTING -m comment --comment \"skiff cluster DNS\" -j SKIFF-DNS"}, {});
  ASSERT_TRUE(iptables.Restore(net::IpFamily::kV4, payload).ok());
  auto raw = iptables.Rules(net::IpFamily::kV4, "raw", "SKIFF-DNS");
  ASSERT_TRUE(raw);
  EXPECT_THAT(*raw, testing::ElementsAre("-d 10.96.0.10 -p udp -m udp --dport 53 -j NOTRACK",
                                         "-s 10.96.0.10 -p udp -m udp --sport 53 -j NOTRACK",
                                         "-d 10.96.0.10 -p tcp -m tcp --dport 53 -j NOTRACK",
                                         "-s 10.96.0.10 -p tcp -m tcp --sport 53 -j NOTRACK"));
  EXPECT_EQ(iptables.Rules(net::IpFamily::kV4, "raw", "PREROUTING")->size(), 1u);
  ASSERT_TRUE(
      iptables.Restore(net::IpFamily::kV4, PlanRules(addresses, net::IpFamily::kV4, {}, {})).ok());
  EXPECT_EQ(iptables.Rules(net::IpFamily::kV4, "raw", "SKIFF-DNS")->size(), 4u) << "not doubled";
}

}  // namespace
}  // namespace skiff::agent::dns
