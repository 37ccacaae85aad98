#include "base/net/iptables_tables.h"

#include <gtest/gtest.h>

#include "base/net/fake_nft.h"

namespace skiff::net {
namespace {

using nft::Body;
using nft::Chain;
using nft::Family;
using nft::Table;
using nft::Transaction;
using nft::Verdict;

class BareTablesTest : public testing::Test {
 protected:
  static Chain Base(const std::string& name, bool drop = false) {
    return {.name = name, .base = nft::BaseChain{.hook = nft::Hook::kForward, .drop = drop}};
  }
  void Make(const Table& table, const std::vector<Chain>& chains) {
    Transaction change(table);
    change.AddTable();
    for (const Chain& chain : chains) change.AddChain(chain);
    ASSERT_TRUE(nft_.Commit(std::move(change)).ok());
  }
  bool Exists(const Table& table) { return nft_.List(table).ok(); }

  FakeNft nft_;
};

TEST_F(BareTablesTest, WhatDoesNothingGoes) {
  Make({Family::kIp4, "nat"}, {Base("PREROUTING"), Base("OUTPUT")});
  Make({Family::kIp6, "filter"}, {Base("FORWARD")});
  Make({Family::kIp4, "raw"}, {});
  ASSERT_TRUE(RemoveBareIptablesTables(nft_).ok());
  EXPECT_FALSE(Exists({Family::kIp4, "nat"}));
  EXPECT_FALSE(Exists({Family::kIp6, "filter"}));
  EXPECT_FALSE(Exists({Family::kIp4, "raw"}));
  EXPECT_TRUE(RemoveBareIptablesTables(nft_).ok());
}

TEST_F(BareTablesTest, WhatIsSomebodysStays) {
  const Table rules{Family::kIp4, "filter"}, policy{Family::kIp6, "filter"};
  const Table chain{Family::kIp4, "nat"}, own{Family::kIp4, "mangle"}, other{Family::kIp4, "mine"};
  Make(rules, {Base("FORWARD")});
  ASSERT_TRUE(
      nft_.Commit(Transaction(rules).AddRule({"FORWARD", Body().Decide(Verdict::Accept())})).ok());
  Make(policy, {Base("INPUT", /*drop=*/true)});
  Make(chain, {Base("PREROUTING"), {.name = "DOCKER"}});
  Make(own, {Base("my-input")});
  Make(other, {Base("INPUT")});
  ASSERT_TRUE(RemoveBareIptablesTables(nft_).ok());
  for (const Table& table : {rules, policy, chain, own, other}) {
    EXPECT_TRUE(Exists(table)) << table.ToString();
  }
}

}  // namespace
}  // namespace skiff::net
