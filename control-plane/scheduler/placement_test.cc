// Requests, filters and scores: pure functions, as tables.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <functional>

#include "control-plane/scheduler/filters.h"
#include "control-plane/scheduler/node_info.h"
#include "control-plane/scheduler/resources.h"
#include "control-plane/scheduler/scores.h"
#include "control-plane/scheduler/testing_objects.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::Node;
using k8s::core::v1::Pod;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr int64_t kMi = 1 << 20;

TEST(PodRequestsTest, SidecarsInitContainersAndOverhead) {
  Pod pod = MakePod("p", "500m", "100Mi");
  AddContainer(*pod.mutable_spec()->add_containers(), "250m", "100Mi");
  EXPECT_EQ(PodRequests(pod).milli_cpu, 750);
  EXPECT_EQ(PodRequests(pod).memory_bytes, 200 * kMi);
  // An init container runs alone; the larger of both counts, each resource for itself.
  AddContainer(*pod.mutable_spec()->add_init_containers(), "2", "50Mi");
  EXPECT_EQ(PodRequests(pod).milli_cpu, 2000);
  EXPECT_EQ(PodRequests(pod).memory_bytes, 200 * kMi);
  // A sidecar runs beside the containers and the init containers after it.
  auto* sidecar = pod.mutable_spec()->add_init_containers();
  AddContainer(*sidecar, "100m", "10Mi");
  sidecar->set_restart_policy("Always");
  EXPECT_EQ(PodRequests(pod).milli_cpu, 2000);
  EXPECT_EQ(PodRequests(pod).memory_bytes, 210 * kMi);
  AddContainer(*pod.mutable_spec()->add_init_containers(), "2", "");
  EXPECT_EQ(PodRequests(pod).milli_cpu, 2100);
  (*pod.mutable_spec()->mutable_overhead())["cpu"].set_string("50m");
  EXPECT_EQ(PodRequests(pod).milli_cpu, 2150);
  auto& whole = *pod.mutable_spec()->mutable_resources()->mutable_requests();
  whole["cpu"].set_string("1");
  EXPECT_EQ(PodRequests(pod).milli_cpu, 1050);
}

TEST(PodRequestsTest, ScoresCountPodsWithoutRequests) {
  EXPECT_TRUE(PodRequests(MakePod("p", "", "")).IsZero());
  EXPECT_EQ(PodRequestsForScore(MakePod("p", "", "")).milli_cpu, 100);
  EXPECT_EQ(PodRequestsForScore(MakePod("p", "10m", "")).milli_cpu, 10);
}

struct FilterCase {
  const char* name;
  std::function<void(Pod&)> pod;
  std::function<void(Node&)> node;
  std::vector<std::string> why_not;
};
void PrintTo(const FilterCase& filter, std::ostream* out) { *out << filter.name; }
class FilterTest : public testing::TestWithParam<FilterCase> {};

TEST_P(FilterTest, SaysWhyNot) {
  Pod pod = MakePod("p", "1", "1Gi");
  auto node = std::make_shared<Node>(MakeNode("n1", "4", "8Gi", "10"));
  GetParam().pod(pod);
  GetParam().node(*node);
  NodeInfo info;
  info.SetNode(node);
  Pod there = MakePod("there", "1500m", "2Gi");
  auto* port = there.mutable_spec()->mutable_containers(0)->add_ports();
  port->set_host_port(8080);
  port->set_host_ip("192.0.2.1");
  info.AddPod(std::make_shared<Pod>(there));
  EXPECT_EQ(WhyNot(pod, info), GetParam().why_not);
}

void Any(Pod&) {}
void Plain(Node&) {}
void Taint(Node& node, const char* value, const char* effect) {
  auto* taint = node.mutable_spec()->add_taints();
  taint->set_key("dedicated");
  taint->set_value(value);
  taint->set_effect(effect);
}
void Require(Pod& pod, const char* key, const char* op, std::vector<std::string> values) {
  auto* required = pod.mutable_spec()
                       ->mutable_affinity()
                       ->mutable_node_affinity()
                       ->mutable_required_during_scheduling_ignored_during_execution();
  auto* expression = required->add_node_selector_terms()->add_match_expressions();
  expression->set_key(key);
  expression->set_operator_(op);
  for (std::string& value : values) expression->add_values(std::move(value));
}
void HostPortOf(Pod& pod, int port, const char* ip) {
  auto* added = pod.mutable_spec()->mutable_containers(0)->add_ports();
  added->set_host_port(port);
  added->set_host_ip(ip);
}
const char kAffinity[] = "node(s) didn't match Pod's node affinity/selector";
const char kPorts[] = "node(s) didn't have free ports for the requested pod ports";
void Disk(Node& node) { (*node.mutable_metadata()->mutable_labels())["disk"] = "ssd"; }
void Cores(Node& node) { (*node.mutable_metadata()->mutable_labels())["cores"] = "8"; }

INSTANTIATE_TEST_SUITE_P(
    Cases, FilterTest,
    testing::Values(
        FilterCase{"fits", Any, Plain, {}},
        FilterCase{"exactly", [](Pod& pod) { SetRequests(pod, "2500m", "6Gi"); }, Plain, {}},
        FilterCase{
            "cpu", [](Pod& pod) { SetRequests(pod, "2501m", "6Gi"); }, Plain, {"Insufficient cpu"}},
        FilterCase{"both",
                   [](Pod& pod) { SetRequests(pod, "3", "7Gi"); },
                   Plain,
                   {"Insufficient cpu", "Insufficient memory"}},
        FilterCase{"extended",
                   [](Pod& pod) {
                     auto& requests = *pod.mutable_spec()
                                           ->mutable_containers(0)
                                           ->mutable_resources()
                                           ->mutable_requests();
                     requests["example.com/gpu"].set_string("1");
                   },
                   Plain,
                   {"Insufficient example.com/gpu"}},
        FilterCase{"too many",
                   Any,
                   [](Node& node) {
                     (*node.mutable_status()->mutable_allocatable())["pods"].set_string("1");
                   },
                   {"Too many pods"}},
        FilterCase{"cordoned",
                   Any,
                   [](Node& node) { node.mutable_spec()->set_unschedulable(true); },
                   {"node(s) were unschedulable"}},
        FilterCase{"cordoned but tolerated",
                   [](Pod& pod) { pod.mutable_spec()->add_tolerations()->set_operator_("Exists"); },
                   [](Node& node) { node.mutable_spec()->set_unschedulable(true); },
                   {}},
        FilterCase{"named",
                   [](Pod& pod) { pod.mutable_spec()->set_node_name("n2"); },
                   Plain,
                   {"node(s) didn't match the requested node name"}},
        FilterCase{"taint",
                   Any,
                   [](Node& node) { Taint(node, "db", "NoSchedule"); },
                   {"node(s) had untolerated taint {dedicated: db}"}},
        FilterCase{"no execute",
                   Any,
                   [](Node& node) { Taint(node, "", "NoExecute"); },
                   {"node(s) had untolerated taint {dedicated: }"}},
        FilterCase{
            "rather not", Any, [](Node& node) { Taint(node, "db", "PreferNoSchedule"); }, {}},
        FilterCase{"selector missed",
                   [](Pod& pod) { (*pod.mutable_spec()->mutable_node_selector())["disk"] = "ssd"; },
                   Plain,
                   {kAffinity}},
        FilterCase{"selector met",
                   [](Pod& pod) { (*pod.mutable_spec()->mutable_node_selector())["disk"] = "ssd"; },
                   Disk,
                   {}},
        FilterCase{"in",
                   [](Pod& pod) {
                     Require(pod, "disk", "In", {"hdd", "ssd"});
                   },
                   Disk,
                   {}},
        FilterCase{
            "not in", [](Pod& pod) { Require(pod, "disk", "NotIn", {"ssd"}); }, Disk, {kAffinity}},
        FilterCase{"not in without the label",
                   [](Pod& pod) { Require(pod, "disk", "NotIn", {"ssd"}); },
                   Plain,
                   {}},
        FilterCase{
            "exists", [](Pod& pod) { Require(pod, "disk", "Exists", {}); }, Plain, {kAffinity}},
        FilterCase{"greater", [](Pod& pod) { Require(pod, "cores", "Gt", {"7"}); }, Cores, {}},
        FilterCase{"not greater",
                   [](Pod& pod) { Require(pod, "cores", "Gt", {"8"}); },
                   Cores,
                   {kAffinity}},
        FilterCase{"one of two terms is enough",
                   [](Pod& pod) {
                     Require(pod, "disk", "Exists", {});
                     Require(pod, "cores", "Lt", {"9"});
                   },
                   Cores,
                   {}},
        FilterCase{"by name",
                   [](Pod& pod) {
                     Require(pod, "x", "Exists", {});
                     auto* term =
                         pod.mutable_spec()
                             ->mutable_affinity()
                             ->mutable_node_affinity()
                             ->mutable_required_during_scheduling_ignored_during_execution()
                             ->mutable_node_selector_terms(0);
                     *term->add_match_fields() = term->match_expressions(0);
                     term->clear_match_expressions();
                     term->mutable_match_fields(0)->set_key("metadata.name");
                     term->mutable_match_fields(0)->set_operator_("In");
                     term->mutable_match_fields(0)->add_values("n1");
                   },
                   Plain,
                   {}},
        FilterCase{
            "port of every address", [](Pod& pod) { HostPortOf(pod, 8080, ""); }, Plain, {kPorts}},
        FilterCase{"port of another address",
                   [](Pod& pod) { HostPortOf(pod, 8080, "192.0.2.2"); },
                   Plain,
                   {}},
        FilterCase{"another port", [](Pod& pod) { HostPortOf(pod, 8081, ""); }, Plain, {}}));

TEST(FitErrorTest, CountsReasonsAsUpstreamDoes) {
  EXPECT_EQ(FitErrorMessage({{"Insufficient cpu"}}),
            "0/1 nodes are available: 1 Insufficient cpu.");
  EXPECT_EQ(FitErrorMessage({{"Insufficient cpu", "Insufficient memory"},
                             {"node(s) were unschedulable"},
                             {"Insufficient cpu"}}),
            "0/3 nodes are available: 1 Insufficient memory, 1 node(s) were unschedulable, "
            "2 Insufficient cpu.");
  EXPECT_EQ(FitErrorMessage({}), "no nodes available to schedule pods");
}

class ScoreTest : public testing::Test {
 protected:
  NodeInfo& Add(const Node& node) {
    NodeInfo& info = infos_.emplace_back();
    info.SetNode(std::make_shared<Node>(node));
    return info;
  }
  std::vector<const NodeInfo*> Nodes() const {
    std::vector<const NodeInfo*> nodes;
    for (const NodeInfo& info : infos_) nodes.push_back(&info);
    return nodes;
  }
  std::deque<NodeInfo> infos_;
};

TEST_F(ScoreTest, FreeResourcesAndBalance) {
  Add(MakeNode("empty", "4", "8Gi", "10"));
  Add(MakeNode("half", "4", "8Gi", "10")).AddPod(std::make_shared<Pod>(MakePod("x", "2", "4Gi")));
  Add(MakeNode("lopsided", "4", "8Gi", "10")).AddPod(std::make_shared<Pod>(MakePod("y", "3", "0")));
  Pod pod = MakePod("p", "1", "2Gi");
  EXPECT_THAT(ScoreFreeResources(pod, Nodes()), ElementsAre(75, 25, 37));
  EXPECT_THAT(ScoreBalance(pod, Nodes()), ElementsAre(100, 100, 62));
}

TEST_F(ScoreTest, ReplicasSpread) {
  Add(MakeNode("a", "4", "8Gi", "10"));
  NodeInfo& b = Add(MakeNode("b", "4", "8Gi", "10"));
  NodeInfo& c = Add(MakeNode("c", "4", "8Gi", "10"));
  b.AddPod(std::make_shared<Pod>(MakePod("r1", "", "")));
  c.AddPod(std::make_shared<Pod>(MakePod("r2", "", "")));
  c.AddPod(std::make_shared<Pod>(MakePod("r3", "", "")));
  c.AddPod(std::make_shared<Pod>(MakePod("other", "", "")));
  auto is_replica = [](const Pod& pod) { return pod.metadata().name() != "other"; };
  EXPECT_THAT(ScoreSpread(MakePod("p", "", ""), Nodes(), is_replica), ElementsAre(100, 50, 0));
}

TEST_F(ScoreTest, PreferencesTaintsAndImages) {
  Node a = MakeNode("a", "4", "8Gi", "10"), b = MakeNode("b", "4", "8Gi", "10");
  Disk(a);
  Cores(b);
  Disk(b);
  Taint(a, "x", "PreferNoSchedule");
  auto* image = b.mutable_status()->add_images();
  image->add_names("docker.io/library/nginx:latest");
  image->set_size_bytes(500ll << 20);
  Add(a);
  Add(b);
  Pod pod = MakePod("p", "", "");
  pod.mutable_spec()->mutable_containers(0)->set_image("docker.io/library/nginx");
  for (auto [key, weight] : {std::pair("disk", 10), std::pair("cores", 30)}) {
    auto* preferred = pod.mutable_spec()
                          ->mutable_affinity()
                          ->mutable_node_affinity()
                          ->add_preferred_during_scheduling_ignored_during_execution();
    preferred->set_weight(weight);
    auto* expression = preferred->mutable_preference()->add_match_expressions();
    expression->set_key(key);
    expression->set_operator_("Exists");
  }
  EXPECT_THAT(ScoreAffinity(pod, Nodes()), ElementsAre(25, 100));
  EXPECT_THAT(ScoreTaints(pod, Nodes()), ElementsAre(0, 100));
  EXPECT_THAT(ScoreImages(pod, Nodes()), ElementsAre(0, 48));
}

}  // namespace
}  // namespace skiff::cp
