#include "agent/dns/node_address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/net/fake_iptables.h"

namespace skiff::agent::dns {
namespace {

using testing::ElementsAre;
using testing::UnorderedElementsAre;

constexpr auto kV4 = net::IpFamily::kV4;

class NodeAddressTest : public ::testing::Test {
 protected:
  std::vector<std::string> Rules(const char* table, const char* chain) {
    return iptables_.Rules(kV4, table, chain).value();
  }
  // The jumps to our chain in these chains of the table, "PREROUTING -d ...".
  std::vector<std::string> Jumps(const char* table, std::vector<const char*> chains) {
    std::vector<std::string> jumps;
    for (const char* chain : chains) {
      for (const std::string& rule : Rules(table, chain)) {
        jumps.push_back(std::string(chain) + " " + rule);
        if (!jumps.back().ends_with(" -j SKIFF-DNS")) jumps.pop_back();
      }
    }
    return jumps;
  }
  void Write(const std::vector<net::IpAddress>& addresses) {
    std::string payload = PlanRules(addresses, kV4, Jumps("raw", {"PREROUTING", "OUTPUT"}),
                                    Jumps("filter", {"INPUT", "OUTPUT"}));
    ASSERT_TRUE(iptables_.Restore(kV4, payload).ok()) << payload;
  }
  net::FakeIptables iptables_;
};

std::string Jump(const std::string& match) {
  return match + " -m comment --comment \"skiff cluster DNS\" -j SKIFF-DNS";
}

TEST_F(NodeAddressTest, RulesKeepDnsOutOfConntrack) {
  for (int times = 0; times < 2; ++times) {  // what is there already is not doubled
    Write({net::IpAddress::V4(10, 96, 0, 10)});
    EXPECT_THAT(Rules("raw", "SKIFF-DNS"),
                ElementsAre("-d 10.96.0.10 -p udp -m udp --dport 53 -j NOTRACK",
                            "-s 10.96.0.10 -p udp -m udp --sport 53 -j NOTRACK",
                            "-d 10.96.0.10 -p tcp -m tcp --dport 53 -j NOTRACK",
                            "-s 10.96.0.10 -p tcp -m tcp --sport 53 -j NOTRACK"));
    EXPECT_THAT(Rules("raw", "PREROUTING"), ElementsAre(Jump("-d 10.96.0.10/32")));
    for (auto [table, chain] : {std::pair("raw", "OUTPUT"), std::pair("filter", "OUTPUT"),
                                std::pair("filter", "INPUT")}) {
      EXPECT_THAT(Rules(table, chain),
                  UnorderedElementsAre(Jump("-d 10.96.0.10/32"), Jump("-s 10.96.0.10/32")));
    }
  }
}

TEST_F(NodeAddressTest, JumpsFollowTheAddressAndComeBeforeOthers) {
  ASSERT_TRUE(iptables_
                  .Restore(kV4,
                           "*raw\n:SKIFF-DNS - [0:0]\n-A PREROUTING -j SKIFF-DNS\n"
                           "-A PREROUTING -s 10.0.0.1/32 -j DROP\nCOMMIT\n")
                  .ok());
  Write({net::IpAddress::V4(10, 96, 0, 10)});
  Write({net::IpAddress::V4(10, 97, 0, 10)});
  EXPECT_THAT(Rules("raw", "PREROUTING"),
              ElementsAre(Jump("-d 10.97.0.10/32"), "-s 10.0.0.1/32 -j DROP"));
  EXPECT_THAT(Rules("filter", "INPUT"),
              UnorderedElementsAre(Jump("-d 10.97.0.10/32"), Jump("-s 10.97.0.10/32")));
}

}  // namespace
}  // namespace skiff::agent::dns
