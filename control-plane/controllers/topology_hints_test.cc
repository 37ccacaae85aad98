#include "control-plane/controllers/topology_hints.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/service.pb.h"

namespace skiff::cp {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

ZoneCpu Cpu(std::map<std::string, int64_t> cpu) { return cpu; }

TEST(TopologyHintsTest, EndpointsStayInTheirZones) {
  ZoneHints hints = AssignZones(Cpu({{"a", 4000}, {"b", 4000}}), {"a", "b", "b", "a"});
  EXPECT_EQ(hints.why_not, "");
  EXPECT_THAT(hints.zones, ElementsAre("a", "b", "b", "a"));
}

TEST(TopologyHintsTest, AZoneWithTooFewGetsSomeOfOthers) {
  // Each is to have two of four, and at least two when it is rounded up.
  ZoneHints hints = AssignZones(Cpu({{"a", 4000}, {"b", 4000}}), {"a", "a", "a", "b"});
  EXPECT_THAT(hints.zones, ElementsAre("a", "a", "b", "b"));
  // b has a third of the CPU: its share is two.
  hints = AssignZones(Cpu({{"a", 8000}, {"b", 4000}}), {"a", "a", "a", "a", "a", "a"});
  EXPECT_EQ(std::count(hints.zones.begin(), hints.zones.end(), "b"), 2);
  // A zone without nodes that count: its endpoints serve the others.
  hints = AssignZones(Cpu({{"a", 4000}, {"b", 4000}}), {"c", "a", "c", "b"});
  EXPECT_THAT(hints.zones, ElementsAre("a", "a", "b", "b"));
}

TEST(TopologyHintsTest, SmallImbalancesAreLeftAlone) {
  std::vector<std::string> zones(11, "a");
  zones.resize(20, "b");
  EXPECT_EQ(AssignZones(Cpu({{"a", 1000}, {"b", 1000}}), zones).zones, zones);
}

TEST(TopologyHintsTest, SaysWhyNot) {
  const ZoneCpu two = Cpu({{"a", 4000}, {"b", 4000}});
  EXPECT_THAT(AssignZones(std::nullopt, {"a", "b"}).why_not, HasSubstr("Insufficient Node info"));
  EXPECT_EQ(AssignZones(Cpu({{"a", 4000}}), {"a", "a"}).why_not, "Nodes only ready in one zone");
  EXPECT_EQ(AssignZones(two, {"a"}).why_not, "Insufficient number of endpoints");
  EXPECT_THAT(AssignZones(two, {"a", "b", "a"}).why_not, HasSubstr("overload threshold"));
  EXPECT_THAT(AssignZones(two, {"a", "b", "", "a"}).why_not, HasSubstr("do not have a zone"));
}

TEST(TopologyHintsTest, WhichNodesCount) {
  k8s::core::v1::Node node;
  EXPECT_FALSE(TopologyOf(node).counts);
  auto& ready = *node.mutable_status()->add_conditions();
  ready.set_type("Ready");
  ready.set_status("True");
  (*node.mutable_status()->mutable_allocatable())["cpu"].set_string("1500m");
  (*node.mutable_metadata()->mutable_labels())["topology.kubernetes.io/zone"] = "a";
  EXPECT_EQ(TopologyOf(node), (NodeTopology{true, "a", 1500}));
  EXPECT_EQ(CpuByZone({TopologyOf(node), TopologyOf(node)}),
            (std::map<std::string, int64_t>{{"a", 3000}}));
  EXPECT_EQ(CpuByZone({TopologyOf(node), {true, "", 1000}}), std::nullopt);
  (*node.mutable_metadata()->mutable_labels())["node-role.kubernetes.io/control-plane"] = "";
  EXPECT_FALSE(TopologyOf(node).counts);
}

TEST(TopologyHintsTest, TheAnnotationAsks) {
  k8s::core::v1::Service service;
  EXPECT_FALSE(WantsTopologyHints(service));
  auto& annotations = *service.mutable_metadata()->mutable_annotations();
  annotations["service.kubernetes.io/topology-aware-hints"] = "auto";
  EXPECT_TRUE(WantsTopologyHints(service));
  annotations["service.kubernetes.io/topology-mode"] = "Disabled";
  EXPECT_FALSE(WantsTopologyHints(service));
}

}  // namespace
}  // namespace skiff::cp
