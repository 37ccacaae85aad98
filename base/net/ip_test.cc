#include "base/net/ip.h"

#include <gtest/gtest.h>

#include <limits>

namespace skiff::net {
namespace {

IpAddress Address(std::string_view text) { return IpAddress::Parse(text).value(); }
IpPrefix Prefix(std::string_view text) { return IpPrefix::Parse(text).value(); }

TEST(IpAddress, ParsesAndPrintsCanonically) {
  EXPECT_EQ(Address("10.244.0.5").ToString(), "10.244.0.5");
  EXPECT_EQ(Address("FD00:0:0:0:0:0:0:1").ToString(), "fd00::1");
  EXPECT_EQ(Address("::").ToString(), "::");
  EXPECT_TRUE(Address("::ffff:1.2.3.4").is_v6());
  EXPECT_EQ(Address("10.0.0.1").WithPort(80), "10.0.0.1:80");
  EXPECT_EQ(Address("fd00::1").WithPort(443), "[fd00::1]:443");
}

TEST(IpAddress, RefusesWhatIsNotAnAddress) {
  for (std::string_view text :
       {"", "10.0.0", "10.0.0.256", "010.0.0.1", "1.2.3.4.5", "10.0.0.1 ", "::g", "fe80::1%eth0",
        "1:2:3:4:5:6:7:8:9", "a.b.c.d", "1111111111111111111111111111111111111111111111111111"}) {
    auto parsed = IpAddress::Parse(text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_EQ(parsed.error().code(), Code::kInvalidArgument);
  }
  EXPECT_FALSE(IpAddress::Parse(std::string_view("1.2.3.4\0", 8)).ok());
}

TEST(IpAddress, Classifies) {
  EXPECT_TRUE(Address("127.8.8.8").is_loopback());
  EXPECT_TRUE(Address("::1").is_loopback());
  EXPECT_FALSE(Address("::2").is_loopback());
  EXPECT_TRUE(Address("0.0.0.0").is_unspecified());
  EXPECT_TRUE(Address("::").is_unspecified());
  EXPECT_TRUE(Address("169.254.1.1").is_link_local());
  EXPECT_TRUE(Address("febf::1").is_link_local());
  EXPECT_FALSE(Address("fec0::1").is_link_local());
}

TEST(IpAddress, CountsOn) {
  EXPECT_EQ(Address("10.0.0.255").Plus(1), Address("10.0.1.0"));
  EXPECT_EQ(Address("255.255.255.255").Plus(1), Address("0.0.0.0"));
  EXPECT_EQ(Address("fd00::ffff:ffff").Plus(2), Address("fd00::1:0:1"));
  EXPECT_EQ(Address("10.0.1.0").OffsetFrom(Address("10.0.0.0")), 256u);
  EXPECT_EQ(Address("fd01::").OffsetFrom(Address("fd00::")), std::numeric_limits<uint64_t>::max());
}

TEST(IpPrefix, ParsesOnlyNetworks) {
  EXPECT_EQ(Prefix("10.244.3.0/24").ToString(), "10.244.3.0/24");
  EXPECT_EQ(Prefix("0.0.0.0/0").length(), 0);
  EXPECT_EQ(Prefix("fd00:10:244::/64").ToString(), "fd00:10:244::/64");
  for (std::string_view text :
       {"10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/024", "10.0.0.1/24",
        "fd00::1/64", "/8", "10.0.0.0/8x", "::/129"}) {
    EXPECT_FALSE(IpPrefix::Parse(text).ok()) << text;
  }
}

TEST(IpPrefix, Contains) {
  EXPECT_TRUE(Prefix("10.244.0.0/16").Contains(Address("10.244.255.255")));
  EXPECT_FALSE(Prefix("10.244.0.0/16").Contains(Address("10.245.0.0")));
  EXPECT_FALSE(Prefix("0.0.0.0/0").Contains(Address("::1")));
  EXPECT_TRUE(Prefix("10.0.0.0/8").Contains(Prefix("10.1.0.0/16")));
  EXPECT_FALSE(Prefix("10.1.0.0/16").Contains(Prefix("10.0.0.0/8")));
  EXPECT_TRUE(Prefix("10.1.0.0/16").Overlaps(Prefix("10.0.0.0/8")));
  EXPECT_TRUE(Prefix("fd00::/9").Contains(Address("fd7f::1")));
  EXPECT_FALSE(Prefix("fd00::/9").Contains(Address("fd80::1")));
}

TEST(IpPrefix, Iterates) {
  IpPrefix prefix = Prefix("10.0.0.252/30");
  EXPECT_EQ(prefix.size(), 4u);
  EXPECT_EQ(prefix.At(3), Address("10.0.0.255"));
  EXPECT_EQ(prefix.last(), Address("10.0.0.255"));
  EXPECT_EQ(Prefix("fd00::/64").size(), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(Prefix("fd00::/126").last(), Address("fd00::3"));
  EXPECT_EQ(IpPrefix::Of(Address("10.1.2.3"), 16), Prefix("10.1.0.0/16"));
  EXPECT_EQ(IpPrefix::Host(Address("fd00::3")).ToString(), "fd00::3/128");
}

TEST(EndpointTest, Texts) {
  EXPECT_EQ(*ParseEndpoint("10.0.0.1", 53), (Endpoint{IpAddress::V4(10, 0, 0, 1), 53}));
  EXPECT_EQ(*ParseEndpoint("10.0.0.1:5353", 53), (Endpoint{IpAddress::V4(10, 0, 0, 1), 5353}));
  EXPECT_EQ(ParseEndpoint("[fd00::1]:5353", 53)->port, 5353);
  EXPECT_EQ(ParseEndpoint("fd00::1", 53)->port, 53);
  for (const char* bad :
       {"", "dns.example", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:99999", "[fd00::1", "[fd00::1]x"}) {
    EXPECT_FALSE(ParseEndpoint(bad, 53).ok()) << bad;
  }
}

}  // namespace
}  // namespace skiff::net
