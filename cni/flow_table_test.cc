#include "cni/flow_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "base/net/fake_nft.h"
#include "cni/test_addresses.h"

namespace skiff::cni {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

FlowTableSpec DualStack() {
  return {.links = {"skiff-vxlan", "skiff0"},
          .ranges = {Prefix("10.244.0.0/16"), Prefix("fd42:244::/48")}};
}

TEST(FlowTableTest, IsOfTheLinksAndOneRuleAFamily) {
  net::FakeNft nft;
  for (int times = 0; times < 2; ++times) {  // what is there already is replaced
    ASSERT_TRUE(nft.Commit(PlanFlowTable(DualStack())).ok());
    EXPECT_THAT(
        nft.ListFlowtables(FlowsTable()).value(),
        ElementsAre(net::nft::Flowtable{.name = "pods", .devices = {"skiff-vxlan", "skiff0"}}));
    EXPECT_THAT(nft.Rules(FlowsTable(), kFlowsChain), SizeIs(2));
    EXPECT_EQ(FlowRules(DualStack()), 2u);
  }
  FlowTableSpec without_overlay = DualStack();
  without_overlay.links = {"skiff0"};
  ASSERT_TRUE(nft.Commit(PlanFlowTable(without_overlay)).ok());
  EXPECT_THAT(nft.ListFlowtables(FlowsTable()).value().front().devices, ElementsAre("skiff0"));
}

TEST(FlowTableTest, ComesBehindThePolicies) {
  net::FakeNft nft;
  ASSERT_TRUE(nft.Commit(PlanFlowTable(DualStack())).ok());
  const auto chains = nft.List(FlowsTable()).value().chains;
  ASSERT_THAT(chains, SizeIs(1));
  EXPECT_EQ(chains[0].base->hook, net::nft::Hook::kForward);
  EXPECT_GT(chains[0].base->priority, net::nft::kPriorityFilter + 11);
}

TEST(FlowTableTest, TakesTcpOfEstablishedConnectionsAlone) {
  net::FakeNft nft;
  ASSERT_TRUE(nft.Commit(PlanFlowTable(DualStack())).ok());
  for (const net::nft::Rule& rule : nft.Rules(FlowsTable(), kFlowsChain)) {
    EXPECT_EQ(net::nft::ExpressionNames(rule).back(), "flow_offload");
    bool tcp = false, established = false;
    for (const net::nft::Step& step : rule.body.steps()) {
      const auto* compare = std::get_if<net::nft::Compare>(&step);
      tcp |= compare != nullptr && compare->equal && compare->value == net::nft::Bytes("\6");
      const auto* load = std::get_if<net::nft::Load>(&step);
      established |=
          load != nullptr && std::holds_alternative<net::nft::Source::CtState>(load->source.value);
    }
    EXPECT_TRUE(tcp && established);
  }
}

TEST(FlowTableTest, GoesAway) {
  net::FakeNft nft;
  EXPECT_TRUE(RemoveFlowTable(nft).ok()) << "where there is none";
  ASSERT_TRUE(nft.Commit(PlanFlowTable(DualStack())).ok());
  ASSERT_TRUE(nft.Commit(PlanFlowTable({.links = {}, .ranges = DualStack().ranges})).ok());
  EXPECT_FALSE(nft.TableHandle(FlowsTable()).ok()) << "without links";
  ASSERT_TRUE(nft.Commit(PlanFlowTable(DualStack())).ok());
  EXPECT_TRUE(RemoveFlowTable(nft).ok());
  EXPECT_FALSE(nft.TableHandle(FlowsTable()).ok());
}

TEST(FlowTableTest, TryingLeavesNothing) {
  net::FakeNft nft;
  EXPECT_TRUE(CheckFlowTables(nft).ok());
  EXPECT_FALSE(nft.TableHandle({FlowsTable().family, "skiff-flows-check"}).ok());
  nft.FailNext(Error::Sys(ENOENT, "add flowtable"));
  EXPECT_EQ(CheckFlowTables(nft).error().code(), Code::kUnimplemented);
}

}  // namespace
}  // namespace skiff::cni
