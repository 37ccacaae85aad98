#include "base/net/nft_rule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/net/fake_nft.h"
#include "base/net/nft.h"

namespace skiff::net::nft {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

IpAddress Address(std::string_view text) { return IpAddress::Parse(text).value(); }

TEST(NftKey, FieldsArePaddedAsRegistersHoldThem) {
  Bytes key = Key().Add(Address("10.0.0.1")).Protocol(6).Port(0x1234);
  EXPECT_EQ(key, Bytes("\x0a\0\0\x01\x06\0\0\0\x12\x34\0\0", 12));
  Set set{.name = "s", .key = {Type::kIp4, Type::kProtocol, Type::kPort}};
  EXPECT_EQ(set.key_size(), key.size());
  EXPECT_EQ(Bytes(Key().Interface("eth0")).size(), 16u);
}

TEST(NftBody, SaysWhatTheKernelWillCallIt) {
  Rule rule{.chain = "c",
            .body = Body()
                        .In(End::kSource, IpPrefix::Parse("10.0.0.0/8").value())
                        .Is(Source::L4Protocol(), Key().Protocol(6))
                        .InSet({Source::Address(IpFamily::kV4, End::kDestination), Source::Port()},
                               "open")
                        .SetMarkBits(0x4000)
                        .Decide(Verdict::Goto("next"))};
  EXPECT_THAT(ExpressionNames(rule),
              ElementsAre("payload", "bitwise", "cmp", "meta", "cmp", "payload", "payload",
                          "lookup", "meta", "bitwise", "meta", "immediate"));
  EXPECT_THAT(ChainsOf(rule), ElementsAre("next"));
  EXPECT_THAT(SetsOf(rule), ElementsAre("open"));
  // A host's prefix needs no mask, and a single field no padding.
  Body host = Body().In(End::kSource, IpPrefix::Parse("10.0.0.1/32").value());
  EXPECT_THAT(host.steps(), SizeIs(2));
  EXPECT_EQ(std::get<Compare>(Body().Is(Source::Port(), Key().Port(80)).steps().back()).value,
            Bytes("\0\x50", 2));
}

TEST(NftBody, PrefixMasks) {
  EXPECT_EQ(PrefixMask(IpPrefix::Parse("10.0.0.0/9").value()), Bytes("\xff\x80\0\0", 4));
  EXPECT_EQ(PrefixMask(IpPrefix::Parse("::/0").value()), Bytes(16, '\0'));
}

TEST(NftTransaction, ElementsOfOneSetTravelTogether) {
  Set a{.name = "a", .key = {Type::kMark}}, b{.name = "b", .key = {Type::kMark}};
  Transaction change(Table{Family::kIp4, "t"});
  for (uint32_t i = 0; i < 3; ++i) change.AddElement(a, {.key = Key().Mark(i)});
  change.AddElement(b, {.key = Key().Mark(1)}).DeleteElement(b, {.key = Key().Mark(2)});
  ASSERT_THAT(change.operations(), SizeIs(3));
  EXPECT_EQ(Describe(change.table(), change.operations()[0], 2),
            "nftables: add elements to ip t a (from key 02000000)");
}

TEST(FakeNft, FailsWhenTold) {
  FakeNft nft;
  nft.FailNext(Error(Code::kUnavailable, "busy"));
  Table table{Family::kIp4, "t"};
  EXPECT_FALSE(nft.Commit(Transaction(table).AddTable()).ok());
  EXPECT_EQ(nft.TableHandle(table).error().code(), Code::kNotFound);
  EXPECT_TRUE(nft.Commit(Transaction(table).AddTable()).ok());
  EXPECT_THAT(nft.TakeCommits(), SizeIs(1));
  nft.FlushRuleset();
  auto missing = nft.List(table);
  ASSERT_FALSE(missing.ok());
  EXPECT_THAT(missing.error().message(), HasSubstr("ip t"));
}

}  // namespace
}  // namespace skiff::net::nft
