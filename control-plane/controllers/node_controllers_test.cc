#include <gmock/gmock.h>

#include "control-plane/controllers/node_cidrs.h"
#include "control-plane/controllers/node_health.h"
#include "control-plane/controllers/node_lifecycle_controller.h"
#include "control-plane/controllers/pod_gc_controller.h"
#include "control-plane/controllers/testing_fixture.h"
#include "proto/k8s/coordination/v1/coordination.pb.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/placement.pb.h"

namespace skiff::cp {
namespace {

using k8s::coordination::v1::Lease;
using k8s::core::v1::Node;
using k8s::core::v1::Pod;
using std::chrono::seconds;
using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

class NodeTest : public ControllerTest {
 protected:
  void CreateNode(const std::string& name) {
    Node node;
    node.mutable_metadata()->set_name(name);
    auto* ready = node.mutable_status()->add_conditions();
    ready->set_type("Ready");
    ready->set_status("True");
    (void)client_.Create(node).value();
    Lease lease;
    lease.mutable_metadata()->set_namespace_("kube-node-lease");
    lease.mutable_metadata()->set_name(name);
    (void)client_.Create(lease).value();
    Settle();
  }
  void Renew(const std::string& name) {
    Update<Lease>("kube-node-lease", name, [this](Lease& lease) {
      SetMicroTime(lease.mutable_spec()->mutable_renew_time(), executor_.clock().WallNow());
    });
  }
  // Time passes while these nodes are alive.
  void Live(seconds time, const std::vector<std::string>& alive) {
    for (seconds passed{0}; passed < time; passed += seconds(10)) {
      Advance(seconds(10));
      for (const std::string& name : alive) Renew(name);
    }
  }
  void SetReadyCondition(const std::string& name, const std::string& status) {
    Node node = *Get<Node>("", name);
    MutableCondition(node.mutable_status(), "Ready")->set_status(status);
    (void)client_.UpdateStatus(node).value();
    Settle();
  }
  void CreatePod(const std::string& name, const std::string& node, int toleration_seconds) {
    Pod pod;
    pod.mutable_metadata()->set_namespace_("ns");
    pod.mutable_metadata()->set_name(name);
    pod.mutable_spec()->set_node_name(node);
    for (const char* key : {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}) {
      auto* toleration = pod.mutable_spec()->add_tolerations();
      toleration->set_key(key);
      toleration->set_operator_("Exists");
      toleration->set_effect("NoExecute");
      if (toleration_seconds >= 0) toleration->set_toleration_seconds(toleration_seconds);
    }
    (void)client_.Create(pod).value();
    SetReady(pod, true);
    Settle();
  }
  std::string Ready(const std::string& name) { return ReadyStatus(*Get<Node>("", name)); }
  std::vector<std::string> Taints(const std::string& name) {
    std::vector<std::string> taints;
    for (const auto& taint : Get<Node>("", name)->spec().taints()) {
      taints.push_back(taint.key().substr(taint.key().find('/') + 1) + ":" + taint.effect());
    }
    return taints;
  }
  bool Evicted(const std::string& pod) { return IsBeingDeleted(Get<Pod>("ns", pod)->metadata()); }
};

TEST_F(NodeTest, ASilentNodeBecomesUnknownIsTaintedAndEmptied) {
  Run(MakeNodeLifecycleController(client_, executor_));
  for (const char* name : {"n1", "n2", "n3"}) CreateNode(name);
  CreatePod("stays", "n1", -1);
  CreatePod("goes", "n1", 300);
  CreatePod("elsewhere", "n2", 300);
  Live(seconds(30), {"n1", "n2", "n3"});
  Live(seconds(40), {"n2", "n3"});
  EXPECT_EQ(Ready("n1"), "True");  // 40 s of grace
  Live(seconds(20), {"n2", "n3"});
  EXPECT_EQ(Ready("n1"), "Unknown");
  const auto node = Get<Node>("", "n1");
  EXPECT_EQ(FindCondition(node->status(), "Ready")->reason(), "NodeStatusUnknown");
  EXPECT_EQ(FindCondition(node->status(), "MemoryPressure")->status(), "Unknown");
  EXPECT_THAT(Taints("n1"),
              UnorderedElementsAre("unreachable:NoSchedule", "unreachable:NoExecute"));
  EXPECT_FALSE(IsPodReady(*Get<Pod>("ns", "goes")));
  EXPECT_TRUE(IsPodReady(*Get<Pod>("ns", "elsewhere")));
  EXPECT_THAT(Events(), Contains("Normal NodeNotReady Node n1 status is now: NodeNotReady"));
  Live(seconds(270), {"n2", "n3"});
  EXPECT_FALSE(Evicted("goes"));
  Live(seconds(40), {"n2", "n3"});
  EXPECT_TRUE(Evicted("goes"));
  EXPECT_FALSE(Evicted("stays"));
  EXPECT_FALSE(Evicted("elsewhere"));
  EXPECT_THAT(Taints("n2"), IsEmpty());
}

TEST_F(NodeTest, ANodeThatComesBackLosesItsTaints) {
  Run(MakeNodeLifecycleController(client_, executor_));
  for (const char* name : {"n1", "n2"}) CreateNode(name);
  CreatePod("web", "n1", 300);
  Live(seconds(120), {"n2"});
  EXPECT_EQ(Taints("n1").size(), 2u);
  Renew("n1");
  SetReadyCondition("n1", "True");
  EXPECT_THAT(Taints("n1"), IsEmpty());
  Live(seconds(600), {"n1", "n2"});
  EXPECT_FALSE(Evicted("web"));
}

TEST_F(NodeTest, NothingIsEvictedWhenAllNodesLookDead) {
  Run(MakeNodeLifecycleController(client_, executor_));
  for (const char* name : {"n1", "n2"}) CreateNode(name);
  CreatePod("web", "n1", 10);
  Live(seconds(1800), {});
  EXPECT_EQ(Ready("n1"), "Unknown");
  EXPECT_EQ(Ready("n2"), "Unknown");
  EXPECT_THAT(Taints("n1"), ElementsAre("unreachable:NoSchedule"));
  EXPECT_FALSE(Evicted("web"));
}

TEST_F(NodeTest, NotReadyIsTaintedOtherwiseThanUnreachable) {
  Run(MakeNodeLifecycleController(client_, executor_));
  for (const char* name : {"n1", "n2"}) CreateNode(name);
  SetReadyCondition("n1", "False");
  EXPECT_THAT(Taints("n1"), UnorderedElementsAre("not-ready:NoSchedule", "not-ready:NoExecute"));
}

TEST_F(NodeTest, ACordonIsATaint) {
  Run(MakeNodeLifecycleController(client_, executor_));
  CreateNode("n1");
  Update<Node>("", "n1", [](Node& node) { node.mutable_spec()->set_unschedulable(true); });
  EXPECT_THAT(Taints("n1"), ElementsAre("unschedulable:NoSchedule"));
  Update<Node>("", "n1", [](Node& node) {
    node.mutable_spec()->set_unschedulable(false);
    auto* taint = node.mutable_spec()->add_taints();
    taint->set_key("example.com/own");
    taint->set_effect("NoSchedule");
  });
  EXPECT_THAT(Taints("n1"), ElementsAre("own:NoSchedule"));
}

TEST_F(NodeTest, ATaintOfTheUserEvictsWhatDoesNotTolerateIt) {
  Run(MakeNodeLifecycleController(client_, executor_));
  CreateNode("n1");
  CreatePod("web", "n1", 300);
  Update<Node>("", "n1", [](Node& node) {
    auto* taint = node.mutable_spec()->add_taints();
    taint->set_key("example.com/drain");
    taint->set_effect("NoExecute");
  });
  EXPECT_TRUE(Evicted("web"));
  const auto* condition = FindCondition(Get<Pod>("ns", "web")->status(), "DisruptionTarget");
  ASSERT_NE(condition, nullptr);
  EXPECT_EQ(condition->reason(), "DeletionByTaintManager");
}

TEST_F(NodeTest, WhatToleratesATaintForAWhileHasThatWhile) {
  Run(MakeNodeLifecycleController(client_, executor_));
  CreateNode("n1");
  auto create = [this](const std::string& name, int tolerated_seconds) {
    Pod pod;
    pod.mutable_metadata()->set_namespace_("ns");
    pod.mutable_metadata()->set_name(name);
    pod.mutable_spec()->set_node_name("n1");
    auto* toleration = pod.mutable_spec()->add_tolerations();
    toleration->set_key("example.com/drain");
    toleration->set_operator_("Exists");
    toleration->set_toleration_seconds(tolerated_seconds);
    (void)client_.Create(pod).value();
    Settle();
  };
  create("brief", 10);
  create("long", 100);
  Live(seconds(1000), {"n1"});
  Update<Node>("", "n1", [](Node& node) {
    auto* taint = node.mutable_spec()->add_taints();  // without its time, as kubectl adds it
    taint->set_key("example.com/drain");
    taint->set_effect("NoExecute");
  });
  EXPECT_FALSE(Evicted("brief"));
  Live(seconds(20), {"n1"});
  EXPECT_TRUE(Evicted("brief"));
  // One that comes later has its time too.
  create("late", 100);
  Live(seconds(90), {"n1"});
  EXPECT_TRUE(Evicted("long"));
  EXPECT_FALSE(Evicted("late"));
  Live(seconds(20), {"n1"});
  EXPECT_TRUE(Evicted("late"));
}

TEST(NodeHealthTest, Disruption) {
  EXPECT_EQ(DisruptionOf(3, 0), Disruption::kNone);
  EXPECT_EQ(DisruptionOf(0, 0), Disruption::kNone);
  EXPECT_EQ(DisruptionOf(1, 2), Disruption::kNone);
  EXPECT_EQ(DisruptionOf(2, 3), Disruption::kPartial);
  EXPECT_EQ(DisruptionOf(10, 3), Disruption::kNone);
  EXPECT_EQ(DisruptionOf(0, 1), Disruption::kFull);
}

class PodGcTest : public NodeTest {
 protected:
  PodGcTest() { Run(MakePodGcController(client_, executor_)); }
};

TEST_F(PodGcTest, PodsOfAMissingNodeFailAndGo) {
  CreateNode("n1");
  CreatePod("here", "n1", 300);
  CreatePod("lost", "n2", 300);
  Advance(seconds(45));
  EXPECT_NE(Get<Pod>("ns", "lost"), nullptr);
  Advance(seconds(60));
  EXPECT_EQ(Get<Pod>("ns", "lost"), nullptr);
  EXPECT_NE(Get<Pod>("ns", "here"), nullptr);
}

TEST_F(PodGcTest, ANodeThatReturnsInTimeKeepsItsPods) {
  CreatePod("web", "n1", 300);
  Advance(seconds(45));
  CreateNode("n1");
  Advance(seconds(600));
  EXPECT_NE(Get<Pod>("ns", "web"), nullptr);
}

TEST(CidrAllocatorTest, HandsOutThePartsInTurn) {
  CidrAllocator allocator = CidrAllocator::Make("10.244.0.0/22", 24).value();
  allocator.Occupy("10.244.1.0/24");
  allocator.Occupy("10.9.0.0/24");  // not ours
  EXPECT_EQ(allocator.Acquire().value(), "10.244.0.0/24");
  EXPECT_EQ(allocator.Acquire().value(), "10.244.2.0/24");
  allocator.Release("10.244.0.0/24");
  EXPECT_EQ(allocator.Acquire().value(), "10.244.3.0/24");  // a released part rests
  EXPECT_EQ(allocator.Acquire().value(), "10.244.0.0/24");
  EXPECT_EQ(allocator.Acquire().error().code(), Code::kResourceExhausted);
}

TEST(CidrAllocatorTest, BothFamiliesAndLimits) {
  CidrAllocator v6 = CidrAllocator::Make("fd00:10::/48", 64).value();
  EXPECT_EQ(v6.Acquire().value(), "fd00:10::/64");
  EXPECT_EQ(v6.Acquire().value(), "fd00:10:0:1::/64");
  v6.Occupy("fd00:10:0:2::/64");
  EXPECT_EQ(v6.Acquire().value(), "fd00:10:0:3::/64");
  EXPECT_FALSE(CidrAllocator::Make("10.0.0.0/24", 16).ok());
  EXPECT_FALSE(CidrAllocator::Make("10.0.0.1/24", 28).ok());
  EXPECT_FALSE(CidrAllocator::Make("10.0.0.0/24", 33).ok());
  EXPECT_EQ(CidrAllocator::Make("10.0.0.0/24", 24)->Acquire().value(), "10.0.0.0/24");
}

TEST_F(NodeTest, EveryNodeGetsItsOwnCidrs) {
  CreateNode("old");
  Update<Node>("", "old", [](Node& node) {
    node.mutable_spec()->set_pod_cidr("10.244.0.0/24");
    node.mutable_spec()->add_pod_cidrs("10.244.0.0/24");
  });
  Run(MakeNodeCidrController(client_, executor_,
                             {CidrAllocator::Make("10.244.0.0/23", 24).value(),
                              CidrAllocator::Make("fd00::/48", 64).value()}));
  CreateNode("n1");
  EXPECT_EQ(Get<Node>("", "n1")->spec().pod_cidr(), "10.244.1.0/24");
  EXPECT_THAT(Get<Node>("", "n1")->spec().pod_cidrs(),
              ElementsAre("10.244.1.0/24", testing::HasSubstr("fd00:")));
  CreateNode("n2");
  EXPECT_TRUE(Get<Node>("", "n2")->spec().pod_cidr().empty());
  EXPECT_THAT(Events(),
              Contains("Normal CIDRNotAvailable Node n2 status is now: CIDRNotAvailable"));
  // A family that the cluster did not have when the node came is added behind.
  EXPECT_THAT(Get<Node>("", "old")->spec().pod_cidrs(),
              ElementsAre("10.244.0.0/24", testing::HasSubstr("fd00:")));
  EXPECT_EQ(Get<Node>("", "old")->spec().pod_cidr(), "10.244.0.0/24");
  ASSERT_TRUE(client_.Delete<Node>("", "old").ok());
  Settle();
  EXPECT_EQ(Get<Node>("", "n2")->spec().pod_cidr(), "10.244.0.0/24");
}

}  // namespace
}  // namespace skiff::cp
