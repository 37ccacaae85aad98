#include "agent/dns/message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace skiff::agent::dns {
namespace {

using testing::ElementsAre;

std::string AsQuery(const std::string& name, uint16_t type) {
  return WriteQuery(0x1234, *ParseName(name), type, false, false);
}

net::IpAddress Ip(const std::string& text) { return *net::IpAddress::Parse(text); }

TEST(NameTest, TextAndWire) {
  EXPECT_EQ(ParseName("Web.Default."), "\3web\7default");
  EXPECT_EQ(NameText("\3web\7default"), "web.default");
  EXPECT_EQ(NameText(""), ".");
  EXPECT_EQ(NameText(Name("\3a.b", 4)), "a\\046b");
  for (const std::string& bad : {std::string(), std::string("."), std::string("a..b"),
                                 std::string(64, 'a'), std::string(".a")}) {
    EXPECT_FALSE(ParseName(bad)) << bad;
  }
  EXPECT_TRUE(ParseName(std::string(63, 'a')));
  std::string longest;
  for (int i = 0; i < 127; ++i) longest += "a.";
  EXPECT_TRUE(ParseName(longest)) << "254 bytes and the root";
  EXPECT_FALSE(ParseName(longest + "a"));
}

TEST(NameTest, Zones) {
  Name zone = *ParseName("cluster.local");
  EXPECT_TRUE(IsWithin(zone, zone));
  EXPECT_TRUE(IsWithin(*ParseName("a.cluster.local"), zone));
  EXPECT_FALSE(IsWithin(*ParseName("notcluster.local"), zone));
  EXPECT_FALSE(IsWithin(*ParseName("local"), zone));
  EXPECT_THAT(Labels(zone), ElementsAre("cluster", "local"));
}

TEST(NameTest, Reverse) {
  EXPECT_EQ(ParseReverse(*ParseName("4.3.2.1.in-addr.arpa")), Ip("1.2.3.4"));
  EXPECT_EQ(ParseReverse(*ParseName("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d."
                                    "f.ip6.arpa")),
            Ip("fd00::1"));
  EXPECT_FALSE(ParseReverse(*ParseName("3.2.1.in-addr.arpa")));
  EXPECT_FALSE(ParseReverse(*ParseName("256.3.2.1.in-addr.arpa")));
  EXPECT_FALSE(ParseReverse(*ParseName("4.3.2.1.in-addr.example")));
}

TEST(QueryTest, ReadsAQuestion) {
  auto parsed = ParseQuery(AsQuery("WEB.default.svc.cluster.local", kAaaa));
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->rcode, Rcode::kNoError);
  EXPECT_EQ(parsed->query.id, 0x1234);
  EXPECT_EQ(NameText(parsed->query.name), "web.default.svc.cluster.local");
  EXPECT_EQ(parsed->query.type, kAaaa);
  EXPECT_TRUE(parsed->query.edns);
  EXPECT_EQ(parsed->query.udp_bytes, kMaxUdpBytes);
}

TEST(QueryTest, EveryCutIsMalformedOrSilent) {
  std::string message = AsQuery("web.default.svc.cluster.local", kA);
  for (size_t size = 0; size < message.size(); ++size) {
    auto parsed = ParseQuery(message.substr(0, size));
    if (size < kHeaderBytes) {
      EXPECT_FALSE(parsed) << size;
    } else {
      ASSERT_TRUE(parsed) << size;
      EXPECT_EQ(parsed->rcode, Rcode::kFormErr) << size;
    }
  }
}

TEST(QueryTest, OddMessages) {
  std::string message = AsQuery("web", kA);
  std::string response = message;
  response[2] = static_cast<char>(response[2] | 0x80);
  EXPECT_FALSE(ParseQuery(response))
      << "an answer to a response would make two servers talk for ever";
  std::string update = message;
  update[2] = 5 << 3;
  EXPECT_EQ(ParseQuery(update)->rcode, Rcode::kNotImp);
  std::string two = message;
  two[5] = 2;
  EXPECT_EQ(ParseQuery(two)->rcode, Rcode::kFormErr);
  std::string version = message;
  version[version.size() - 5] = 1;
  EXPECT_EQ(ParseQuery(version)->rcode, Rcode::kBadVers);
  std::string loop = message.substr(0, kHeaderBytes) + std::string("\xc0\x0c\0\1\0\1", 6);
  EXPECT_EQ(ParseQuery(loop)->rcode, Rcode::kFormErr) << "a name that points to itself";
}

TEST(ResponseTest, RoundTrip) {
  auto parsed = ParseQuery(AsQuery("web.default", kA));
  Name name = parsed->query.name;
  Answer answer;
  answer.answers = {AddressRecord(name, Ip("10.0.0.1"), 5), AddressRecord(name, Ip("fd00::1"), 5),
                    SrvRecord(name, 80, 100, *ParseName("a.b"), 7),
                    NameRecord(name, kCname, *ParseName("c.d"), 8)};
  answer.authority = {SoaRecord(*ParseName("default"), 1, 5)};
  answer.additional = {TextRecord(name, "hello", 9)};
  std::string bytes = WriteResponse(parsed->query, answer, kMaxUdpBytes);
  auto read = ParseResponse(bytes);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->id, 0x1234);
  EXPECT_EQ(read->name, name);
  ASSERT_EQ(read->answers.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(read->answers[i].name, name);
    EXPECT_EQ(read->answers[i].data, answer.answers[i].data) << i;
    EXPECT_EQ(read->answers[i].ttl, answer.answers[i].ttl);
  }
  EXPECT_EQ(read->authority[0].data, answer.authority[0].data);
  EXPECT_EQ(read->additional.size(), 1u) << "OPT is not a record";
  EXPECT_LT(bytes.size(), 230u) << "owner names are compressed";
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(ParseResponse(bytes.substr(0, size)) && size < bytes.size() - 11) << size;
  }
}

TEST(ResponseTest, WhatDoesNotFitSetsTheTruncatedBit) {
  auto parsed = ParseQuery(AsQuery("web.default", kA));
  Answer answer;
  for (uint8_t i = 0; i < 200; ++i) {
    answer.answers.push_back(AddressRecord(parsed->query.name, net::IpAddress::V4(10, 0, 0, i), 5));
  }
  std::string bytes = WriteResponse(parsed->query, answer, 512);
  EXPECT_LE(bytes.size(), 512u);
  EXPECT_TRUE(ParseResponse(bytes)->truncated);
  bytes = WriteResponse(parsed->query, answer, kMaxMessageBytes);
  EXPECT_FALSE(ParseResponse(bytes)->truncated);
  EXPECT_EQ(ParseResponse(bytes)->answers.size(), 200u);

  Answer few;
  few.answers = {answer.answers[0]};
  few.additional = answer.answers;
  bytes = WriteResponse(parsed->query, few, 512);
  EXPECT_FALSE(ParseResponse(bytes)->truncated) << "additional records are a courtesy";
}

TEST(ResponseTest, ErrorsKeepIdAndOpcode) {
  std::string message = AsQuery("web", kA);
  message[2] = 5 << 3;
  std::string error = WriteError(message, Rcode::kNotImp);
  ASSERT_EQ(error.size(), kHeaderBytes);
  EXPECT_EQ(error.substr(0, 2), message.substr(0, 2));
  EXPECT_EQ(static_cast<uint8_t>(error[2]), 0x80 | 5 << 3);
  EXPECT_EQ(error[3], 4);
}

}  // namespace
}  // namespace skiff::agent::dns
