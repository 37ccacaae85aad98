#include "cni/rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/net/fake_iptables.h"
#include "cni/test_addresses.h"

namespace skiff::cni {
namespace {

using ::testing::ElementsAre;
using ::testing::Optional;

constexpr net::IpFamily kV4 = net::IpFamily::kV4;

NodeRulesSpec Spec() {
  return {.family = kV4,
          .bridge = "skiff0",
          .pod_cidrs = {Prefix("10.244.1.0/24")},
          .cluster_cidrs = {Prefix("10.244.0.0/16")}};
}

Lease PodWithPorts(const std::string& id, const std::string& address,
                   std::vector<PortMapping> ports) {
  Lease lease{
      .sandbox_id = id, .pod_namespace = "ns", .pod_name = "web", .ports = std::move(ports)};
  lease.attachment.addresses = {{Address(address), Address("10.244.1.1")}};
  return lease;
}

std::string Plan(net::FakeIptables& iptables, const std::vector<Lease>& leases) {
  auto nat = net::MissingJumps(iptables, kV4, "nat", NatJumps()).value();
  auto filter = net::MissingJumps(iptables, kV4, "filter", FilterJumps()).value();
  return PlanNodeRules(Spec(), leases, nat, filter);
}

bool IsOurs(std::string_view chain) { return IsNodeChain(kNodeChains, chain); }

TEST(CniRules, MasqueradesWhatLeavesTheCluster) {
  net::FakeIptables iptables;
  ASSERT_TRUE(iptables.Restore(kV4, Plan(iptables, {})).ok());
  EXPECT_THAT(iptables.Rules(kV4, "nat", "SKIFF-POSTROUTING"),
              Optional(ElementsAre(
                  "-m mark --mark 0x2000/0x2000 -j MASQUERADE --random-fully",
                  "-s 127.0.0.0/8 -o skiff0 -j MASQUERADE --random-fully",
                  "-s 10.244.1.0/24 -d 10.244.0.0/16 -j RETURN",
                  "-s 10.244.1.0/24 -d 224.0.0.0/4 -j RETURN",
                  "-s 10.244.1.0/24 -m comment --comment \"pods to the outside\" -j MASQUERADE "
                  "--random-fully")));
  EXPECT_THAT(iptables.Rules(kV4, "filter", "SKIFF-FORWARD"),
              Optional(ElementsAre("-s 10.244.1.0/24 -j ACCEPT", "-d 10.244.1.0/24 -j ACCEPT",
                                   "-m mark --mark 0x4000/0x4000 -j ACCEPT",
                                   "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")));
}

// skiff-cni's networks are beside the built-in one, each with chains of its own.
TEST(CniRules, ChainsAreNamedAfterTheNetwork) {
  net::FakeIptables iptables;
  NodeRulesSpec spec = Spec();
  spec.chains = "SKCABCDE";
  const std::vector<Lease> leases{
      PodWithPorts("a", "10.244.1.5", {{Protocol::kTcp, 80, 8080, {}}})};
  const std::string plan =
      PlanNodeRules(spec, leases, NatJumps(spec.chains), FilterJumps(spec.chains));
  EXPECT_EQ(plan.find("SKIFF-"), std::string::npos) << plan;
  EXPECT_TRUE(iptables.Restore(kV4, plan).ok());
}

// Others' chains have names like the built-in network's own; they stay when it goes.
TEST(CniRules, OthersChainsAreNotTheNetworks) {
  for (const char* own : {"SKIFF-FORWARD", "SKIFF-HOSTPORTS", "SKIFF-HP-XJ4BNP4PAHH6UQKB"}) {
    EXPECT_TRUE(IsNodeChain("SKIFF", own)) << own;
  }
  for (const char* other : {"SKIFF-DNS", "SKIFF-LB", "SKIFF-PODS", "SKCABCDE-FORWARD", "SKIFF"}) {
    EXPECT_FALSE(IsNodeChain("SKIFF", other)) << other;
  }
}

TEST(CniRules, AppliedAgainChangesNothing) {
  net::FakeIptables iptables;
  std::vector<Lease> leases{PodWithPorts("a", "10.244.1.5", {{Protocol::kTcp, 80, 8080, {}}})};
  ASSERT_TRUE(iptables.Restore(kV4, Plan(iptables, leases)).ok());
  std::string nat = iptables.Save(kV4, "nat").value(),
              filter = iptables.Save(kV4, "filter").value();
  ASSERT_TRUE(iptables.Restore(kV4, Plan(iptables, leases)).ok());
  EXPECT_EQ(iptables.Save(kV4, "nat").value(), nat);
  EXPECT_EQ(iptables.Save(kV4, "filter").value(), filter);
}

TEST(CniRules, HostPortsComeAndGo) {
  net::FakeIptables iptables;
  ASSERT_TRUE(iptables.Restore(kV4, Plan(iptables, {})).ok());
  Lease web = PodWithPorts("abc", "10.244.1.5", {{Protocol::kTcp, 80, 8080, Address("192.0.2.1")}});
  Lease dns = PodWithPorts("def", "10.244.1.6", {{Protocol::kUdp, 53, 5353, {}}});
  ASSERT_TRUE(iptables.Restore(kV4, PlanHostPorts(Spec(), {web, dns}, nullptr)).ok());
  EXPECT_THAT(iptables.Rules(kV4, "nat", "SKIFF-HP-XJ4BNP4PAHH6UQKB"),
              Optional(ElementsAre("-s 10.244.1.5/32 -d 192.0.2.1/32 -p tcp -m tcp --dport 80 "
                                   "-j SKIFF-MARK-MASQ",
                                   "-s 127.0.0.0/8 -d 192.0.2.1/32 -p tcp -m tcp --dport 80 "
                                   "-j SKIFF-MARK-MASQ",
                                   "-d 192.0.2.1/32 -p tcp -m tcp --dport 80 "
                                   "-j DNAT --to-destination 10.244.1.5:8080")));
  EXPECT_EQ(iptables.Rules(kV4, "nat", "SKIFF-HOSTPORTS")->size(), 2u);

  ASSERT_TRUE(iptables.Restore(kV4, PlanHostPorts(Spec(), {dns}, &web)).ok());
  EXPECT_FALSE(iptables.ChainExists(kV4, "nat", "SKIFF-HP-XJ4BNP4PAHH6UQKB").value());
  EXPECT_EQ(iptables.Rules(kV4, "nat", "SKIFF-HOSTPORTS")->size(), 1u);
  // Once more, as after a crash in between.
  ASSERT_TRUE(iptables.Restore(kV4, PlanHostPorts(Spec(), {dns}, &web)).ok());

  ASSERT_TRUE(net::RemoveChains(iptables, kV4, "nat", IsOurs).ok());
  ASSERT_TRUE(net::RemoveChains(iptables, kV4, "filter", IsOurs).ok());
  EXPECT_EQ(iptables.Save(kV4, "nat").value(), net::FakeIptables().Save(kV4, "nat").value());
  EXPECT_EQ(iptables.Save(kV4, "filter").value(), net::FakeIptables().Save(kV4, "filter").value());
  EXPECT_TRUE(net::RemoveChains(iptables, kV4, "nat", IsOurs).ok());
}

}  // namespace
}  // namespace skiff::cni
