// Grace, finalizers, propagation, preconditions; bindings and evictions; Services' allocations.

#include "control-plane/api/tests/api_fixture.h"

namespace skiff::cp {
namespace {

class DeletionTest : public ApiFixture {
 protected:
  // A pod that a node runs.
  void RunningPod(const std::string& name) {
    ASSERT_EQ(Ask("POST", kPods, PodJson(name)).status, 201);
    Json binding = {{"target", {{"kind", "Node"}, {"name", "n1"}}}};
    ASSERT_EQ(Ask("POST", std::string(kPods) + "/" + name + "/binding", binding).status, 201);
  }
  std::string pod_ = std::string(kPods) + "/p";
};

TEST_F(DeletionTest, AnUnscheduledPodGoesAtOnce) {
  ASSERT_EQ(Ask("POST", kPods, PodJson("p")).status, 201);
  EXPECT_EQ(Ask("DELETE", pod_).status, 200);
  EXPECT_EQ(Ask("GET", pod_).status, 404);
}

TEST_F(DeletionTest, ARunningPodWaitsForItsNode) {
  RunningPod("p");
  Json marked = Ask("DELETE", pod_).json();
  EXPECT_EQ(marked["metadata"]["deletionGracePeriodSeconds"], 30);
  EXPECT_TRUE(marked["metadata"].contains("deletionTimestamp"));
  EXPECT_EQ(Ask("GET", pod_).status, 200);
  Json shorter = Ask("DELETE", pod_ + "?gracePeriodSeconds=5").json();
  EXPECT_EQ(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
  Json longer = Ask("DELETE", pod_ + "?gracePeriodSeconds=60").json();
  EXPECT_EQ(longer["metadata"]["deletionGracePeriodSeconds"], 5);
  Json again = Ask("DELETE", pod_).json();
  EXPECT_EQ(again["metadata"]["resourceVersion"], longer["metadata"]["resourceVersion"]);
  EXPECT_EQ(Ask("DELETE", pod_ + "?gracePeriodSeconds=0").status, 200);
  EXPECT_EQ(Ask("GET", pod_).status, 404);
}

TEST_F(DeletionTest, FinalizersKeepAnObject) {
  Json map = ConfigMapJson("a");
  map["metadata"]["finalizers"] = {"example.com/hold"};
  ASSERT_EQ(Ask("POST", kConfigMaps, map).status, 201);
  const std::string path = std::string(kConfigMaps) + "/a";
  EXPECT_TRUE(Ask("DELETE", path).json()["metadata"].contains("deletionTimestamp"));
  EXPECT_EQ(Patch(path, "application/merge-patch+json",
                  R"({"metadata":{"finalizers":["example.com/hold","example.com/new"]}})")
                .status,
            422);
  EXPECT_EQ(
      Patch(path, "application/merge-patch+json", R"({"metadata":{"finalizers":null}})").status,
      200);
  EXPECT_EQ(Ask("GET", path).status, 404);
}

TEST_F(DeletionTest, PropagationBecomesAFinalizer) {
  ASSERT_EQ(Ask("POST", kDeployments, DeploymentJson("d", 1)).status, 201);
  const std::string path = std::string(kDeployments) + "/d";
  Json marked = Ask("DELETE", path, Json{{"propagationPolicy", "Foreground"}}).json();
  EXPECT_EQ(marked["metadata"]["finalizers"], Json::array({"foregroundDeletion"}));
  EXPECT_EQ(Ask("DELETE", path, Json{{"propagationPolicy", "Sideways"}}).status, 422);
  ASSERT_EQ(Ask("POST", kDeployments, DeploymentJson("e", 1)).status, 201);
  Json orphaned = Ask("DELETE", std::string(kDeployments) + "/e?propagationPolicy=Orphan").json();
  EXPECT_EQ(orphaned["metadata"]["finalizers"], Json::array({"orphan"}));
}

TEST_F(DeletionTest, PreconditionsAreChecked) {
  Json object = Ask("POST", kConfigMaps, ConfigMapJson("a")).json();
  const std::string path = std::string(kConfigMaps) + "/a";
  Json wrong = {{"preconditions", {{"uid", "other"}}}};
  EXPECT_EQ(Ask("DELETE", path, wrong).status, 409);
  Json right = {{"preconditions",
                 {{"uid", object["metadata"]["uid"]},
                  {"resourceVersion", object["metadata"]["resourceVersion"]}}}};
  Reply deleted = Ask("DELETE", path, right);
  EXPECT_EQ(deleted.json()["status"], "Success");
  EXPECT_EQ(deleted.json()["details"]["uid"], object["metadata"]["uid"]);
}

TEST_F(DeletionTest, CollectionsGoBySelector) {
  for (const char* name : {"a", "b", "c"}) {
    Json map = ConfigMapJson(name);
    map["metadata"]["labels"]["keep"] = name == std::string("b") ? "yes" : "no";
    ASSERT_EQ(Ask("POST", kConfigMaps, map).status, 201);
  }
  EXPECT_EQ(Ask("DELETE", std::string(kConfigMaps) + "?labelSelector=keep%3Dno").status, 200);
  Json left = Ask("GET", kConfigMaps).json()["items"];
  ASSERT_EQ(left.size(), 1u);
  EXPECT_EQ(left[0]["metadata"]["name"], "b");
}

TEST_F(DeletionTest, ANamespaceTakesNothingNewWhileItGoes) {
  ASSERT_EQ(Ask("POST", "/api/v1/namespaces", Json{{"metadata", {{"name", "x"}}}}).status, 201);
  Json going = Ask("DELETE", "/api/v1/namespaces/x").json();
  EXPECT_EQ(going["status"]["phase"], "Terminating");
  Reply refused = Ask("POST", "/api/v1/namespaces/x/configmaps", ConfigMapJson("a"));
  EXPECT_EQ(refused.status, 403);
  EXPECT_EQ(refused.json()["details"]["causes"][0]["reason"], "NamespaceTerminating");
  ASSERT_TRUE(client().FinalizeNamespace("x").ok());
  EXPECT_EQ(Ask("GET", "/api/v1/namespaces/x").status, 404);
  EXPECT_EQ(Ask("DELETE", "/api/v1/namespaces/default").status, 403);
}

TEST_F(DeletionTest, APodIsBoundOnce) {
  RunningPod("p");
  Json pod = Ask("GET", pod_).json();
  EXPECT_EQ(pod["spec"]["nodeName"], "n1");
  EXPECT_EQ(pod["status"]["conditions"][0]["type"], "PodScheduled");
  Json binding = {{"target", {{"kind", "Node"}, {"name", "n2"}}}};
  EXPECT_EQ(Ask("POST", pod_ + "/binding", binding).status, 409);
}

TEST_F(DeletionTest, EvictionIsADeletion) {
  RunningPod("p");
  Json eviction = {
      {"apiVersion", "policy/v1"}, {"kind", "Eviction"}, {"metadata", {{"name", "p"}}}};
  EXPECT_EQ(Ask("POST", pod_ + "/eviction", eviction).status, 201);
  EXPECT_TRUE(Ask("GET", pod_).json()["metadata"].contains("deletionTimestamp"));
}

TEST_F(DeletionTest, StreamsOfPodsAreChecked) {
  ASSERT_EQ(Ask("POST", kPods, PodJson("p")).status, 201);
  EXPECT_EQ(Ask("GET", pod_ + "/log").status, 400) << "no node yet";
  RunningPod("q");
  const std::string log = std::string(kPods) + "/q/log";
  EXPECT_EQ(Ask("GET", log).status, 503) << "no node is connected";
  EXPECT_EQ(Ask("GET", log + "?container=none").status, 400);
  EXPECT_EQ(Ask("GET", std::string(kPods) + "/none/log").status, 404);
}

// ---- Services ----

Json ServiceJson(const std::string& name, const std::string& type, int node_port = 0) {
  Json port = {{"port", 80}};
  if (node_port != 0) port["nodePort"] = node_port;
  return {{"metadata", {{"name", name}}}, {"spec", {{"type", type}, {"ports", {port}}}}};
}

TEST_F(DeletionTest, ServicesGetAddressesAndPortsOfTheirOwn) {
  std::set<std::string> addresses;
  std::set<int> ports;
  for (int i = 0; i < 20; ++i) {
    Reply made = Ask("POST", kServices, ServiceJson("s" + std::to_string(i), "NodePort"));
    ASSERT_EQ(made.status, 201) << made.body;
    Json spec = made.json()["spec"];
    EXPECT_EQ(spec["clusterIP"], spec["clusterIPs"][0]);
    addresses.insert(spec["clusterIP"]);
    ports.insert(spec["ports"][0]["nodePort"].get<int>());
  }
  EXPECT_EQ(addresses.size(), 20u);
  EXPECT_EQ(ports.size(), 20u);
  EXPECT_GE(*ports.begin(), 30000);
  EXPECT_LE(*ports.rbegin(), 32767);
}

TEST_F(DeletionTest, TakenPortsAreRefusedAndComeBack) {
  ASSERT_EQ(Ask("POST", kServices, ServiceJson("a", "NodePort", 30080)).status, 201);
  Reply taken = Ask("POST", kServices, ServiceJson("b", "NodePort", 30080));
  EXPECT_EQ(taken.status, 422);
  EXPECT_NE(taken.body.find("provided port is already allocated"), std::string::npos);
  EXPECT_EQ(Ask("POST", kServices, ServiceJson("b", "NodePort", 80)).status, 422);
  Restart();
  EXPECT_EQ(Ask("POST", kServices, ServiceJson("b", "NodePort", 30080)).status, 422);
  EXPECT_EQ(Ask("DELETE", std::string(kServices) + "/a").status, 200);
  EXPECT_EQ(Ask("POST", kServices, ServiceJson("b", "NodePort", 30080)).status, 201);
}

TEST_F(DeletionTest, AnUpdateKeepsWhatWasAllocated) {
  Json made = Ask("POST", kServices, ServiceJson("a", "NodePort")).json();
  Json kept = Ask("PUT", std::string(kServices) + "/a", ServiceJson("a", "NodePort")).json();
  EXPECT_EQ(kept["spec"]["clusterIP"], made["spec"]["clusterIP"]);
  EXPECT_EQ(kept["spec"]["ports"], made["spec"]["ports"]);
  Json plain = Ask("PUT", std::string(kServices) + "/a", ServiceJson("a", "ClusterIP")).json();
  EXPECT_FALSE(plain["spec"]["ports"][0].contains("nodePort"));
  int freed = made["spec"]["ports"][0]["nodePort"];
  EXPECT_EQ(Ask("POST", kServices, ServiceJson("b", "NodePort", freed)).status, 201);
}

TEST_F(DeletionTest, ALoadBalancerThatKeepsClientsHasAHealthCheckPort) {
  const std::string balancer = std::string(kServices) + "/a";
  Json wanted = ServiceJson("a", "LoadBalancer");
  wanted["spec"]["externalTrafficPolicy"] = "Local";
  Json made = Ask("POST", kServices, wanted).json();
  int port = made["spec"]["healthCheckNodePort"];
  EXPECT_GE(port, 30000);
  EXPECT_EQ(Ask("POST", kServices, ServiceJson("b", "NodePort", port)).status, 422);
  Json kept = Ask("PUT", balancer, wanted).json();
  EXPECT_EQ(kept["spec"]["healthCheckNodePort"], port);
  made["spec"]["externalTrafficPolicy"] = "Cluster";
  made["metadata"].erase("resourceVersion");
  Json without = Ask("PUT", balancer, made).json();
  EXPECT_FALSE(without["spec"].contains("healthCheckNodePort")) << without.dump();
  EXPECT_EQ(Ask("POST", kServices, ServiceJson("b", "NodePort", port)).status, 201);
  wanted["spec"]["healthCheckNodePort"] = port;
  EXPECT_EQ(Ask("PUT", balancer, wanted).status, 422);
}

TEST_F(DeletionTest, ALoadBalancerMayDoWithoutNodePorts) {
  const std::string balancer = std::string(kServices) + "/a";
  Json made = Ask("POST", kServices, ServiceJson("a", "LoadBalancer")).json();
  int port = made["spec"]["ports"][0]["nodePort"];
  EXPECT_EQ(
      Ask("PUT", balancer, ServiceJson("a", "LoadBalancer")).json()["spec"]["ports"][0]["nodePort"],
      port);
  // Only leaving them out of the ports gives them back, as upstream.
  made["spec"]["allocateLoadBalancerNodePorts"] = false;
  made["metadata"].erase("resourceVersion");
  EXPECT_EQ(Ask("PUT", balancer, made).json()["spec"]["ports"][0]["nodePort"], port);
  made["spec"]["ports"][0].erase("nodePort");
  Json without = Ask("PUT", balancer, made).json();
  EXPECT_FALSE(without["spec"]["ports"][0].contains("nodePort")) << without.dump();
  EXPECT_EQ(Ask("POST", kServices, ServiceJson("b", "NodePort", port)).status, 201);
}

TEST_F(DeletionTest, TheKubernetesServiceIsThere) {
  Json service = Ask("GET", std::string(kServices) + "/kubernetes").json();
  EXPECT_EQ(service["spec"]["clusterIP"], "10.96.0.1");
  EXPECT_EQ(Ask("GET", "/api/v1/namespaces/default/endpoints/kubernetes").status, 200);
}

TEST_F(DeletionTest, LostAllocationsAreRepairedAtStart) {
  ASSERT_EQ(Ask("POST", kServices, ServiceJson("a", "NodePort", 30080)).status, 201);
  TxnRequest damage;
  damage.ops = {Op::Delete("/allocations/services/node-ports/30080"),
                Op::Put("/allocations/services/node-ports/30081", "default/gone")};
  ASSERT_TRUE(store_->Txn(damage).ok());
  Restart();
  EXPECT_EQ(Ask("POST", kServices, ServiceJson("b", "NodePort", 30080)).status, 422);
  EXPECT_EQ(Ask("POST", kServices, ServiceJson("c", "NodePort", 30081)).status, 201);
}

}  // namespace
}  // namespace skiff::cp
