#include "control-plane/scheduler/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "control-plane/api/testing/fake_client.h"
#include "control-plane/controllers/framework/objects.h"
#include "control-plane/scheduler/scheduling_queue.h"
#include "control-plane/scheduler/testing_objects.h"
#include "proto/k8s/core/v1/event.pb.h"
#include "proto/k8s/core/v1/service.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::Node;
using k8s::core::v1::Pod;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Contains;

class SchedulerTest : public testing::Test {
 protected:
  SchedulerTest() {
    scheduler_.Start();
    Settle();
  }
  void Settle() { executor_.RunUntilIdle(); }
  void Advance(std::chrono::nanoseconds by) { executor_.Advance(by); }
  void CreateNode(const std::string& name, const std::string& cpu = "4") {
    (void)client_.Create(MakeNode(name, cpu, "8Gi", "110")).value();
    Settle();
  }
  void CreatePod(Pod pod) {
    (void)client_.Create(pod).value();
    Settle();
  }
  std::string NodeOf(const std::string& pod) {
    return client_.Get<Pod>("ns", pod).value()->spec().node_name();
  }
  const k8s::core::v1::PodCondition* Scheduled(const std::string& pod) {
    kept_ = client_.Get<Pod>("ns", pod).value();
    return FindCondition(kept_->status(), "PodScheduled");
  }
  std::vector<std::string> Events() {
    std::vector<std::string> lines;
    auto events = client_.List<k8s::core::v1::Event>().value();
    for (const auto& event : events.items) {
      lines.push_back(event->type() + " " + event->reason() + " " + event->message());
    }
    return lines;
  }
  template <class Change>
  void UpdateNode(const std::string& name, Change change) {
    Node node = *client_.Get<Node>("", name).value();
    change(node);
    (void)client_.Update(node).value();
    Settle();
  }

  ManualExecutor executor_;
  FakeClient client_{executor_.clock()};
  Scheduler scheduler_{{.client = &client_, .executor = &executor_}};
  std::shared_ptr<const Pod> kept_;
};

TEST_F(SchedulerTest, BindsAndTells) {
  CreateNode("n1");
  CreatePod(MakePod("web", "1", "1Gi"));
  EXPECT_EQ(NodeOf("web"), "n1");
  EXPECT_EQ(Scheduled("web")->status(), "True");
  EXPECT_THAT(Events(), Contains("Normal Scheduled Successfully assigned ns/web to n1"));
}

TEST_F(SchedulerTest, SaysWhyNotAndTriesAgainWhenANodeComes) {
  CreatePod(MakePod("web", "1", "1Gi"));
  ASSERT_NE(Scheduled("web"), nullptr);
  EXPECT_EQ(Scheduled("web")->message(), "no nodes available to schedule pods");
  CreateNode("small", "500m");
  Advance(seconds(10));
  EXPECT_EQ(Scheduled("web")->status(), "False");
  EXPECT_EQ(Scheduled("web")->reason(), "Unschedulable");
  EXPECT_EQ(Scheduled("web")->message(), "0/1 nodes are available: 1 Insufficient cpu.");
  EXPECT_THAT(Events(), Contains("Warning FailedScheduling 0/1 nodes are available: 1 "
                                 "Insufficient cpu."));
  CreateNode("large");
  Advance(seconds(4));
  EXPECT_EQ(NodeOf("web"), "large");
}

TEST_F(SchedulerTest, ANodeThatIsNoGoodCostsNoAttempt) {
  CreatePod(MakePod("web", "1", "1Gi"));
  Advance(seconds(30));
  Node tainted = MakeNode("n1", "4", "8Gi", "110");
  auto* taint = tainted.mutable_spec()->add_taints();
  taint->set_key("node.kubernetes.io/not-ready");
  taint->set_effect("NoSchedule");
  ASSERT_TRUE(client_.Create(tainted).ok());
  Settle();
  UpdateNode("n1", [](Node& node) { node.mutable_spec()->clear_taints(); });
  EXPECT_EQ(NodeOf("web"), "n1");  // at once: no attempt had been made in between
}

TEST_F(SchedulerTest, APodThatGoesMakesRoom) {
  CreateNode("n1");
  CreatePod(MakePod("a", "3", "1Gi"));
  CreatePod(MakePod("b", "3", "1Gi"));
  Advance(seconds(20));
  EXPECT_EQ(NodeOf("b"), "");
  client_.Remove(Pod::default_instance(), "ns", "a");
  Settle();
  EXPECT_EQ(NodeOf("b"), "n1");
}

TEST_F(SchedulerTest, AnEndedPodMakesRoom) {
  CreateNode("n1");
  CreatePod(MakePod("a", "3", "1Gi"));
  CreatePod(MakePod("b", "3", "1Gi"));
  Advance(seconds(20));
  Pod ended = *client_.Get<Pod>("ns", "a").value();
  ended.mutable_status()->set_phase("Succeeded");
  ASSERT_TRUE(client_.UpdateStatus(ended).ok());
  Settle();
  EXPECT_EQ(NodeOf("b"), "n1");
}

TEST_F(SchedulerTest, NeverGivesMoreThanThereIs) {
  // All are decided before the first binding shows in the cache.
  for (int i = 0; i < 12; ++i) {
    (void)client_.Create(MakePod("p" + std::to_string(i), "1", "1Gi")).value();
  }
  (void)client_.Create(MakeNode("n1", "4", "8Gi", "110")).value();
  (void)client_.Create(MakeNode("n2", "4", "8Gi", "110")).value();
  Advance(seconds(60));
  std::map<std::string, int> on_node;
  for (int i = 0; i < 12; ++i) ++on_node[NodeOf("p" + std::to_string(i))];
  EXPECT_EQ(on_node["n1"], 4);
  EXPECT_EQ(on_node["n2"], 4);
  EXPECT_EQ(on_node[""], 4);
}

TEST_F(SchedulerTest, ReplicasOfAServiceSpread) {
  for (const char* name : {"n1", "n2", "n3"}) CreateNode(name);
  k8s::core::v1::Service service;
  service.mutable_metadata()->set_namespace_("ns");
  service.mutable_metadata()->set_name("web");
  (*service.mutable_spec()->mutable_selector())["app"] = "web";
  ASSERT_TRUE(client_.Create(service).ok());
  Settle();
  std::map<std::string, int> on_node;
  for (int i = 0; i < 9; ++i) {
    Pod pod = MakePod("p" + std::to_string(i), "", "");
    (*pod.mutable_metadata()->mutable_labels())["app"] = "web";
    CreatePod(pod);
    ++on_node[NodeOf("p" + std::to_string(i))];
  }
  EXPECT_EQ(on_node["n1"], 3);
  EXPECT_EQ(on_node["n2"], 3);
  EXPECT_EQ(on_node["n3"], 3);
}

TEST_F(SchedulerTest, AFailedBindingGivesTheRoomBackAndIsRepeated) {
  CreateNode("n1");
  int failures = 2;
  client_.intercept = [&](std::string_view verb, const Message&) -> std::optional<Error> {
    if (verb == "bind" && failures-- > 0) return Error(Code::kUnavailable, "store");
    return {};
  };
  CreatePod(MakePod("web", "3", "1Gi"));
  EXPECT_EQ(NodeOf("web"), "");
  Advance(milliseconds(900));
  EXPECT_EQ(failures, 1);  // its back-off is a second
  Advance(seconds(10));
  EXPECT_EQ(NodeOf("web"), "n1");
}

TEST_F(SchedulerTest, LeavesAloneWhatIsNotItsOwn) {
  CreateNode("n1");
  Pod other = MakePod("other", "", "");
  other.mutable_spec()->set_scheduler_name("another");
  CreatePod(other);
  Pod gated = MakePod("gated", "", "");
  gated.mutable_spec()->add_scheduling_gates()->set_name("example.com/wait");
  CreatePod(gated);
  EXPECT_EQ(NodeOf("other"), "");
  EXPECT_EQ(NodeOf("gated"), "");
  Pod open = *client_.Get<Pod>("ns", "gated").value();
  open.mutable_spec()->clear_scheduling_gates();
  ASSERT_TRUE(client_.Update(open).ok());
  Settle();
  EXPECT_EQ(NodeOf("gated"), "n1");
}

TEST_F(SchedulerTest, AnUncordonWakesPodsButHeartbeatsDoNot) {
  CreateNode("n1");
  UpdateNode("n1", [](Node& node) { node.mutable_spec()->set_unschedulable(true); });
  CreatePod(MakePod("web", "1", "1Gi"));
  Advance(seconds(15));
  int writes = client_.writes();
  Node beating = *client_.Get<Node>("", "n1").value();
  beating.mutable_status()->add_conditions()->set_type("Ready");
  ASSERT_TRUE(client_.UpdateStatus(beating).ok());
  Advance(seconds(15));
  EXPECT_EQ(client_.writes(), writes + 1);
  UpdateNode("n1", [](Node& node) { node.mutable_spec()->set_unschedulable(false); });
  EXPECT_EQ(NodeOf("web"), "n1");
}

// A pod of this app that keeps away from others of its kind in a zone.
Pod Lonely(const std::string& name) {
  Pod pod = MakePod(name, "100m", "1Mi");
  (*pod.mutable_metadata()->mutable_labels())["app"] = "lonely";
  auto* term = pod.mutable_spec()
                   ->mutable_affinity()
                   ->mutable_pod_anti_affinity()
                   ->add_required_during_scheduling_ignored_during_execution();
  term->set_topology_key("zone");
  (*term->mutable_label_selector()->mutable_match_labels())["app"] = "lonely";
  return pod;
}

TEST_F(SchedulerTest, APodThatWaitsForItsNeighboursIsWokenByThem) {
  for (const char* name : {"n1", "n2"}) {
    CreateNode(name, "1");
    UpdateNode(name,
               [](Node& node) { (*node.mutable_metadata()->mutable_labels())["zone"] = "z"; });
  }
  Pod like = MakePod("a", "100m", "1Mi");
  (*like.mutable_metadata()->mutable_labels())["app"] = "lonely";
  CreatePod(like);
  CreatePod(MakePod("filler", "950m", "1Mi"));
  ASSERT_NE(NodeOf("a"), NodeOf("filler"));
  CreatePod(Lonely("b"));
  Advance(seconds(20));
  EXPECT_EQ(NodeOf("b"), "");
  EXPECT_EQ(Scheduled("b")->message(),
            "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match pod anti-affinity "
            "rules.");
  // The neighbour stays where it is, but is no longer of that kind.
  Pod renamed = *client_.Get<Pod>("ns", "a").value();
  (*renamed.mutable_metadata()->mutable_labels())["app"] = "other";
  ASSERT_TRUE(client_.Update(renamed).ok());
  Settle();
  EXPECT_EQ(NodeOf("b"), NodeOf("a"));
}

TEST_F(SchedulerTest, APodComesToTheOneItNeeds) {
  for (const char* name : {"n1", "n2", "n3"}) {
    CreateNode(name);
    UpdateNode(name, [&](Node& node) {
      (*node.mutable_metadata()->mutable_labels())["kubernetes.io/hostname"] = name;
    });
  }
  Pod needy = MakePod("needy", "", "");
  auto* term = needy.mutable_spec()
                   ->mutable_affinity()
                   ->mutable_pod_affinity()
                   ->add_required_during_scheduling_ignored_during_execution();
  term->set_topology_key("kubernetes.io/hostname");
  (*term->mutable_label_selector()->mutable_match_labels())["app"] = "cache";
  CreatePod(needy);
  EXPECT_EQ(NodeOf("needy"), "");
  Advance(seconds(20));
  Pod cache = MakePod("cache", "", "");
  (*cache.mutable_metadata()->mutable_labels())["app"] = "cache";
  cache.mutable_spec()->set_node_name("n2");
  CreatePod(cache);
  EXPECT_EQ(NodeOf("needy"), "n2");
}

// ---- the queue ----

PodPtr Waiting(const std::string& uid, int priority = 0) {
  auto pod = std::make_shared<Pod>(MakePod(uid, "", ""));
  pod->mutable_spec()->set_priority(priority);
  return pod;
}
std::string Name(const PodPtr& pod) { return pod ? pod->metadata().name() : ""; }

TEST(SchedulingQueueTest, PriorityThenAge) {
  SchedulingQueue queue;
  SteadyTime now;
  for (const PodPtr& pod : {Waiting("a"), Waiting("b"), Waiting("urgent", 100)}) {
    queue.Set(pod, now);
  }
  EXPECT_EQ(Name(queue.Pop(now)), "urgent");
  EXPECT_EQ(Name(queue.Pop(now)), "a");
  queue.Remove("b");
  EXPECT_EQ(queue.Pop(now), nullptr);
}

TEST(SchedulingQueueTest, BackOffDoublesUpToTenSeconds) {
  SchedulingQueue queue;
  SteadyTime now{};
  queue.Set(Waiting("a"), now);
  for (int expected : {1, 2, 4, 8, 10, 10}) {
    ASSERT_EQ(Name(queue.Pop(now)), "a");
    queue.PutBackUnschedulable("a", now);
    EXPECT_EQ(queue.NextDue(), now + std::chrono::minutes(5));
    queue.Wake([](const Pod&) { return true; }, now);
    EXPECT_EQ(queue.NextDue(), now + seconds(expected));
    now += seconds(expected);
    queue.Advance(now);
  }
}

TEST(SchedulingQueueTest, AChangeDuringTheAttemptIsNotLost) {
  SchedulingQueue queue;
  SteadyTime now{};
  queue.Set(Waiting("a"), now);
  (void)queue.Pop(now);
  queue.Wake([](const Pod&) { return true; }, now);
  queue.PutBackUnschedulable("a", now);
  EXPECT_EQ(queue.NextDue(), now + seconds(1));
}

TEST(SchedulingQueueTest, OnlyThoseThatMayFitWake) {
  SchedulingQueue queue;
  SteadyTime now{};
  for (const char* uid : {"a", "b"}) {
    queue.Set(Waiting(uid), now);
    (void)queue.Pop(now);
    queue.PutBackUnschedulable(uid, now);
  }
  now += seconds(30);
  queue.Wake([](const Pod& pod) { return pod.metadata().uid() == "b"; }, now);
  EXPECT_EQ(Name(queue.Pop(now)), "b");
  EXPECT_EQ(queue.Pop(now), nullptr);
}

TEST(SchedulingQueueTest, OnlyRelevantUpdatesWake) {
  SchedulingQueue queue;
  SteadyTime now{};
  queue.Set(Waiting("a"), now);
  (void)queue.Pop(now);
  queue.PutBackUnschedulable("a", now);
  now += seconds(5);
  auto status = std::make_shared<Pod>(*Waiting("a"));
  status->mutable_status()->set_message("x");
  queue.Set(status, now);
  EXPECT_FALSE(queue.HasActive());
  auto labelled = std::make_shared<Pod>(*status);
  (*labelled->mutable_metadata()->mutable_labels())["a"] = "b";
  queue.Set(labelled, now);
  EXPECT_EQ(queue.Pop(now), labelled);
}

TEST(SchedulingQueueTest, NothingWaitsForEver) {
  SchedulingQueue queue;
  SteadyTime now{};
  queue.Set(Waiting("a"), now);
  (void)queue.Pop(now);
  queue.PutBackUnschedulable("a", now);
  queue.Advance(now + std::chrono::minutes(5));
  EXPECT_TRUE(queue.HasActive());
}

}  // namespace
}  // namespace skiff::cp
