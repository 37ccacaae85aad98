#include "control-plane/controllers/replica_set_controller.h"

#include <gmock/gmock.h>

#include "control-plane/controllers/pod_ranking.h"
#include "control-plane/controllers/testing_fixture.h"
#include "proto/k8s/apps/v1/apps.pb.h"
#include "proto/k8s/core/v1/namespace.pb.h"
#include "proto/k8s/core/v1/rest.pb.h"

namespace skiff::cp {
namespace {

using k8s::apps::v1::ReplicaSet;
using k8s::core::v1::Pod;
using k8s::core::v1::ReplicationController;
using std::chrono::seconds;
using testing::Contains;
using testing::ElementsAre;
using testing::StartsWith;

class ReplicaSetTest : public ControllerTest {
 protected:
  ReplicaSetTest() {
    k8s::core::v1::Namespace ns;
    ns.mutable_metadata()->set_name("ns");
    (void)client_.Create(ns).value();
    Run(MakeReplicaSetController(client_, executor_));
  }
  void Create(int replicas, const std::string& name = "web") {
    ReplicaSet set;
    set.mutable_metadata()->set_namespace_("ns");
    set.mutable_metadata()->set_name(name);
    set.mutable_spec()->set_replicas(replicas);
    (*set.mutable_spec()->mutable_selector()->mutable_match_labels())["app"] = "web";
    *set.mutable_spec()->mutable_template_() = PodTemplate("web", "nginx");
    (void)client_.Create(set).value();
    Settle();
  }
  void Scale(int replicas) {
    Update<ReplicaSet>("ns", "web",
                       [&](ReplicaSet& set) { set.mutable_spec()->set_replicas(replicas); });
  }
  std::shared_ptr<const ReplicaSet> Set() { return Get<ReplicaSet>("ns", "web"); }
};

TEST_F(ReplicaSetTest, MakesItsPodsOnce) {
  Create(3);
  auto pods = List<Pod>();
  ASSERT_EQ(pods.size(), 3u);
  EXPECT_THAT(pods[0]->metadata().name(), StartsWith("web-"));
  EXPECT_EQ(pods[0]->metadata().labels().at("app"), "web");
  EXPECT_EQ(pods[0]->spec().containers(0).image(), "nginx");
  const auto* owner = ControllerOf(pods[0]->metadata());
  ASSERT_NE(owner, nullptr);
  EXPECT_EQ(owner->kind(), "ReplicaSet");
  EXPECT_EQ(owner->api_version(), "apps/v1");
  EXPECT_EQ(owner->uid(), Set()->metadata().uid());
  EXPECT_TRUE(owner->block_owner_deletion());
  EXPECT_EQ(Set()->status().replicas(), 3);
  EXPECT_EQ(Set()->status().ready_replicas(), 0);
  EXPECT_EQ(Set()->status().observed_generation(), 1);
  RunPods();
  EXPECT_EQ(Set()->status().ready_replicas(), 3);
  EXPECT_EQ(Set()->status().available_replicas(), 3);
  EXPECT_EQ(Set()->status().fully_labeled_replicas(), 3);
  EXPECT_THAT(Events(),
              Contains("Normal SuccessfulCreate Created pod: " + pods[0]->metadata().name()));
}

TEST_F(ReplicaSetTest, ReplacesPodsThatEndOrGo) {
  Create(2);
  RunPods();
  auto pods = List<Pod>();
  Pod failed = *pods[0];
  failed.mutable_status()->set_phase("Failed");
  ASSERT_TRUE(client_.UpdateStatus(failed).ok());
  ASSERT_TRUE(client_.Delete<Pod>("ns", pods[1]->metadata().name()).ok());
  Settle();
  EXPECT_EQ(LivePods().size(), 2u);
  EXPECT_EQ(List<Pod>().size(), 4u);
  EXPECT_EQ(Set()->status().terminating_replicas(), 1);
}

TEST_F(ReplicaSetTest, ScalesDownToNothing) {
  Create(4);
  RunPods();
  Scale(1);
  EXPECT_EQ(LivePods().size(), 1u);
  Scale(0);
  RunPods();
  EXPECT_TRUE(List<Pod>().empty());
  EXPECT_EQ(Set()->status().replicas(), 0);
  EXPECT_EQ(Set()->status().terminating_replicas(), 0);
}

TEST_F(ReplicaSetTest, AdoptsMatchingOrphansAndLetsOthersLoose) {
  Pod orphan;
  orphan.mutable_metadata()->set_namespace_("ns");
  orphan.mutable_metadata()->set_name("orphan");
  (*orphan.mutable_metadata()->mutable_labels())["app"] = "web";
  ASSERT_TRUE(client_.Create(orphan).ok());
  Create(2);
  EXPECT_EQ(List<Pod>().size(), 2u);
  EXPECT_TRUE(IsControlledBy(Get<Pod>("ns", "orphan")->metadata(), Set()->metadata().uid()));
  Update<Pod>("ns", "orphan",
              [](Pod& pod) { (*pod.mutable_metadata()->mutable_labels())["app"] = "debug"; });
  EXPECT_EQ(ControllerOf(Get<Pod>("ns", "orphan")->metadata()), nullptr);
  EXPECT_EQ(List<Pod>("app=web").size(), 2u);
}

TEST_F(ReplicaSetTest, RefusedPodsCostFewRequestsAndShowAsACondition) {
  int creates = 0;
  bool refuse = true;
  client_.intercept = [&](std::string_view verb, const Message& object) -> std::optional<Error> {
    if (verb != "create" || object.GetTypeName() != "k8s.core.v1.Pod" || !refuse) return {};
    ++creates;
    return Error(Code::kPermissionDenied, "exceeded quota");
  };
  Create(100);
  EXPECT_LE(creates, 2);  // the first try, and one when the condition has been written
  const auto* condition = FindCondition(Set()->status(), "ReplicaFailure");
  ASSERT_NE(condition, nullptr);
  EXPECT_EQ(condition->reason(), "FailedCreate");
  EXPECT_EQ(condition->message(), "exceeded quota");
  EXPECT_THAT(Events(), Contains("Warning FailedCreate Error creating: exceeded quota"));
  refuse = false;
  Advance(seconds(30));
  EXPECT_EQ(List<Pod>().size(), 100u);
  EXPECT_EQ(FindCondition(Set()->status(), "ReplicaFailure"), nullptr);
}

TEST_F(ReplicaSetTest, DoesNotFightAgainstAnEndingNamespace) {
  int creates = 0;
  client_.intercept = [&](std::string_view verb, const Message& object) -> std::optional<Error> {
    if (verb != "create" || object.GetTypeName() != "k8s.core.v1.Pod") return {};
    ++creates;
    return Error(Code::kPermissionDenied, "namespace ns is being terminated");
  };
  ASSERT_TRUE(client_.Delete<k8s::core::v1::Namespace>("", "ns").ok());
  Create(3);
  Advance(seconds(600));
  EXPECT_LE(creates, 2);
}

TEST_F(ReplicaSetTest, MinReadySecondsDelaysAvailability) {
  Create(1);
  Update<ReplicaSet>("ns", "web",
                     [](ReplicaSet& set) { set.mutable_spec()->set_min_ready_seconds(10); });
  RunPods();
  EXPECT_EQ(Set()->status().ready_replicas(), 1);
  EXPECT_EQ(Set()->status().available_replicas(), 0);
  Advance(seconds(11));
  EXPECT_EQ(Set()->status().available_replicas(), 1);
}

TEST_F(ReplicaSetTest, BeingDeletedItLeavesPodsAlone) {
  Create(2);
  ASSERT_TRUE(
      client_.Delete<ReplicaSet>("ns", "web", {.propagation = Propagation::kForeground}).ok());
  ASSERT_TRUE(client_.Delete<Pod>("ns", List<Pod>()[0]->metadata().name()).ok());
  Settle();
  EXPECT_EQ(List<Pod>().size(), 1u);
}

TEST_F(ReplicaSetTest, SettlesWithoutFurtherWrites) {
  Create(3);
  RunPods();
  int writes = client_.writes();
  client_.ResetWatches();
  Advance(seconds(600));
  EXPECT_EQ(client_.writes(), writes);
}

// ---- ReplicationControllers: the same logic with the older form of a selector ----

class ReplicationControllerTest : public ControllerTest {
 protected:
  ReplicationControllerTest() {
    k8s::core::v1::Namespace ns;
    ns.mutable_metadata()->set_name("ns");
    (void)client_.Create(ns).value();
    // Each leaves the other's pods alone.
    Run(MakeReplicaSetController(client_, executor_));
    Run(MakeReplicationController(client_, executor_));
  }
  void Create(int replicas) {
    ReplicationController controller;
    controller.mutable_metadata()->set_namespace_("ns");
    controller.mutable_metadata()->set_name("redis");
    controller.mutable_spec()->set_replicas(replicas);
    (*controller.mutable_spec()->mutable_selector())["app"] = "redis";
    *controller.mutable_spec()->mutable_template_() = PodTemplate("redis", "redis");
    (void)client_.Create(controller).value();
    Settle();
  }
  std::shared_ptr<const ReplicationController> Now() {
    return Get<ReplicationController>("ns", "redis");
  }
};

TEST_F(ReplicationControllerTest, KeepsItsPodsRunning) {
  Create(2);
  RunPods();
  auto pods = List<Pod>();
  ASSERT_EQ(pods.size(), 2u);
  const auto* owner = ControllerOf(pods[0]->metadata());
  ASSERT_NE(owner, nullptr);
  EXPECT_EQ(owner->kind(), "ReplicationController");
  EXPECT_EQ(owner->api_version(), "v1");
  EXPECT_EQ(Now()->status().replicas(), 2);
  EXPECT_EQ(Now()->status().available_replicas(), 2);
  EXPECT_EQ(Now()->status().observed_generation(), 1);
  ASSERT_TRUE(client_.Delete<Pod>("ns", pods[0]->metadata().name()).ok());
  Settle();
  RunPods();
  EXPECT_EQ(LivePods().size(), 2u);
  Update<ReplicationController>("ns", "redis", [](ReplicationController& controller) {
    controller.mutable_spec()->set_replicas(0);
  });
  RunPods();
  EXPECT_TRUE(List<Pod>().empty());
  EXPECT_EQ(Now()->status().replicas(), 0);
}

TEST_F(ReplicationControllerTest, AdoptsAndSettles) {
  Pod orphan;
  orphan.mutable_metadata()->set_namespace_("ns");
  orphan.mutable_metadata()->set_name("bootstrap");
  (*orphan.mutable_metadata()->mutable_labels())["app"] = "redis";
  ASSERT_TRUE(client_.Create(orphan).ok());
  Create(3);
  RunPods();
  EXPECT_EQ(List<Pod>().size(), 3u);
  EXPECT_TRUE(IsControlledBy(Get<Pod>("ns", "bootstrap")->metadata(), Now()->metadata().uid()));
  int writes = client_.writes();
  client_.ResetWatches();
  Advance(seconds(600));
  EXPECT_EQ(client_.writes(), writes);
}

// ---- the order of deletion ----

PodPtr MakePod(const std::string& name, const std::function<void(Pod&)>& change) {
  auto pod = std::make_shared<Pod>();
  pod->mutable_metadata()->set_name(name);
  pod->mutable_metadata()->set_uid(name);
  pod->mutable_metadata()->mutable_creation_timestamp()->set_seconds(1000);
  pod->mutable_spec()->set_node_name("n1");
  pod->mutable_status()->set_phase("Running");
  auto* ready = pod->mutable_status()->add_conditions();
  ready->set_type("Ready");
  ready->set_status("True");
  ready->mutable_last_transition_time()->set_seconds(2000);
  pod->mutable_status()->add_container_statuses();
  change(*pod);
  return pod;
}

struct RankCase {
  const char* name;
  std::function<void(Pod&)> first;   // goes first
  std::function<void(Pod&)> second;  // stays longer
};
void PrintTo(const RankCase& rank, std::ostream* out) { *out << rank.name; }
class PodRankingTest : public testing::TestWithParam<RankCase> {};

TEST_P(PodRankingTest, TheRightOneGoes) {
  const WallTime now{seconds(10'000)};
  // Whatever the names and the order they come in.
  for (bool swap : {false, true}) {
    PodPtr first = MakePod(swap ? "a" : "b", GetParam().first);
    PodPtr second = MakePod(swap ? "b" : "a", GetParam().second);
    std::vector<PodPtr> pods = {second, first};
    if (swap) std::swap(pods[0], pods[1]);
    std::vector<PodPtr> related = pods;
    related.push_back(
        MakePod("neighbour", [](Pod& pod) { pod.mutable_spec()->set_node_name("n2"); }));
    EXPECT_THAT(ChoosePodsToDelete(pods, related, 1, now), ElementsAre(first));
  }
}

void Nothing(Pod&) {}
void OnN2(Pod& pod) { pod.mutable_spec()->set_node_name("n2"); }
void SetCost(Pod& pod, const char* cost) {
  (*pod.mutable_metadata()->mutable_annotations())["controller.kubernetes.io/pod-deletion-cost"] =
      cost;
}
INSTANTIATE_TEST_SUITE_P(
    Cases, PodRankingTest,
    testing::Values(
        RankCase{"no node", [](Pod& pod) { pod.mutable_spec()->clear_node_name(); }, Nothing},
        RankCase{"pending", [](Pod& pod) { pod.mutable_status()->set_phase("Pending"); }, Nothing},
        RankCase{"not ready",
                 [](Pod& pod) { pod.mutable_status()->mutable_conditions(0)->set_status("False"); },
                 [](Pod& pod) { SetCost(pod, "-5"); }},
        RankCase{"cheaper", [](Pod& pod) { SetCost(pod, "-1"); }, OnN2},
        RankCase{"dearer stays", OnN2, [](Pod& pod) { SetCost(pod, "10"); }},
        RankCase{"more neighbours", OnN2,
                 [](Pod& pod) {
                   pod.mutable_status()
                       ->mutable_conditions(0)
                       ->mutable_last_transition_time()
                       ->set_seconds(9999);
                 }},
        RankCase{"ready for a shorter time",
                 [](Pod& pod) {
                   pod.mutable_status()
                       ->mutable_conditions(0)
                       ->mutable_last_transition_time()
                       ->set_seconds(9990);
                 },
                 [](Pod& pod) {
                   pod.mutable_status()->mutable_container_statuses(0)->set_restart_count(9);
                 }},
        RankCase{"more restarts",
                 [](Pod& pod) {
                   pod.mutable_status()->mutable_container_statuses(0)->set_restart_count(1);
                 },
                 [](Pod& pod) {
                   pod.mutable_metadata()->mutable_creation_timestamp()->set_seconds(9999);
                 }},
        RankCase{"younger",
                 [](Pod& pod) {
                   pod.mutable_metadata()->mutable_creation_timestamp()->set_seconds(9990);
                 },
                 Nothing}));

}  // namespace
}  // namespace skiff::cp
