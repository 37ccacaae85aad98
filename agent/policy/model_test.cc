#include "agent/policy/model.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "agent/policy/members.h"
#include "proto/skiff/node/v1/policy.pb.h"

namespace skiff::agent::policy {
namespace {

namespace link = skiff::node::v1;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

template <class T>
T Text(const std::string& text) {
  T message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message)) << text;
  return message;
}

std::vector<std::string> Ranges(const std::string& cidr, const std::vector<std::string>& except) {
  Block block{net::IpPrefix::Parse(cidr).value(), {}};
  for (const std::string& hole : except) block.except.push_back(*net::IpPrefix::Parse(hole));
  std::vector<std::string> texts;
  for (const AddressRange& range : RangesOf({block})) {
    texts.push_back(range.first.ToString() + "-" + range.last.ToString());
  }
  return texts;
}

TEST(RangesTest, ExceptionsAreHoles) {
  EXPECT_THAT(Ranges("10.0.0.0/8", {}), ElementsAre("10.0.0.0-10.255.255.255"));
  EXPECT_THAT(Ranges("10.0.0.0/8", {"10.1.0.0/16"}),
              ElementsAre("10.0.0.0-10.0.255.255", "10.2.0.0-10.255.255.255"));
  EXPECT_THAT(Ranges("10.0.0.0/8", {"10.0.0.0/9", "10.0.0.0/16"}),
              ElementsAre("10.128.0.0-10.255.255.255"));
  EXPECT_THAT(Ranges("0.0.0.0/0", {"255.255.255.255/32", "0.0.0.0/32"}),
              ElementsAre("0.0.0.1-255.255.255.254"));
  EXPECT_THAT(Ranges("::/0", {"fd00::/8"}),
              ElementsAre("::-fcff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                          "fe00::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
  EXPECT_THAT(Ranges("10.0.0.0/31", {"10.0.0.0/32", "10.0.0.1/32"}), IsEmpty());
}

TEST(RangesTest, BlocksAreJoined) {
  std::vector<Block> blocks;
  for (const char* cidr : {"10.0.1.0/24", "10.0.0.0/24", "10.0.0.128/25", "fd00::/64"}) {
    blocks.push_back({net::IpPrefix::Parse(cidr).value(), {}});
  }
  std::vector<AddressRange> ranges = RangesOf(blocks);
  ASSERT_EQ(ranges.size(), 2u);
  EXPECT_EQ(ranges[0].first.ToString(), "10.0.0.0");
  EXPECT_EQ(ranges[0].last.ToString(), "10.0.1.255");
  // A hole of one block is none of another.
  blocks = {{*net::IpPrefix::Parse("10.0.0.0/8"), {*net::IpPrefix::Parse("10.1.0.0/16")}},
            {*net::IpPrefix::Parse("10.1.2.0/24"), {}}};
  EXPECT_EQ(RangesOf(blocks).size(), 3u);
}

TEST(ReadPolicyTest, TakesWhatTheControlPlaneWrites) {
  auto policy = ReadPolicy("ns", Text<link::NetworkPolicy>(R"text(
      pod_selector: "app=web,tier in (a,b)" isolates_ingress: true
      ingress { any_peer: true ports { protocol: "TCP" port: 80 end_port: 90 }
                ports { protocol: "UDP" } ports { protocol: "SCTP" port: 1 }
                ports { protocol: "TCP" name: "http" } }
      ingress { sets: "A" any_port: true blocks { cidr: "10.0.0.0/8" except: "10.1.0.0/16" } })text"));
  ASSERT_TRUE(policy.ok()) << policy.error().message();
  EXPECT_EQ(policy->pods.ToString(), "app=web,tier in (a,b)");
  ASSERT_EQ(policy->ingress.size(), 2u);
  EXPECT_THAT(policy->ingress[0].ports,
              ElementsAre(PortRange{6, 80, 90}, PortRange{17, 0, 65535}, PortRange{132, 1, 1}));
  EXPECT_THAT(policy->ingress[0].names, ElementsAre(PortName{6, "http"}));
  EXPECT_EQ(policy->ingress[1].ranges.size(), 2u);
}

TEST(ReadPolicyTest, RefusesWhatMakesNoSense) {
  for (const char* text :
       {"pod_selector: 'a in'", "ingress { blocks { cidr: '10.0.0.1/8' } }",
        "ingress { blocks { cidr: '' } }", "egress { ports { protocol: 'ICMP' port: 1 } }",
        "egress { ports { protocol: 'TCP' port: 70000 } }",
        "egress { ports { protocol: 'TCP' port: 80 end_port: 79 } }",
        "egress { ports { protocol: 'TCP' port: 80 end_port: 70000 } }"}) {
    auto policy = ReadPolicy("ns", Text<link::NetworkPolicy>(text));
    ASSERT_FALSE(policy.ok()) << text;
    EXPECT_EQ(policy.error().code(), Code::kInvalidArgument);
  }
  for (const char* text :
       {"members { address: 'abc' }", "members { address: 'abcd' port: 80 }",
        "members { address: 'abcd' protocol: 'TCP' }",
        "members { address: 'abcd' protocol: 'TCP' port: 70000 }", "members { }"}) {
    EXPECT_FALSE(ReadPart(Text<link::AddressSetPart>(text)).ok()) << text;
  }
}

Member At(uint8_t last) { return {net::IpAddress::V4(10, 0, 0, last), 0, 0}; }

TEST(MemberSetsTest, PartsMakeSets) {
  MemberSets sets;
  sets.SetPart("A.0", {At(1), At(2)});
  sets.SetPart("A.1", {At(2)});
  sets.SetPart("B.0", {At(9)});
  EXPECT_EQ(sets.Find("A")->size(), 2u);
  EXPECT_THAT(sets.TakeTouched()["A"], ElementsAre(At(1), At(2)));
  // An address that one pod gave up and another got stays.
  sets.SetPart("A.0", {At(1)});
  EXPECT_TRUE(sets.Find("A")->contains(At(2)));
  sets.SetPart("A.1", {});
  EXPECT_FALSE(sets.Find("A")->contains(At(2)));
  sets.KeepOnly({"B.0"});
  EXPECT_EQ(sets.Find("A"), nullptr);
  EXPECT_THAT(sets.TakeTouched()["A"], ElementsAre(At(1), At(2)));
  EXPECT_THAT(sets.TakeTouched(), IsEmpty());
}

}  // namespace
}  // namespace skiff::agent::policy
