// Namespaces and garbage collection, which are seen together in every deletion.

#include <gmock/gmock.h>

#include "control-plane/controllers/deployment_controller.h"
#include "control-plane/controllers/garbage_collector.h"
#include "control-plane/controllers/namespace_controllers.h"
#include "control-plane/controllers/replica_set_controller.h"
#include "control-plane/controllers/testing_fixture.h"
#include "proto/k8s/apps/v1/apps.pb.h"
#include "proto/k8s/core/v1/config.pb.h"
#include "proto/k8s/core/v1/namespace.pb.h"
#include "proto/k8s/core/v1/node.pb.h"

namespace skiff::cp {
namespace {

using k8s::apps::v1::Deployment;
using k8s::apps::v1::ReplicaSet;
using k8s::core::v1::ConfigMap;
using k8s::core::v1::Namespace;
using k8s::core::v1::Pod;
using k8s::core::v1::ServiceAccount;
using std::chrono::seconds;

class NamespaceTest : public ControllerTest {
 protected:
  NamespaceTest() {
    Run(MakeNamespaceDefaultsController(client_, executor_, "PEM"));
    Run(MakeNamespaceDeletionController(client_, executor_));
  }
  void CreateNamespace(const std::string& name) {
    Namespace ns;
    ns.mutable_metadata()->set_name(name);
    (void)client_.Create(ns).value();
    Settle();
  }
};

TEST_F(NamespaceTest, TheSystemsOwnComeUpByThemselves) {
  for (const char* name : {"default", "kube-system", "kube-public", "kube-node-lease"}) {
    EXPECT_NE(Get<Namespace>("", name), nullptr) << name;
    EXPECT_NE(Get<ServiceAccount>(name, "default"), nullptr) << name;
    ASSERT_NE(Get<ConfigMap>(name, "kube-root-ca.crt"), nullptr) << name;
    EXPECT_EQ(Get<ConfigMap>(name, "kube-root-ca.crt")->data().at("ca.crt"), "PEM");
  }
}

TEST_F(NamespaceTest, DefaultsComeBack) {
  CreateNamespace("team");
  ASSERT_TRUE(client_.Delete<ServiceAccount>("team", "default").ok());
  Update<ConfigMap>("team", "kube-root-ca.crt",
                    [](ConfigMap& map) { (*map.mutable_data())["ca.crt"] = "forged"; });
  EXPECT_NE(Get<ServiceAccount>("team", "default"), nullptr);
  EXPECT_EQ(Get<ConfigMap>("team", "kube-root-ca.crt")->data().at("ca.crt"), "PEM");
}

TEST_F(NamespaceTest, DeletionEmptiesItPodsFirst) {
  CreateNamespace("team");
  Pod pod;
  pod.mutable_metadata()->set_namespace_("team");
  pod.mutable_metadata()->set_name("web");
  pod.mutable_spec()->set_node_name("n1");
  ASSERT_TRUE(client_.Create(pod).ok());
  ConfigMap held;
  held.mutable_metadata()->set_namespace_("team");
  held.mutable_metadata()->set_name("held");
  held.mutable_metadata()->add_finalizers("example.com/hold");
  ASSERT_TRUE(client_.Create(held).ok());

  ASSERT_TRUE(client_.Delete<Namespace>("", "team").ok());
  Settle();
  auto ns = Get<Namespace>("", "team");
  ASSERT_NE(ns, nullptr);
  EXPECT_EQ(ns->status().phase(), "Terminating");
  EXPECT_EQ(FindCondition(ns->status(), "NamespaceContentRemaining")->message(),
            "Some resources are remaining: pods. has 1 resource instances");
  EXPECT_TRUE(IsBeingDeleted(Get<Pod>("team", "web")->metadata()));
  EXPECT_FALSE(IsBeingDeleted(Get<ConfigMap>("team", "held")->metadata()));

  RunPods();
  Advance(seconds(1));
  ns = Get<Namespace>("", "team");
  ASSERT_NE(ns, nullptr);
  EXPECT_EQ(FindCondition(ns->status(), "NamespaceFinalizersRemaining")->message(),
            "Some content in the namespace has finalizers remaining: example.com/hold in 1 "
            "resource instances");
  Update<ConfigMap>("team", "held",
                    [](ConfigMap& map) { map.mutable_metadata()->clear_finalizers(); });
  Advance(seconds(1));
  EXPECT_EQ(Get<Namespace>("", "team"), nullptr);
  EXPECT_EQ(Get<ServiceAccount>("team", "default"), nullptr);
  EXPECT_NE(Get<ServiceAccount>("default", "default"), nullptr);
}

class GarbageTest : public ControllerTest {
 protected:
  GarbageTest() { Run(MakeGarbageCollector(client_, executor_)); }
  std::shared_ptr<const ConfigMap> Create(const std::string& name,
                                          std::vector<std::shared_ptr<const ConfigMap>> owners = {},
                                          bool blocking = false) {
    ConfigMap map;
    map.mutable_metadata()->set_namespace_("ns");
    map.mutable_metadata()->set_name(name);
    for (const auto& owner : owners) {
      auto reference = ControllerReference(*owner);
      reference.set_controller(false);
      reference.set_block_owner_deletion(blocking);
      *map.mutable_metadata()->add_owner_references() = reference;
    }
    auto created = client_.Create(map).value();
    Settle();
    return created;
  }
  bool Exists(const std::string& name) { return Get<ConfigMap>("ns", name) != nullptr; }
  void Delete(const std::string& name, Propagation propagation) {
    ASSERT_TRUE(client_.Delete<ConfigMap>("ns", name, {.propagation = propagation}).ok());
    Settle();
  }
};

TEST_F(GarbageTest, DependentsGoAfterTheirOwnerInTheBackground) {
  auto a = Create("a");
  auto b = Create("b", {a});
  Create("c", {b});
  Create("other");
  Delete("a", Propagation::kBackground);
  EXPECT_FALSE(Exists("b"));
  EXPECT_FALSE(Exists("c"));
  EXPECT_TRUE(Exists("other"));
}

TEST_F(GarbageTest, ALivingOwnerIsEnough) {
  auto a = Create("a");
  auto b = Create("b");
  Create("c", {a, b});
  Delete("a", Propagation::kBackground);
  ASSERT_TRUE(Exists("c"));
  EXPECT_EQ(Get<ConfigMap>("ns", "c")->metadata().owner_references_size(), 1);
  Delete("b", Propagation::kBackground);
  EXPECT_FALSE(Exists("c"));
}

TEST_F(GarbageTest, AnOwnerOfAnotherUidIsNone) {
  auto a = Create("a");
  Delete("a", Propagation::kBackground);
  Create("a");
  Create("b", {a});  // owned by the one that is gone
  EXPECT_FALSE(Exists("b"));
}

TEST_F(GarbageTest, OwnersOfUnknownKindsAreLeftAlone) {
  ConfigMap map;
  map.mutable_metadata()->set_namespace_("ns");
  map.mutable_metadata()->set_name("a");
  auto* owner = map.mutable_metadata()->add_owner_references();
  owner->set_api_version("example.com/v1");
  owner->set_kind("Widget");
  owner->set_name("w");
  owner->set_uid("u");
  ASSERT_TRUE(client_.Create(map).ok());
  Settle();
  EXPECT_TRUE(Exists("a"));
}

TEST_F(GarbageTest, ForegroundWaitsForBlockingDependents) {
  auto a = Create("a");
  auto b = Create("b", {a}, true);
  ConfigMap held = *Get<ConfigMap>("ns", "b");
  held.mutable_metadata()->add_finalizers("example.com/hold");
  ASSERT_TRUE(client_.Update(held).ok());
  Create("c", {a}, false);
  Delete("a", Propagation::kForeground);
  EXPECT_TRUE(Exists("a"));
  EXPECT_TRUE(Exists("b"));
  EXPECT_FALSE(Exists("c"));
  Update<ConfigMap>("ns", "b", [](ConfigMap& map) { map.mutable_metadata()->clear_finalizers(); });
  EXPECT_FALSE(Exists("b"));
  EXPECT_FALSE(Exists("a"));
}

TEST_F(GarbageTest, ForegroundGoesDownTheWholeTree) {
  auto a = Create("a");
  auto b = Create("b", {a}, true);
  Create("c", {b}, true);
  Delete("a", Propagation::kForeground);
  EXPECT_FALSE(Exists("a"));
  EXPECT_FALSE(Exists("b"));
  EXPECT_FALSE(Exists("c"));
}

TEST_F(GarbageTest, OrphanCutsDependentsLoose) {
  auto a = Create("a");
  Create("b", {a});
  Delete("a", Propagation::kOrphan);
  EXPECT_FALSE(Exists("a"));
  ASSERT_TRUE(Exists("b"));
  EXPECT_TRUE(Get<ConfigMap>("ns", "b")->metadata().owner_references().empty());
}

TEST_F(GarbageTest, ADeploymentTakesEverythingAlong) {
  Run(MakeDeploymentController(client_, executor_));
  Run(MakeReplicaSetController(client_, executor_));
  Deployment deployment;
  deployment.mutable_metadata()->set_namespace_("ns");
  deployment.mutable_metadata()->set_name("web");
  deployment.mutable_spec()->set_replicas(3);
  (*deployment.mutable_spec()->mutable_selector()->mutable_match_labels())["app"] = "web";
  *deployment.mutable_spec()->mutable_template_() = PodTemplate("web", "nginx");
  for (Propagation propagation : {Propagation::kBackground, Propagation::kForeground}) {
    ASSERT_TRUE(client_.Create(deployment).ok());
    Settle();
    RunPods();
    ASSERT_EQ(LivePods().size(), 3u);
    ASSERT_TRUE(client_.Delete<Deployment>("ns", "web", {.propagation = propagation}).ok());
    Settle();
    EXPECT_EQ(Get<Deployment>("ns", "web") != nullptr, propagation == Propagation::kForeground);
    RunPods();
    RunPods();
    EXPECT_TRUE(List<Pod>().empty());
    EXPECT_TRUE(List<ReplicaSet>().empty());
    EXPECT_TRUE(List<Deployment>().empty());
  }
}

}  // namespace
}  // namespace skiff::cp
