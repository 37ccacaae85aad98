// Affinity between pods and topology spread: pure functions over a small cluster.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <map>

#include "control-plane/scheduler/node_info.h"
#include "control-plane/scheduler/pod_affinity.h"
#include "control-plane/scheduler/testing_objects.h"
#include "control-plane/scheduler/topology_spread.h"
#include "proto/codec/testing.h"
#include "proto/k8s/core/v1/namespace.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::Pod;
using testing::ElementsAre;
using testing::IsEmpty;

Pod PodOf(const std::string& name, const std::string& yaml) {
  Pod pod = *codec::testing::FromYaml<Pod>(yaml);
  pod.mutable_metadata()->set_name(name);
  pod.mutable_metadata()->set_uid(name);
  if (pod.metadata().namespace_().empty()) pod.mutable_metadata()->set_namespace_("ns");
  return pod;
}

// Nodes a1 and a2 in zone a, b1 in zone b, and one in no zone.
class NeighboursTest : public testing::Test {
 protected:
  NeighboursTest() {
    for (const char* name : {"a1", "a2", "b1", "none"}) {
      auto node = std::make_shared<k8s::core::v1::Node>(MakeNode(name, "4", "8Gi", "110"));
      auto& labels = *node->mutable_metadata()->mutable_labels();
      labels["kubernetes.io/hostname"] = name;
      if (name != std::string("none")) labels["zone"] = std::string(name, 1);
      infos_.emplace_back().SetNode(node);
      nodes_.push_back(&infos_.back());
    }
    namespaces_["ns"]["team"] = "web";
    namespaces_["other"]["team"] = "ops";
  }
  void Put(const std::string& node, const std::string& name, const std::string& yaml) {
    for (NodeInfo& info : infos_) {
      if (info.node()->metadata().name() == node) {
        info.AddPod(std::make_shared<Pod>(PodOf(name, yaml)));
      }
    }
  }
  NamespaceLabels LabelsOf() {
    return [this](const std::string& ns) -> const codec::LabelMap* {
      auto found = namespaces_.find(ns);
      return found == namespaces_.end() ? nullptr : &found->second;
    };
  }
  // The nodes that can take it.
  std::vector<std::string> AffinityAllows(const std::string& yaml) {
    Pod pod = PodOf("new", yaml);
    return Names(PodAffinity(pod, nodes_, LabelsOf()));
  }
  std::vector<std::string> SpreadAllows(const std::string& yaml) {
    Pod pod = PodOf("new", yaml);
    return Names(TopologySpread(pod, nodes_));
  }
  template <class Rule>
  std::vector<std::string> Names(const Rule& rule) {
    std::vector<std::string> names;
    for (const NodeInfo* node : nodes_) {
      if (rule.WhyNot(*node).empty()) names.push_back(node->node()->metadata().name());
    }
    return names;
  }
  std::vector<int64_t> AffinityScores(const std::string& yaml) {
    Pod pod = PodOf("new", yaml);
    return PodAffinity(pod, nodes_, LabelsOf()).Score(nodes_);
  }
  std::vector<int64_t> SpreadScores(const std::string& yaml) {
    Pod pod = PodOf("new", yaml);
    return TopologySpread(pod, nodes_).Score(nodes_);
  }

  std::deque<NodeInfo> infos_;
  std::vector<const NodeInfo*> nodes_;
  std::map<std::string, codec::LabelMap> namespaces_;
};

const char kCache[] = "metadata: {labels: {app: cache}}";
const char kWeb[] = "metadata: {labels: {app: web}}";

// A pod of these labels with one required term.
std::string Required(const std::string& kind, const std::string& term,
                     const std::string& labels = "app: web") {
  return "metadata: {labels: {" + labels + "}}\nspec: {affinity: {" + kind +
         ": {requiredDuringSchedulingIgnoredDuringExecution: [{" + term + "}]}}}";
}
std::string Preferred(const std::string& kind, int weight, const std::string& term) {
  return "metadata: {labels: {app: web}}\nspec: {affinity: {" + kind +
         ": {preferredDuringSchedulingIgnoredDuringExecution: [{weight: " + std::to_string(weight) +
         ", podAffinityTerm: {" + term + "}}]}}}";
}
const char kCacheInZone[] = "topologyKey: zone, labelSelector: {matchLabels: {app: cache}}";
const char kWebOnHost[] =
    "topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: web}}";

TEST_F(NeighboursTest, NothingAskedNothingRefused) {
  Put("a1", "c", kCache);
  EXPECT_THAT(AffinityAllows(kWeb), ElementsAre("a1", "a2", "b1", "none"));
  EXPECT_THAT(AffinityScores(kWeb), ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(SpreadAllows(kWeb), ElementsAre("a1", "a2", "b1", "none"));
}

TEST_F(NeighboursTest, CompanyInTheZone) {
  EXPECT_THAT(AffinityAllows(Required("podAffinity", kCacheInZone)), IsEmpty());
  Put("a1", "c", kCache);
  EXPECT_THAT(AffinityAllows(Required("podAffinity", kCacheInZone)), ElementsAre("a1", "a2"));
  Pod pod = PodOf("new", Required("podAffinity", kCacheInZone));
  EXPECT_THAT(PodAffinity(pod, nodes_, LabelsOf()).WhyNot(*nodes_[2]),
              ElementsAre("node(s) didn't match pod affinity rules"));
}

TEST_F(NeighboursTest, TheFirstOfItsKindGoesWhereTheLabelIs) {
  const std::string own =
      Required("podAffinity", "topologyKey: zone, labelSelector: {matchLabels: {app: web}}");
  EXPECT_THAT(AffinityAllows(own), ElementsAre("a1", "a2", "b1"));
  Put("b1", "w", kWeb);
  EXPECT_THAT(AffinityAllows(own), ElementsAre("b1"));
}

TEST_F(NeighboursTest, AllTermsMeanTheSamePod) {
  // A pod that only one of two terms means is no company.
  const std::string both =
      "spec: {affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: ["
      "{topologyKey: zone, labelSelector: {matchLabels: {app: cache}}}, "
      "{topologyKey: zone, labelSelector: {matchLabels: {tier: back}}}]}}}";
  Put("a1", "c", kCache);
  EXPECT_THAT(AffinityAllows(both), IsEmpty());
  Put("b1", "d", "metadata: {labels: {app: cache, tier: back}}");
  EXPECT_THAT(AffinityAllows(both), ElementsAre("b1"));
}

TEST_F(NeighboursTest, AversionsOfThisPodAndOfThose) {
  Put("a1", "w", kWeb);
  EXPECT_THAT(AffinityAllows(Required("podAntiAffinity", kWebOnHost)),
              ElementsAre("a2", "b1", "none"));
  // The other way round: one that is there wants no cache in its zone.
  Put("b1", "shy", Required("podAntiAffinity", kCacheInZone));
  EXPECT_THAT(AffinityAllows(kCache), ElementsAre("a1", "a2", "none"));
  EXPECT_THAT(AffinityAllows(kWeb), ElementsAre("a1", "a2", "b1", "none"));
  Pod cache = PodOf("new", kCache), web = PodOf("new", Required("podAntiAffinity", kWebOnHost));
  EXPECT_THAT(PodAffinity(cache, nodes_, LabelsOf()).WhyNot(*nodes_[2]),
              ElementsAre("node(s) didn't satisfy existing pods anti-affinity rules"));
  EXPECT_THAT(PodAffinity(web, nodes_, LabelsOf()).WhyNot(*nodes_[0]),
              ElementsAre("node(s) didn't match pod anti-affinity rules"));
}

TEST_F(NeighboursTest, NamespacesByNameAndByLabels) {
  Put("b1", "c", "metadata: {namespace: other, labels: {app: cache}}");
  EXPECT_THAT(AffinityAllows(Required("podAffinity", kCacheInZone)), IsEmpty());
  const std::string term(kCacheInZone);
  for (const char* more : {", namespaces: [other]", ", namespaceSelector: {}",
                           ", namespaceSelector: {matchLabels: {team: ops}}"}) {
    EXPECT_THAT(AffinityAllows(Required("podAffinity", term + more)), ElementsAre("b1")) << more;
  }
  EXPECT_THAT(AffinityAllows(Required("podAffinity",
                                      term + ", namespaceSelector: {matchLabels: {team: web}}")),
              IsEmpty());
  // An absent selector means no pod, an empty one every pod.
  EXPECT_THAT(AffinityAllows(Required("podAffinity", "topologyKey: zone, namespaces: [other]")),
              IsEmpty());
  EXPECT_THAT(AffinityAllows(Required("podAffinity",
                                      "topologyKey: zone, labelSelector: {}, namespaces: [other]")),
              ElementsAre("b1"));
}

TEST_F(NeighboursTest, LabelKeysNarrowTheSelector) {
  Put("a1", "old", "metadata: {labels: {app: web, version: '1'}}");
  const std::string term(kWebOnHost);
  EXPECT_THAT(AffinityAllows(Required("podAntiAffinity", term + ", matchLabelKeys: [version]",
                                      "app: web, version: '2'")),
              ElementsAre("a1", "a2", "b1", "none"));
  EXPECT_THAT(AffinityAllows(Required("podAntiAffinity", term + ", mismatchLabelKeys: [version]",
                                      "app: web, version: '2'")),
              ElementsAre("a2", "b1", "none"));
}

TEST_F(NeighboursTest, PreferencesAreWeighed) {
  Put("a1", "c", kCache);
  Put("b1", "w", kWeb);
  EXPECT_THAT(AffinityScores(Preferred("podAffinity", 10, kCacheInZone)),
              ElementsAre(100, 100, 0, 0));
  EXPECT_THAT(AffinityScores(Preferred("podAntiAffinity", 10, kWebOnHost)),
              ElementsAre(100, 100, 0, 100));
  // Those that are there have wishes too: 5 for it in zone b, and 1 as upstream counts a required
  // term.
  Put("b1", "fan",
      Preferred("podAffinity", 5, "topologyKey: zone, labelSelector: {matchLabels: {app: web}}"));
  Put("a2", "needs",
      Required("podAffinity",
               "topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: web}}",
               "app: x"));
  EXPECT_THAT(AffinityScores(kWeb), ElementsAre(0, 20, 100, 0));
}

std::string Spread(const std::string& constraint, const std::string& more = "") {
  return "metadata: {labels: {app: web}}\nspec: {topologySpreadConstraints: [{labelSelector: "
         "{matchLabels: {app: web}}, " +
         constraint + "}]" + more + "}";
}
const char kZones[] = "maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule";

TEST_F(NeighboursTest, ZonesDifferByNoMoreThanTheSkew) {
  EXPECT_THAT(SpreadAllows(Spread(kZones)), ElementsAre("a1", "a2", "b1"));
  Put("a1", "w1", kWeb);
  EXPECT_THAT(SpreadAllows(Spread(kZones)), ElementsAre("b1"));
  EXPECT_THAT(
      SpreadAllows(Spread("maxSkew: 2, topologyKey: zone, whenUnsatisfiable: DoNotSchedule")),
      ElementsAre("a1", "a2", "b1"));
  Put("b1", "c", kCache);  // of another kind
  Put("b1", "gone", "metadata: {labels: {app: web}, deletionTimestamp: 2020-01-01T00:00:00Z}");
  Put("b1", "foreign", "metadata: {namespace: other, labels: {app: web}}");
  EXPECT_THAT(SpreadAllows(Spread(kZones)), ElementsAre("b1"));
  Put("b1", "w2", kWeb);
  EXPECT_THAT(SpreadAllows(Spread(kZones)), ElementsAre("a1", "a2", "b1"));
  Pod pod = PodOf("new", Spread(kZones));
  EXPECT_THAT(TopologySpread(pod, nodes_).WhyNot(*nodes_[3]),
              ElementsAre("node(s) didn't match pod topology spread constraints (missing required "
                          "label)"));
}

TEST_F(NeighboursTest, MissingDomainsAreEmptyOnes) {
  Put("a1", "w1", kWeb);
  Put("b1", "w2", kWeb);
  EXPECT_THAT(SpreadAllows(Spread(std::string(kZones) + ", minDomains: 2")),
              ElementsAre("a1", "a2", "b1"));
  EXPECT_THAT(SpreadAllows(Spread(std::string(kZones) + ", minDomains: 3")), IsEmpty());
}

TEST_F(NeighboursTest, OnlyNodesThatThePodMayUseCount) {
  Put("a1", "w1", kWeb);
  const std::string only_a = ", nodeSelector: {zone: a}";
  // Zone b is not for this pod, so it is not the emptier one.
  EXPECT_THAT(SpreadAllows(Spread(kZones, only_a)), ElementsAre("a1", "a2", "b1"));
  EXPECT_THAT(SpreadAllows(Spread(std::string(kZones) + ", nodeAffinityPolicy: Ignore", only_a)),
              ElementsAre("b1"));
  auto tainted = std::make_shared<k8s::core::v1::Node>(*nodes_[2]->node());
  auto* taint = tainted->mutable_spec()->add_taints();
  taint->set_key("dedicated");
  taint->set_effect("NoSchedule");
  infos_[2].SetNode(tainted);
  EXPECT_THAT(SpreadAllows(Spread(kZones)), ElementsAre("b1"));
  EXPECT_THAT(SpreadAllows(Spread(std::string(kZones) + ", nodeTaintsPolicy: Honor")),
              ElementsAre("a1", "a2", "b1"));
}

TEST_F(NeighboursTest, SoftConstraintsScore) {
  Put("a1", "w1", kWeb);
  Put("a1", "w2", kWeb);
  Put("b1", "w3", kWeb);
  const std::string soft = "maxSkew: 1, whenUnsatisfiable: ScheduleAnyway, topologyKey: ";
  EXPECT_THAT(SpreadAllows(Spread(soft + "zone")), ElementsAre("a1", "a2", "b1", "none"));
  EXPECT_THAT(SpreadScores(Spread(soft + "zone")), ElementsAre(33, 33, 100, 0));
  EXPECT_THAT(SpreadScores(Spread(soft + "kubernetes.io/hostname")), ElementsAre(0, 100, 50, 100));
}

}  // namespace
}  // namespace skiff::cp
