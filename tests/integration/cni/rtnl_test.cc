// Links, addresses, routes, neighbours and sysctls of fresh namespaces.
#include "base/net/rtnl.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>

#include "base/net/netns.h"
#include "tests/support/needs.h"
#include "tests/support/netns.h"

namespace skiff::net {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

IpAddress Address(std::string_view text) { return IpAddress::Parse(text).value(); }
IpPrefix Prefix(std::string_view text) { return IpPrefix::Parse(text).value(); }

class RtnlTest : public ::testing::Test {
 protected:
  void SetUp() override {
    SKIFF_NEEDS(test::Need::kRoot, test::Need::kIpv6);
    node_ = test::TestNode::Make("node");
    pod_ = test::TestNetns::Make();
    node_->Run([this] { rtnl_ = std::make_unique<Rtnl>(Rtnl::Open().value()); });
  }
  std::unique_ptr<test::TestNode> node_;
  std::unique_ptr<test::TestNetns> pod_;
  // Used from the test's own thread: a socket stays with the namespace it was opened in.
  std::unique_ptr<Rtnl> rtnl_;
};

TEST_F(RtnlTest, BridgeAndVeth) {
  rtnl_->Apply(rtnl::CreateBridge("br0", "0a:58:0a:00:00:01", 1400)).value();
  Link bridge = rtnl_->GetLink("br0").value();
  EXPECT_EQ(bridge.kind, "bridge");
  EXPECT_EQ(bridge.mac, "0a:58:0a:00:00:01");
  EXPECT_EQ(bridge.mtu, 1400u);
  EXPECT_TRUE(bridge.up);
  EXPECT_EQ(rtnl_->LinkIndex("br0").value(), bridge.index);
  EXPECT_EQ(rtnl_->GetLink(bridge.index)->name, "br0");

  rtnl_
      ->Apply(rtnl::CreateVeth({.name = "veth0",
                                .master = bridge.index,
                                .mtu = 1400,
                                .peer_name = "eth0",
                                .peer_mac = "0a:58:0a:00:00:02",
                                .peer_netns = pod_->netns().fd()}))
      .value();
  Link port = rtnl_->GetLink("veth0").value();
  EXPECT_EQ(port.kind, "veth");
  EXPECT_EQ(port.master, bridge.index);
  EXPECT_EQ(port.mtu, 1400u);
  EXPECT_TRUE(port.up);
  Rtnl inside = Rtnl::OpenIn(pod_->netns()).value();
  Link peer = inside.GetLink("eth0").value();
  EXPECT_EQ(peer.mac, "0a:58:0a:00:00:02");
  EXPECT_EQ(peer.mtu, 1400u);
  EXPECT_FALSE(peer.up);
  inside.Apply(rtnl::SetUp(peer.index, true)).value();
  EXPECT_TRUE(inside.GetLink("eth0")->up);

  rtnl_->Apply(rtnl::SetHairpin(port.index, true)).value();
  EXPECT_THAT(node_->Shell("bridge -d link show dev veth0"), HasSubstr("hairpin on"));
  rtnl_->Apply(rtnl::SetMtu(port.index, 1300)).value();
  rtnl_->Apply(rtnl::SetMaster(port.index, 0)).value();
  port = rtnl_->GetLink("veth0").value();
  EXPECT_EQ(port.mtu, 1300u);
  EXPECT_EQ(port.master, 0);
  EXPECT_EQ(rtnl_->ListLinks()->size(), 3u) << "lo, br0, veth0";

  rtnl_->DeleteLinkIfPresent("veth0").value();
  rtnl_->DeleteLinkIfPresent("veth0").value();
  EXPECT_EQ(inside.GetLink("eth0").error().code(), Code::kNotFound) << "the pair goes together";
}

TEST_F(RtnlTest, GroupsGoTogether) {
  for (const char* name : {"a", "b", "c"}) {
    rtnl_->Apply(rtnl::CreateBridge(name, "", 0)).value();
    if (name[0] != 'c') rtnl_->Apply(rtnl::SetGroup(rtnl_->LinkIndex(name).value(), 77)).value();
  }
  rtnl_->Apply(rtnl::DeleteGroup(77)).value();
  EXPECT_FALSE(rtnl_->LinkIndex("a").ok());
  EXPECT_FALSE(rtnl_->LinkIndex("b").ok());
  EXPECT_TRUE(rtnl_->LinkIndex("c").ok());
}

TEST_F(RtnlTest, ErrorsSayWhatAndWhy) {
  EXPECT_EQ(rtnl_->GetLink("none").error().code(), Code::kNotFound);
  EXPECT_EQ(rtnl_->GetLink(std::string(40, 'x')).error().code(), Code::kNotFound);
  EXPECT_EQ(rtnl_->LinkIndex("none").error().code(), Code::kNotFound);
  EXPECT_EQ(rtnl_->GetLink(4711).error().code(), Code::kNotFound);
  rtnl_->Apply(rtnl::CreateBridge("br0", "", 0)).value();
  auto again = rtnl_->Apply(rtnl::CreateBridge("br0", "", 0));
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().sys_errno(), EEXIST);
  EXPECT_THAT(again.error().message(), HasSubstr("create bridge br0"));
  // Of several requests all are tried, and the first error is told.
  int index = rtnl_->LinkIndex("br0").value();
  std::vector<NetlinkMessage> messages;
  messages.push_back(rtnl::DeleteLink(4711));
  messages.push_back(rtnl::AddAddress(index, Address("10.0.0.1"), 24));
  messages.push_back(rtnl::AddAddress(index, Address("10.0.0.1"), 24));
  auto several = rtnl_->Apply(std::move(messages));
  ASSERT_FALSE(several.ok());
  EXPECT_EQ(several.error().sys_errno(), ENODEV);
  EXPECT_EQ(rtnl_->ListAddresses(IpFamily::kV4)->size(), 2u) << "127.0.0.1 and the new one";
}

TEST_F(RtnlTest, AddressesRoutesAndNeighbours) {
  rtnl_->Apply(rtnl::CreateBridge("br0", "", 0)).value();
  int index = rtnl_->LinkIndex("br0").value();
  EXPECT_EQ(rtnl_->DefaultRoute(IpFamily::kV4).error().code(), Code::kNotFound);
  for (auto [own, net, gateway] : {std::tuple("10.0.0.1", "10.0.0.0/24", "10.0.0.254"),
                                   std::tuple("fd00::1", "fd00::/64", "fd00::fe")}) {
    IpFamily family = Address(own).family();
    LinkAddress address{index, Address(own), Prefix(net).length()};
    rtnl_->Apply(rtnl::AddAddress(index, address.address, address.prefix_length)).value();
    EXPECT_THAT(rtnl_->ListAddresses(family).value(), Contains(address));
    Route direct{.destination = Prefix(net), .gateway = {}, .link = index, .source = Address(own)};
    Route out{.destination = IpPrefix::Of(Address(own), 0),
              .gateway = Address(gateway),
              .link = index,
              .metric = 50};
    Route worse = out;
    worse.metric = 500;
    for (const Route& route : {direct, worse, out}) {
      rtnl_->Apply(rtnl::ReplaceRoute(route)).value();
      rtnl_->Apply(rtnl::ReplaceRoute(route)).value();
    }
    auto routes = rtnl_->ListRoutes(family).value();
    EXPECT_TRUE(std::any_of(routes.begin(), routes.end(), [&](const Route& route) {
      return route.destination == direct.destination && route.link == index &&
             route.source == direct.source;
    }));
    EXPECT_EQ(rtnl_->DefaultRoute(family)->gateway, out.gateway);
    EXPECT_EQ(rtnl_->DefaultRoute(family)->metric, 50u);
    rtnl_->Apply(rtnl::DeleteRoute(out)).value();
    EXPECT_EQ(rtnl_->DefaultRoute(family)->metric, 500u);
    rtnl_->Apply(rtnl::ReplaceNeighbour(index, Address(gateway), "0a:58:00:00:00:09")).value();
    EXPECT_THAT(node_->Shell("ip neighbour"),
                HasSubstr(std::string(gateway) + " dev br0 lladdr "
                                                 "0a:58:00:00:00:09 PERMANENT"));
    rtnl_->Apply(rtnl::DeleteAddress(address)).value();
    EXPECT_THAT(rtnl_->ListAddresses(family).value(), ::testing::Not(Contains(address)));
  }
}

TEST_F(RtnlTest, NamespacesAndSysctls) {
  Netns home = Netns::Current().value();
  {
    auto scope = NetnsScope::Enter(pod_->netns()).value();
    EXPECT_EQ(Netns::Current()->id(), pod_->netns().id());
    ASSERT_TRUE(WriteNetSysctl("ipv4/ip_forward", "1").ok());
    EXPECT_EQ(ReadNetSysctl("ipv4/ip_forward").value(), "1");
    EXPECT_EQ(WriteNetSysctl("ipv4/no_such_thing", "1").error().code(), Code::kNotFound);
  }
  EXPECT_TRUE(*Netns::Current() == home);
  node_->Run([] { EXPECT_EQ(ReadNetSysctl("ipv4/ip_forward").value(), "0"); });
  EXPECT_EQ(Netns::Open("/proc/self/ns/uts").error().code(), Code::kInvalidArgument);
  EXPECT_EQ(Netns::Open("/etc/passwd").error().code(), Code::kInvalidArgument);
  EXPECT_EQ(Netns::Open("/no/such/path").error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace skiff::net
