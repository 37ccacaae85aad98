#include "agent/node/node_ips.h"

#include <gtest/gtest.h>

namespace skiff::agent {
namespace {

net::IpAddress Ip(const char* text) { return net::IpAddress::Parse(text).value(); }

FamilyAddresses Machine() {
  FamilyAddresses present;
  present.links = {{.index = 1, .name = "lo", .up = true},
                   {.index = 2, .name = "skiff0", .up = true},
                   {.index = 3, .name = "down0"},
                   {.index = 4, .name = "eth0", .up = true},
                   {.index = 5, .name = "eth1", .up = true}};
  present.addresses = {{1, Ip("::1"), 128},
                       {2, Ip("fd00:244::1"), 64},
                       {3, Ip("fd00:3::1"), 64},
                       {4, Ip("fe80::4"), 64},
                       {4, Ip("fd00:4::9"), 64, /*stable=*/false},
                       {4, Ip("fd00:4::1"), 64},
                       {5, Ip("fd00:5::1"), 64}};
  return present;
}

TEST(NodeIpsTest, TheDefaultRoutesInterfaceComesFirst) {
  FamilyAddresses present = Machine();
  present.default_route = net::Route{.destination = {}, .gateway = {}, .link = 5};
  EXPECT_EQ(ChooseNodeIp(present), Ip("fd00:5::1"));
}

TEST(NodeIpsTest, WithoutOneTheFirstThatLeadsOutside) {
  EXPECT_EQ(ChooseNodeIp(Machine()), Ip("fd00:4::1"));
  FamilyAddresses alone = Machine();
  alone.links.resize(3);
  EXPECT_EQ(ChooseNodeIp(alone), std::nullopt);
}

TEST(NodeIpsTest, ThePrimaryFamilyComesFirst) {
  EXPECT_EQ(OrderByFamily({"10.0.0.1", "fd00::1"}, net::IpFamily::kV6),
            (std::vector<std::string>{"fd00::1", "10.0.0.1"}));
  EXPECT_EQ(OrderByFamily({"10.0.0.1", "fd00::1"}, net::IpFamily::kV4),
            (std::vector<std::string>{"10.0.0.1", "fd00::1"}));
  EXPECT_EQ(OrderByFamily({"10.0.0.1"}, net::IpFamily::kV6), std::vector<std::string>{"10.0.0.1"});
}

TEST(NodeIpsTest, ThisMachineHasAnAddress) { EXPECT_FALSE(FindNodeIps().empty()); }

}  // namespace
}  // namespace skiff::agent
