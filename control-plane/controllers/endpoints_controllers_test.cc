#include "control-plane/controllers/endpoints_controllers.h"

#include <gmock/gmock.h>

#include <set>

#include "control-plane/controllers/endpoint_mirror_controller.h"
#include "control-plane/controllers/endpoint_plan.h"
#include "control-plane/controllers/testing_fixture.h"
#include "proto/codec/int_or_string.h"
#include "proto/k8s/core/v1/event.pb.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/discovery/v1/discovery.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::Endpoints;
using k8s::core::v1::Node;
using k8s::core::v1::Pod;
using k8s::core::v1::Service;
using k8s::discovery::v1::EndpointSlice;
using testing::ElementsAre;
using testing::UnorderedElementsAre;

class EndpointsTest : public ControllerTest {
 protected:
  EndpointsTest() {
    Node node;
    node.mutable_metadata()->set_name("n1");
    (*node.mutable_metadata()->mutable_labels())["topology.kubernetes.io/zone"] = "z1";
    (void)client_.Create(node).value();
    Run(MakeEndpointSliceController(client_, executor_));
    Run(MakeEndpointsController(client_, executor_));
    Run(MakeEndpointMirrorController(client_, executor_));
  }

  static Service MakeService(const std::string& name = "web") {
    Service service;
    service.mutable_metadata()->set_namespace_("ns");
    service.mutable_metadata()->set_name(name);
    (*service.mutable_metadata()->mutable_labels())["tier"] = "front";
    (*service.mutable_spec()->mutable_selector())["app"] = "web";
    service.mutable_spec()->set_cluster_ip("10.96.0.10");
    auto* port = service.mutable_spec()->add_ports();
    port->set_name("http");
    port->set_protocol("TCP");
    port->set_port(80);
    codec::SetText(port->mutable_target_port(), "web-port");
    return service;
  }
  void CreateService(const Service& service) {
    (void)client_.Create(service).value();
    Settle();
  }
  void CreatePod(const std::string& name, const std::string& ip, bool ready,
                 int container_port = 8080) {
    Pod pod;
    pod.mutable_metadata()->set_namespace_("ns");
    pod.mutable_metadata()->set_name(name);
    (*pod.mutable_metadata()->mutable_labels())["app"] = "web";
    pod.mutable_spec()->set_node_name("n1");
    auto* port = pod.mutable_spec()->add_containers()->add_ports();
    port->set_name("web-port");
    port->set_container_port(container_port);
    pod.mutable_status()->set_phase("Running");
    pod.mutable_status()->set_pod_ip(ip);
    if (!ip.empty()) pod.mutable_status()->add_pod_ips()->set_ip(ip);
    (void)client_.Create(pod).value();
    if (ready) SetReady(pod, true);
    Settle();
  }
  std::vector<std::shared_ptr<const EndpointSlice>> Slices() { return List<EndpointSlice>(); }
  // "10.0.0.1 ready serving" of all slices.
  std::multiset<std::string> Shown() {
    std::multiset<std::string> shown;
    for (const auto& slice : Slices()) {
      for (const auto& endpoint : slice->endpoints()) {
        const auto& conditions = endpoint.conditions();
        shown.insert(endpoint.addresses(0) + (conditions.ready() ? " ready" : "") +
                     (conditions.serving() ? " serving" : "") +
                     (conditions.terminating() ? " terminating" : ""));
      }
    }
    return shown;
  }
};

TEST_F(EndpointsTest, ReadyPodsAreListedWithTheirPorts) {
  CreateService(MakeService());
  ASSERT_EQ(Slices().size(), 1u);  // an empty one says "none"
  EXPECT_TRUE(Slices()[0]->endpoints().empty());
  CreatePod("a", "10.0.0.1", true);
  CreatePod("b", "10.0.0.2", false);
  CreatePod("c", "", false);
  ASSERT_EQ(Slices().size(), 1u);
  const EndpointSlice& slice = *Slices()[0];
  EXPECT_TRUE(slice.metadata().name().starts_with("web-"));
  EXPECT_EQ(slice.metadata().labels().at("kubernetes.io/service-name"), "web");
  EXPECT_EQ(slice.metadata().labels().at("endpointslice.kubernetes.io/managed-by"),
            "endpointslice-controller.k8s.io");
  EXPECT_EQ(slice.metadata().labels().at("tier"), "front");
  EXPECT_EQ(ControllerOf(slice.metadata())->kind(), "Service");
  EXPECT_EQ(slice.address_type(), "IPv4");
  ASSERT_EQ(slice.ports_size(), 1);
  EXPECT_EQ(slice.ports(0).name(), "http");
  EXPECT_EQ(slice.ports(0).port(), 8080);
  EXPECT_THAT(Shown(), UnorderedElementsAre("10.0.0.1 ready serving", "10.0.0.2"));
  EXPECT_EQ(slice.endpoints(0).target_ref().kind(), "Pod");
  EXPECT_EQ(slice.endpoints(0).node_name(), "n1");
  EXPECT_EQ(slice.endpoints(0).zone(), "z1");

  auto endpoints = Get<Endpoints>("ns", "web");
  ASSERT_NE(endpoints, nullptr);
  ASSERT_EQ(endpoints->subsets_size(), 1);
  EXPECT_EQ(endpoints->subsets(0).addresses(0).ip(), "10.0.0.1");
  EXPECT_EQ(endpoints->subsets(0).not_ready_addresses(0).ip(), "10.0.0.2");
  EXPECT_EQ(endpoints->subsets(0).ports(0).port(), 8080);
}

TEST_F(EndpointsTest, TerminatingPodsServeButAreNotReady) {
  CreateService(MakeService());
  CreatePod("a", "10.0.0.1", true);
  ASSERT_TRUE(client_.Delete<Pod>("ns", "a").ok());
  Settle();
  EXPECT_THAT(Shown(), UnorderedElementsAre("10.0.0.1 serving terminating"));
  EXPECT_EQ(Get<Endpoints>("ns", "web")->subsets_size(), 0);
  RunPods();
  EXPECT_THAT(Shown(), UnorderedElementsAre());
  EXPECT_EQ(Slices().size(), 1u);
}

TEST_F(EndpointsTest, PublishNotReadyAddressesAndHeadless) {
  Service service = MakeService();
  service.mutable_spec()->set_cluster_ip("None");
  service.mutable_spec()->set_publish_not_ready_addresses(true);
  service.mutable_spec()->clear_ports();
  CreateService(service);
  CreatePod("a", "10.0.0.1", false);
  EXPECT_THAT(Shown(), UnorderedElementsAre("10.0.0.1 ready"));
  EXPECT_TRUE(Slices()[0]->metadata().labels().contains("service.kubernetes.io/headless"));
  EXPECT_EQ(Get<Endpoints>("ns", "web")->subsets(0).addresses_size(), 1);
}

TEST_F(EndpointsTest, PodsWithOtherPortsGetASliceOfTheirOwn) {
  CreateService(MakeService());
  CreatePod("a", "10.0.0.1", true, 8080);
  CreatePod("b", "10.0.0.2", true, 9090);
  ASSERT_EQ(Slices().size(), 2u);
  EXPECT_EQ(Get<Endpoints>("ns", "web")->subsets_size(), 2);
  RunPods();
  ASSERT_TRUE(client_.Delete<Pod>("ns", "b").ok());
  RunPods();
  ASSERT_EQ(Slices().size(), 1u);
  EXPECT_EQ(Slices()[0]->ports(0).port(), 8080);
}

TEST_F(EndpointsTest, AtMostAHundredEndpointsASlice) {
  CreateService(MakeService());
  for (int i = 0; i < 250; ++i) {
    CreatePod("p" + std::to_string(i), "10.0.1." + std::to_string(i), true);
  }
  EXPECT_EQ(Slices().size(), 3u);
  EXPECT_EQ(Shown().size(), 250u);
  for (const auto& slice : Slices()) EXPECT_LE(slice->endpoints_size(), 100);
  // One that goes touches one slice only.
  int writes = client_.writes();
  client_.Remove(Pod::default_instance(), "ns", "p7");
  Settle();
  EXPECT_EQ(client_.writes(), writes + 2);  // the slice and the Endpoints
  for (int i = 0; i < 250; ++i) {
    if (i != 7) client_.Remove(Pod::default_instance(), "ns", "p" + std::to_string(i));
  }
  Settle();
  EXPECT_EQ(Slices().size(), 1u);
}

TEST_F(EndpointsTest, ServicesWithoutASelectorAreLeftAlone) {
  Service service = MakeService();
  service.mutable_spec()->clear_selector();
  CreateService(service);
  Endpoints own;
  own.mutable_metadata()->set_namespace_("ns");
  own.mutable_metadata()->set_name("web");
  own.add_subsets()->add_addresses()->set_ip("192.0.2.1");
  own.mutable_subsets(0)->add_ports()->set_port(9000);
  ASSERT_TRUE(client_.Create(own).ok());
  Settle();
  CreatePod("a", "10.0.0.1", true);
  EXPECT_EQ(Get<Endpoints>("ns", "web")->subsets(0).addresses(0).ip(), "192.0.2.1");
  // What the user wrote is mirrored, changes and the end of it too.
  ASSERT_EQ(Slices().size(), 1u);
  const auto slice = Slices()[0];
  EXPECT_EQ(slice->metadata().labels().at("endpointslice.kubernetes.io/managed-by"),
            "endpointslicemirroring-controller.k8s.io");
  EXPECT_EQ(slice->metadata().labels().at("kubernetes.io/service-name"), "web");
  EXPECT_EQ(slice->endpoints(0).addresses(0), "192.0.2.1");
  EXPECT_EQ(slice->ports(0).port(), 9000);
  Update<Endpoints>("ns", "web", [](Endpoints& endpoints) {
    endpoints.mutable_subsets(0)->add_not_ready_addresses()->set_ip("2001:db8::1");
    endpoints.mutable_subsets(0)->mutable_addresses(0)->set_ip("192.0.2.2");
  });
  ASSERT_EQ(Slices().size(), 2u);
  std::multiset<std::string> shown;
  for (const auto& each : Slices()) {
    shown.insert(each->address_type() + " " + each->endpoints(0).addresses(0) +
                 (each->endpoints(0).conditions().ready() ? " ready" : ""));
  }
  EXPECT_THAT(shown, UnorderedElementsAre("IPv4 192.0.2.2 ready", "IPv6 2001:db8::1"));
  ASSERT_TRUE(client_.Delete<Endpoints>("ns", "web").ok());
  Settle();
  EXPECT_TRUE(Slices().empty());
}

TEST_F(EndpointsTest, EndpointsGoWithTheirService) {
  CreateService(MakeService());
  CreatePod("a", "10.0.0.1", true);
  ASSERT_TRUE(client_.Delete<Service>("ns", "web").ok());
  Settle();
  EXPECT_EQ(Get<Endpoints>("ns", "web"), nullptr);
  // Those of a Service that is still to come stay.
  Endpoints early;
  early.mutable_metadata()->set_namespace_("ns");
  early.mutable_metadata()->set_name("early");
  ASSERT_TRUE(client_.Create(early).ok());
  Settle();
  EXPECT_NE(Get<Endpoints>("ns", "early"), nullptr);
}

TEST_F(EndpointsTest, TrafficDistributionBecomesHints) {
  Service service = MakeService();
  service.mutable_spec()->set_traffic_distribution("PreferClose");
  CreateService(service);
  CreatePod("a", "10.0.0.1", true);
  CreatePod("b", "10.0.0.2", false);
  auto hints = [&](int endpoint) {
    std::string text;
    const auto& found = Slices()[0]->endpoints(endpoint).hints();
    for (const auto& zone : found.for_zones()) text += "zone " + zone.name();
    for (const auto& node : found.for_nodes()) text += " node " + node.name();
    return text;
  };
  EXPECT_EQ(hints(0), "zone z1");
  EXPECT_EQ(hints(1), "") << "only ready ones get traffic";
  Update<Service>("ns", "web", [](Service& changed) {
    changed.mutable_spec()->set_traffic_distribution("PreferSameNode");
  });
  EXPECT_EQ(hints(0), "zone z1 node n1");
  Update<Node>("", "n1", [](Node& node) {
    (*node.mutable_metadata()->mutable_labels())["topology.kubernetes.io/zone"] = "z2";
  });
  EXPECT_EQ(hints(0), "zone z2 node n1") << "a node that moves takes its endpoints with it";
  EXPECT_EQ(Slices()[0]->endpoints(0).zone(), "z2");
  Update<Service>("ns", "web",
                  [](Service& changed) { changed.mutable_spec()->clear_traffic_distribution(); });
  EXPECT_EQ(hints(0), "");
}

TEST_F(EndpointsTest, TopologyModeSharesEndpointsOutByCpu) {
  auto make_node = [this](const std::string& name, const std::string& zone) {
    Node node;
    node.mutable_metadata()->set_name(name);
    (*node.mutable_metadata()->mutable_labels())["topology.kubernetes.io/zone"] = zone;
    (*node.mutable_status()->mutable_allocatable())["cpu"].set_string("2");
    auto& ready = *node.mutable_status()->add_conditions();
    ready.set_type("Ready");
    ready.set_status("True");
    (void)client_.Create(node).value();
  };
  Service service = MakeService();
  (*service.mutable_metadata()->mutable_annotations())["service.kubernetes.io/topology-mode"] =
      "Auto";
  service.mutable_spec()->set_traffic_distribution("PreferClose");  // the annotation counts
  CreateService(service);
  CreatePod("a", "10.0.0.1", true);
  CreatePod("b", "10.0.0.2", true);
  auto hints = [this] {
    std::multiset<std::string> zones;
    for (const auto& endpoint : Slices()[0]->endpoints()) {
      for (const auto& zone : endpoint.hints().for_zones()) zones.insert(zone.name());
    }
    return zones;
  };
  EXPECT_THAT(hints(), testing::IsEmpty()) << "no node is ready";
  make_node("m1", "z1");
  make_node("m2", "z2");
  Settle();
  EXPECT_THAT(hints(), ElementsAre("z1", "z2"));
  (void)client_.Delete<Node>("", "m2", {});
  Settle();
  EXPECT_THAT(hints(), testing::IsEmpty()) << "one zone is no choice";
  EXPECT_EQ(List<k8s::core::v1::Event>().size(), 3u) << "none, some, none again";
}

TEST_F(EndpointsTest, SettlesWithoutFurtherWrites) {
  CreateService(MakeService());
  CreatePod("a", "10.0.0.1", true);
  int writes = client_.writes();
  client_.ResetWatches();
  Advance(std::chrono::hours(1));
  EXPECT_EQ(client_.writes(), writes);
}

}  // namespace
}  // namespace skiff::cp
