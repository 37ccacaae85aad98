#include "control-plane/controllers/deployment_controller.h"

#include <gmock/gmock.h>

#include "control-plane/controllers/deployment_revision.h"
#include "control-plane/controllers/deployment_rollout.h"
#include "control-plane/controllers/replica_set_controller.h"
#include "control-plane/controllers/testing_fixture.h"
#include "proto/codec/int_or_string.h"
#include "proto/k8s/apps/v1/apps.pb.h"

namespace skiff::cp {
namespace {

using k8s::apps::v1::Deployment;
using k8s::apps::v1::ReplicaSet;
using k8s::core::v1::Pod;
using std::chrono::seconds;
using testing::Contains;
using testing::ElementsAre;

Deployment MakeDeployment(int replicas, const std::string& surge = "25%",
                          const std::string& unavailable = "25%") {
  Deployment deployment;
  deployment.mutable_metadata()->set_namespace_("ns");
  deployment.mutable_metadata()->set_name("web");
  (*deployment.mutable_metadata()->mutable_annotations())["team"] = "blue";
  (*deployment.mutable_metadata()
        ->mutable_annotations())["kubectl.kubernetes.io/last-applied-configuration"] = "{}";
  auto* spec = deployment.mutable_spec();
  spec->set_replicas(replicas);
  (*spec->mutable_selector()->mutable_match_labels())["app"] = "web";
  *spec->mutable_template_() = PodTemplate("web", "nginx:1");
  spec->mutable_strategy()->set_type("RollingUpdate");
  auto* rolling = spec->mutable_strategy()->mutable_rolling_update();
  codec::SetText(rolling->mutable_max_surge(), surge);
  codec::SetText(rolling->mutable_max_unavailable(), unavailable);
  spec->set_progress_deadline_seconds(600);
  spec->set_revision_history_limit(10);
  return deployment;
}

class DeploymentTest : public ControllerTest {
 protected:
  DeploymentTest() {
    Run(MakeDeploymentController(client_, executor_));
    Run(MakeReplicaSetController(client_, executor_));
  }
  void Create(const Deployment& deployment) {
    (void)client_.Create(deployment).value();
    Settle();
  }
  std::shared_ptr<const Deployment> Web() { return Get<Deployment>("ns", "web"); }
  void Change(const std::function<void(k8s::apps::v1::DeploymentSpec&)>& change) {
    Update<Deployment>("ns", "web", [&](Deployment& web) { change(*web.mutable_spec()); });
  }
  void SetImage(const std::string& image) {
    Change([&](auto& spec) {
      spec.mutable_template_()->mutable_spec()->mutable_containers(0)->set_image(image);
    });
  }
  std::shared_ptr<const ReplicaSet> SetOf(const std::string& image) {
    for (const auto& set : List<ReplicaSet>()) {
      const auto& containers = set->spec().template_().spec().containers();
      if (!containers.empty() && containers[0].image() == image) return set;
    }
    return nullptr;
  }
  std::string Progress() {
    const auto* condition = FindCondition(Web()->status(), "Progressing");
    return condition ? condition->status() + " " + condition->reason() : "none";
  }
  int Ready() {
    int ready = 0;
    for (const auto& pod : LivePods()) ready += IsPodReady(*pod);
    return ready;
  }
  void Finish() {
    for (int i = 0; i < 20; ++i) RunPods();
  }
};

TEST_F(DeploymentTest, MakesAReplicaSetAndReportsProgress) {
  Create(MakeDeployment(3));
  auto sets = List<ReplicaSet>();
  ASSERT_EQ(sets.size(), 1u);
  const ReplicaSet& set = *sets[0];
  const std::string hash = set.metadata().labels().at("pod-template-hash");
  EXPECT_EQ(set.metadata().name(), "web-" + hash);
  EXPECT_EQ(set.spec().selector().match_labels().at("pod-template-hash"), hash);
  EXPECT_EQ(set.spec().template_().metadata().labels().at("pod-template-hash"), hash);
  EXPECT_EQ(set.spec().replicas(), 3);
  const auto& annotations = set.metadata().annotations();
  EXPECT_EQ(annotations.at("deployment.kubernetes.io/revision"), "1");
  EXPECT_EQ(annotations.at("deployment.kubernetes.io/desired-replicas"), "3");
  EXPECT_EQ(annotations.at("deployment.kubernetes.io/max-replicas"), "4");
  EXPECT_EQ(annotations.at("team"), "blue");
  EXPECT_FALSE(annotations.contains("kubectl.kubernetes.io/last-applied-configuration"));
  EXPECT_TRUE(IsControlledBy(set.metadata(), Web()->metadata().uid()));
  EXPECT_EQ(Web()->metadata().annotations().at("deployment.kubernetes.io/revision"), "1");
  EXPECT_EQ(Web()->status().observed_generation(), Web()->metadata().generation());
  EXPECT_EQ(FindCondition(Web()->status(), "Available")->status(), "False");
  EXPECT_EQ(Progress(), "True ReplicaSetUpdated");
  EXPECT_EQ(Web()->status().unavailable_replicas(), 3);
  RunPods();
  EXPECT_EQ(Web()->status().available_replicas(), 3);
  EXPECT_EQ(Web()->status().updated_replicas(), 3);
  EXPECT_EQ(Web()->status().unavailable_replicas(), 0);
  EXPECT_EQ(FindCondition(Web()->status(), "Available")->reason(), "MinimumReplicasAvailable");
  EXPECT_EQ(Progress(), "True NewReplicaSetAvailable");
  EXPECT_EQ(FindCondition(Web()->status(), "Progressing")->message(),
            "ReplicaSet \"" + set.metadata().name() + "\" has successfully progressed.");
  EXPECT_THAT(Events(), Contains("Normal ScalingReplicaSet Scaled up replica set " +
                                 set.metadata().name() + " from 0 to 3"));
}

TEST_F(DeploymentTest, RollingUpdateKeepsItsBoundsAtEveryStep) {
  Create(MakeDeployment(10, "30%", "20%"));  // 3 more, 2 fewer
  Finish();
  SetImage("nginx:2");
  for (int i = 0; i < 100 && SetOf("nginx:2")->status().available_replicas() < 10; ++i) {
    EXPECT_LE(LivePods().size(), 13u);
    EXPECT_GE(Ready(), 8);
    // One pod at a time becomes ready or goes.
    for (const auto& pod : List<Pod>()) {
      if (IsBeingDeleted(pod->metadata())) {
        client_.Remove(*pod, "ns", pod->metadata().name());
        break;
      }
      if (!IsPodReady(*pod)) {
        SetReady(*pod, true);
        break;
      }
    }
    Settle();
  }
  Finish();
  EXPECT_EQ(SetOf("nginx:2")->spec().replicas(), 10);
  EXPECT_EQ(SetOf("nginx:1")->spec().replicas(), 0);
  EXPECT_EQ(LivePods().size(), 10u);
  EXPECT_EQ(Progress(), "True NewReplicaSetAvailable");
  EXPECT_EQ(Web()->metadata().annotations().at("deployment.kubernetes.io/revision"), "2");
}

TEST_F(DeploymentTest, ABadImageStopsTheRolloutAndTimesOut) {
  Create(MakeDeployment(4));
  Finish();
  SetImage("broken");
  Advance(seconds(60));
  EXPECT_EQ(Ready(), 3);  // one was given up for the update, as maxUnavailable allows
  EXPECT_EQ(SetOf("broken")->spec().replicas(), 2);
  EXPECT_EQ(FindCondition(Web()->status(), "Available")->status(), "True");
  Advance(seconds(620));
  EXPECT_EQ(Progress(), "False ProgressDeadlineExceeded");
  EXPECT_EQ(Ready(), 3);
  // Undo as kubectl does it: the old template again.
  SetImage("nginx:1");
  Finish();
  EXPECT_EQ(List<ReplicaSet>().size(), 2u);
  EXPECT_EQ(Ready(), 4);
  EXPECT_EQ(Progress(), "True NewReplicaSetAvailable");
}

TEST_F(DeploymentTest, UndoBringsTheOldReplicaSetBackUnderANewRevision) {
  Create(MakeDeployment(2));
  Finish();
  SetImage("nginx:2");
  Finish();
  SetImage("nginx:1");
  Finish();
  EXPECT_EQ(List<ReplicaSet>().size(), 2u);
  const auto& annotations = SetOf("nginx:1")->metadata().annotations();
  EXPECT_EQ(annotations.at("deployment.kubernetes.io/revision"), "3");
  EXPECT_EQ(annotations.at("deployment.kubernetes.io/revision-history"), "1");
  EXPECT_EQ(RevisionAnnotation(SetOf("nginx:2")->metadata()), 2);
  EXPECT_EQ(RevisionAnnotation(Web()->metadata()), 3);
}

TEST_F(DeploymentTest, RecreateNeverRunsTwoVersions) {
  Deployment deployment = MakeDeployment(3);
  deployment.mutable_spec()->mutable_strategy()->clear_rolling_update();
  deployment.mutable_spec()->mutable_strategy()->set_type("Recreate");
  Create(deployment);
  Finish();
  SetImage("nginx:2");
  EXPECT_EQ(LivePods().size(), 0u);
  EXPECT_EQ(SetOf("nginx:2"), nullptr);  // the old ones are still ending
  auto pods = List<Pod>();
  ASSERT_EQ(pods.size(), 3u);
  client_.Remove(*pods[0], "ns", pods[0]->metadata().name());
  Settle();
  EXPECT_EQ(SetOf("nginx:2"), nullptr);
  Finish();
  EXPECT_EQ(SetOf("nginx:2")->status().available_replicas(), 3);
  EXPECT_EQ(Progress(), "True NewReplicaSetAvailable");
}

TEST_F(DeploymentTest, ScalesUpAndDown) {
  Create(MakeDeployment(2));
  Finish();
  Change([](auto& spec) { spec.set_replicas(10); });
  Finish();
  EXPECT_EQ(Ready(), 10);
  const std::string name = SetOf("nginx:1")->metadata().name();
  EXPECT_THAT(Events(),
              Contains("Normal ScalingReplicaSet Scaled up replica set " + name + " from 2 to 10"));
  Change([](auto& spec) { spec.set_replicas(0); });
  Finish();
  EXPECT_TRUE(List<Pod>().empty());
  EXPECT_EQ(Web()->status().replicas(), 0);
  EXPECT_EQ(List<ReplicaSet>().size(), 1u);
  EXPECT_EQ(SetOf("nginx:1")->metadata().annotations().at(kDesiredReplicasAnnotation), "0");
}

TEST_F(DeploymentTest, PausedItOnlyScales) {
  Create(MakeDeployment(2));
  Finish();
  Change([](auto& spec) { spec.set_paused(true); });
  EXPECT_EQ(Progress(), "Unknown DeploymentPaused");
  SetImage("nginx:2");
  Change([](auto& spec) { spec.set_replicas(4); });
  Finish();
  EXPECT_EQ(List<ReplicaSet>().size(), 1u);
  EXPECT_EQ(SetOf("nginx:1")->spec().replicas(), 4);
  Change([](auto& spec) { spec.set_paused(false); });
  Finish();
  EXPECT_EQ(SetOf("nginx:2")->spec().replicas(), 4);
  EXPECT_EQ(SetOf("nginx:1")->spec().replicas(), 0);
  EXPECT_EQ(Progress(), "True NewReplicaSetAvailable");
}

TEST_F(DeploymentTest, KeepsAsMuchHistoryAsAsked) {
  Deployment deployment = MakeDeployment(1);
  deployment.mutable_spec()->set_revision_history_limit(2);
  Create(deployment);
  for (int i = 2; i <= 6; ++i) {
    Finish();
    SetImage("nginx:" + std::to_string(i));
  }
  Finish();
  EXPECT_EQ(List<ReplicaSet>().size(), 3u);
  EXPECT_EQ(SetOf("nginx:3"), nullptr);
  EXPECT_NE(SetOf("nginx:4"), nullptr);
}

TEST_F(DeploymentTest, ACollidingHashGetsAnotherName) {
  Deployment deployment = MakeDeployment(1);
  ReplicaSet foreign;
  foreign.mutable_metadata()->set_namespace_("ns");
  foreign.mutable_metadata()->set_name("web-" + PodTemplateHash(deployment.spec().template_(), 0));
  (*foreign.mutable_spec()->mutable_selector()->mutable_match_labels())["app"] = "other";
  ASSERT_TRUE(client_.Create(foreign).ok());
  Create(deployment);
  Advance(seconds(1));
  EXPECT_EQ(Web()->status().collision_count(), 1);
  EXPECT_EQ(SetOf("nginx:1")->metadata().name(),
            "web-" + PodTemplateHash(deployment.spec().template_(), 1));
}

TEST_F(DeploymentTest, AdoptsAnOrphanedReplicaSet) {
  Create(MakeDeployment(2));
  Finish();
  const std::string name = SetOf("nginx:1")->metadata().name();
  Update<ReplicaSet>("ns", name,
                     [](ReplicaSet& set) { set.mutable_metadata()->clear_owner_references(); });
  EXPECT_TRUE(IsControlledBy(Get<ReplicaSet>("ns", name)->metadata(), Web()->metadata().uid()));
  EXPECT_EQ(List<ReplicaSet>().size(), 1u);
}

TEST_F(DeploymentTest, RestartRollsEveryPod) {
  Create(MakeDeployment(2));
  Finish();
  Change([](auto& spec) {
    (*spec.mutable_template_()
          ->mutable_metadata()
          ->mutable_annotations())["kubectl.kubernetes.io/restartedAt"] = "now";
  });
  Finish();
  EXPECT_EQ(List<ReplicaSet>().size(), 2u);
  EXPECT_EQ(Ready(), 2);
  EXPECT_EQ(RevisionAnnotation(Web()->metadata()), 2);
}

TEST_F(DeploymentTest, SettlesWithoutFurtherWrites) {
  Create(MakeDeployment(3));
  Finish();
  SetImage("nginx:2");
  Finish();
  int writes = client_.writes();
  client_.ResetWatches();
  Advance(seconds(3600));
  EXPECT_EQ(client_.writes(), writes);
}

TEST_F(DeploymentTest, LostWritesAreRepeated) {
  // Every third write fails once with a conflict.
  int writes = 0;
  client_.intercept = [&](std::string_view, const Message&) -> std::optional<Error> {
    if (++writes % 3 == 0) return Error(Code::kConflict, "try again");
    return {};
  };
  (void)client_.Create(MakeDeployment(5));
  Advance(seconds(5));
  client_.intercept = nullptr;
  Finish();
  EXPECT_EQ(LivePods().size(), 5u);
  EXPECT_EQ(List<ReplicaSet>().size(), 1u);
}

// ---- the sizes, as a table ----

ReplicaSetPtr MakeSet(const std::string& name, int64_t created, int size, int available,
                      int desired = 10, int max = 10) {
  auto set = std::make_shared<ReplicaSet>();
  set->mutable_metadata()->set_name(name);
  set->mutable_metadata()->mutable_creation_timestamp()->set_seconds(created);
  set->mutable_spec()->set_replicas(size);
  set->mutable_status()->set_replicas(size);
  set->mutable_status()->set_available_replicas(available);
  SetSizeAnnotations(set.get(), desired, max);
  return set;
}
std::vector<std::string> Sizes(const std::vector<Resize>& resizes) {
  std::vector<std::string> sizes;
  for (const Resize& resize : resizes) {
    sizes.push_back(resize.set->metadata().name() + "=" + std::to_string(resize.replicas));
  }
  return sizes;
}

TEST(DeploymentRolloutTest, BoundsRoundInTheRightDirection) {
  EXPECT_EQ(MaxSurge(MakeDeployment(10, "25%", "25%")), 3);
  EXPECT_EQ(MaxUnavailable(MakeDeployment(10, "25%", "25%")), 2);
  EXPECT_EQ(MaxSurge(MakeDeployment(1, "25%", "25%")), 1);
  EXPECT_EQ(MaxUnavailable(MakeDeployment(1, "25%", "25%")), 0);
  EXPECT_EQ(MaxUnavailable(MakeDeployment(5, "0%", "0%")), 1);  // else nothing could move
  EXPECT_EQ(MaxUnavailable(MakeDeployment(0, "0%", "100%")), 0);
}

TEST(DeploymentRolloutTest, OldOnesShrinkByWhatIsNotNeeded) {
  struct Case {
    ReplicaSets sets;
    std::vector<std::string> want;
  };
  const Deployment web = MakeDeployment(10, "30%", "20%");
  const Case cases[] = {
      // Nothing of the new one is available yet: two may go.
      {{MakeSet("new", 3, 3, 0), {MakeSet("old", 1, 10, 10)}}, {"old=8"}},
      {{MakeSet("new", 3, 3, 3), {MakeSet("old", 1, 10, 10)}}, {"old=5"}},
      {{MakeSet("new", 3, 5, 0), {MakeSet("old", 1, 8, 8)}}, {}},
      // What is not available goes first and costs nothing.
      {{MakeSet("new", 3, 3, 0), {MakeSet("bad", 1, 2, 0), MakeSet("old", 2, 8, 8)}}, {"bad=0"}},
      {{MakeSet("new", 3, 10, 10), {MakeSet("a", 1, 2, 2), MakeSet("b", 2, 1, 1)}}, {"a=0", "b=0"}},
      {{MakeSet("new", 3, 10, 10), {MakeSet("old", 1, 0, 0)}}, {}},
  };
  for (const Case& c : cases) EXPECT_EQ(Sizes(ShrinkOld(web, c.sets)), c.want);
}

TEST(DeploymentRolloutTest, AChangeOfSizeIsSharedInProportion) {
  struct Case {
    int replicas;
    ReplicaSets sets;
    std::vector<std::string> want;
  };
  // No surge: the sizes are easy to see.
  const Case cases[] = {
      {12, {MakeSet("new", 3, 10, 10), {MakeSet("old", 1, 0, 0)}}, {"new=12"}},
      {4, {nullptr, {MakeSet("old", 1, 10, 10)}}, {"old=4"}},
      {20, {MakeSet("new", 3, 5, 0), {MakeSet("old", 1, 5, 5)}}, {"new=10", "old=10"}},
      {5, {MakeSet("new", 3, 5, 0), {MakeSet("old", 1, 5, 5)}}, {"old=2", "new=3"}},
      {0, {MakeSet("new", 3, 4, 0), {MakeSet("old", 1, 6, 6)}}, {"old=0", "new=0"}},
      {15, {MakeSet("new", 3, 2, 0), {MakeSet("old", 1, 8, 8)}}, {"old=12", "new=3"}},
  };
  for (const Case& c : cases) {
    Deployment web = MakeDeployment(c.replicas, "0%", "20%");
    EXPECT_EQ(Sizes(ScaleInProportion(web, c.sets)), c.want) << c.replicas;
  }
}

TEST(DeploymentRevisionTest, HashesAndTemplates) {
  auto a = PodTemplate("web", "nginx:1"), b = PodTemplate("web", "nginx:2");
  EXPECT_EQ(PodTemplateHash(a, 0), PodTemplateHash(PodTemplate("web", "nginx:1"), 0));
  EXPECT_NE(PodTemplateHash(a, 0), PodTemplateHash(b, 0));
  EXPECT_NE(PodTemplateHash(a, 0), PodTemplateHash(a, 1));
  EXPECT_EQ(PodTemplateHash(a, 0).find_first_not_of("bcdfghjklmnpqrstvwxz2456789"),
            std::string::npos);
  (*b.mutable_metadata()->mutable_labels())["pod-template-hash"] = "x";
  EXPECT_FALSE(EqualTemplates(a, b));
  b.mutable_spec()->mutable_containers(0)->set_image("nginx:1");
  EXPECT_TRUE(EqualTemplates(a, b));
}

}  // namespace
}  // namespace skiff::cp
