#include "control-plane/controllers/load_balancer_controller.h"

#include <gmock/gmock.h>

#include "control-plane/controllers/load_balancer_plan.h"
#include "control-plane/controllers/testing_fixture.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/discovery/v1/discovery.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::Node;
using k8s::core::v1::Service;
using k8s::discovery::v1::EndpointSlice;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;

class LoadBalancerTest : public ControllerTest {
 protected:
  void Start(const std::vector<std::string>& pool) {
    Run(MakeLoadBalancerController(client_, executor_, LoadBalancerPool::Make(pool).value()));
  }
  // The controller of a new control plane.
  void Restart(const std::vector<std::string>& pool) {
    for (const auto& controller : controllers_) controller->Stop();
    controllers_.clear();
    Start(pool);
  }
  void AddNode(const std::string& name, const std::string& address, bool ready = true) {
    Node node;
    node.mutable_metadata()->set_name(name);
    auto* entry = node.mutable_status()->add_addresses();
    entry->set_type("InternalIP");
    entry->set_address(address);
    auto* condition = node.mutable_status()->add_conditions();
    condition->set_type("Ready");
    condition->set_status(ready ? "True" : "False");
    (void)client_.Create(node).value();
    (void)client_.UpdateStatus(node);
    Settle();
  }
  void SetNodeReady(const std::string& name, bool ready) {
    Node node = *client_.Get<Node>("", name).value();
    node.mutable_status()->mutable_conditions(0)->set_status(ready ? "True" : "False");
    (void)client_.UpdateStatus(node).value();
    Settle();
  }
  void AddService(const std::string& name, const std::function<void(Service&)>& change = {}) {
    Service service;
    service.mutable_metadata()->set_namespace_("ns");
    service.mutable_metadata()->set_name(name);
    service.mutable_spec()->set_type("LoadBalancer");
    service.mutable_spec()->set_cluster_ip("10.96.0.10");
    service.mutable_spec()->add_ip_families("IPv4");
    auto* port = service.mutable_spec()->add_ports();
    port->set_protocol("TCP");
    port->set_port(80);
    if (change) change(service);
    (void)client_.Create(service).value();
    Settle();
  }
  void SetEndpoint(const std::string& service, const std::string& node) {
    EndpointSlice slice;
    slice.mutable_metadata()->set_namespace_("ns");
    slice.mutable_metadata()->set_name(service + "-x");
    (*slice.mutable_metadata()->mutable_labels())["kubernetes.io/service-name"] = service;
    slice.set_address_type("IPv4");
    auto* endpoint = slice.add_endpoints();
    endpoint->add_addresses("10.0.0.1");
    endpoint->set_node_name(node);
    (void)client_.Delete<EndpointSlice>("ns", service + "-x");
    (void)client_.Create(slice).value();
    Settle();
  }
  std::string AddressesOf(const std::string& name) {
    std::string text;
    for (const auto& address : BalancerAddressesOf(*Get<Service>("ns", name))) {
      text += (text.empty() ? "" : " ") + address.ToString();
    }
    return text;
  }
  std::string AnnouncerOf(const std::string& name) {
    auto service = Get<Service>("ns", name);
    auto found = service->metadata().annotations().find(kAnnouncingNodeAnnotation);
    return found == service->metadata().annotations().end() ? "" : found->second;
  }
};

TEST_F(LoadBalancerTest, AddressesComeFromThePoolAndGoBack) {
  Start({"192.0.2.10-192.0.2.11", "2001:db8::/126"});
  AddNode("n1", "10.0.0.1");
  AddService("a");
  AddService("b", [](Service& service) { service.mutable_spec()->add_ip_families("IPv6"); });
  AddService("c");
  EXPECT_EQ(AddressesOf("a"), "192.0.2.10");
  EXPECT_EQ(AddressesOf("b"), "192.0.2.11 2001:db8::");
  EXPECT_EQ(Get<Service>("ns", "a")->status().load_balancer().ingress(0).ip_mode(), "VIP");
  EXPECT_EQ(AnnouncerOf("a"), "n1");
  EXPECT_EQ(AddressesOf("c"), "");
  EXPECT_EQ(AnnouncerOf("c"), "");
  EXPECT_THAT(Events(), Contains("Warning AllocationFailed the load balancers' pool has no free "
                                 "IPv4 address"));
  EXPECT_THAT(Events(), Contains("Normal IPAllocated Assigned 192.0.2.10"));
  // Whoever waits gets what another gives up.
  Update<Service>("ns", "a",
                  [](Service& service) { service.mutable_spec()->set_type("ClusterIP"); });
  EXPECT_EQ(AddressesOf("c"), "192.0.2.10");
  ASSERT_TRUE(client_.Delete<Service>("ns", "b").ok());
  Settle();
  AddService("d");
  EXPECT_EQ(AddressesOf("d"), "192.0.2.11");
}

TEST_F(LoadBalancerTest, AddressesAreKeptOverARestart) {
  Start({"192.0.2.10-192.0.2.20"});
  AddNode("n1", "10.0.0.1");
  AddService("b");
  AddService("a");
  int writes = client_.writes();
  Restart({"192.0.2.8-192.0.2.20"});
  EXPECT_EQ(AddressesOf("a"), "192.0.2.11");
  EXPECT_EQ(AddressesOf("b"), "192.0.2.10");
  EXPECT_EQ(client_.writes(), writes);
  // A pool without the address: another one.
  Restart({"192.0.2.11-192.0.2.20"});
  EXPECT_EQ(AddressesOf("a"), "192.0.2.11");
  EXPECT_EQ(AddressesOf("b"), "192.0.2.12");
}

TEST_F(LoadBalancerTest, TheOlderOneKeepsAnAddressThatTwoHave) {
  for (const char* name : {"young", "old"}) {
    AddService(name);
    Service service = *Get<Service>("ns", name);
    service.mutable_metadata()->mutable_creation_timestamp()->set_seconds(name[0] == 'o' ? 1 : 2);
    (void)client_.Update(service).value();
    service = *Get<Service>("ns", name);
    auto* ingress = service.mutable_status()->mutable_load_balancer()->add_ingress();
    ingress->set_ip("192.0.2.10");
    ingress->set_ip_mode("VIP");
    (void)client_.UpdateStatus(service).value();
  }
  Start({"192.0.2.10-192.0.2.20"});
  EXPECT_EQ(AddressesOf("old"), "192.0.2.10");
  EXPECT_EQ(AddressesOf("young"), "192.0.2.11");
}

TEST_F(LoadBalancerTest, AnAddressMayBeAskedFor) {
  Start({"192.0.2.10-192.0.2.20"});
  auto ask = [](const char* address) {
    return [address](Service& service) { service.mutable_spec()->set_load_balancer_ip(address); };
  };
  AddService("a", ask("192.0.2.15"));
  AddService("b", ask("192.0.2.15"));
  AddService("c", ask("203.0.113.1"));
  EXPECT_EQ(AddressesOf("a"), "192.0.2.15");
  EXPECT_EQ(AddressesOf("b"), "");
  EXPECT_EQ(AddressesOf("c"), "");
  EXPECT_THAT(Events(), Contains("Warning AllocationFailed loadBalancerIP 192.0.2.15 is taken by "
                                 "ns/a"));
  EXPECT_THAT(Events(),
              Contains("Warning AllocationFailed loadBalancerIP 203.0.113.1 is not in the pool"));
  ASSERT_TRUE(client_.Delete<Service>("ns", "a").ok());
  Settle();
  EXPECT_EQ(AddressesOf("b"), "192.0.2.15");
}

TEST_F(LoadBalancerTest, OtherClassesAreLeftAlone) {
  Start({"192.0.2.10-192.0.2.20"});
  AddService("a", [](Service& service) {
    service.mutable_spec()->set_load_balancer_class("example.com/other");
  });
  AddService("b", [](Service& service) {
    service.mutable_spec()->set_load_balancer_class(kLoadBalancerClass);
  });
  EXPECT_EQ(AddressesOf("a"), "");
  EXPECT_EQ(AddressesOf("b"), "192.0.2.10");
}

TEST_F(LoadBalancerTest, AnotherNodeAnswersWhenOneIsLost) {
  Start({"192.0.2.10"});
  for (const char* name : {"n1", "n2", "n3"}) AddNode(name, "10.0.0.1");
  AddService("a");
  const std::string first = AnnouncerOf("a");
  ASSERT_NE(first, "");
  SetNodeReady(first, false);
  const std::string second = AnnouncerOf("a");
  EXPECT_NE(second, "");
  EXPECT_NE(second, first);
  SetNodeReady(first, true);
  EXPECT_EQ(AnnouncerOf("a"), second) << "it does not go back";
}

TEST_F(LoadBalancerTest, OnlyANodeWithEndpointsAnswersForPolicyLocal) {
  Start({"192.0.2.10"});
  for (const char* name : {"n1", "n2", "n3"}) AddNode(name, "10.0.0.1");
  AddService(
      "a", [](Service& service) { service.mutable_spec()->set_external_traffic_policy("Local"); });
  EXPECT_EQ(AnnouncerOf("a"), "");
  SetEndpoint("a", "n3");
  EXPECT_EQ(AnnouncerOf("a"), "n3");
  SetEndpoint("a", "n2");
  EXPECT_EQ(AnnouncerOf("a"), "n2");
}

TEST_F(LoadBalancerTest, WithoutAPoolTheReadyNodesAreTheAddresses) {
  Start({});
  AddNode("n1", "10.0.0.2");
  AddNode("n2", "10.0.0.1");
  AddNode("n3", "10.0.0.3", /*ready=*/false);
  AddService("a");
  EXPECT_EQ(AddressesOf("a"), "10.0.0.1 10.0.0.2");
  EXPECT_EQ(AnnouncerOf("a"), "") << "nodes answer for their own addresses anyway";
  SetNodeReady("n3", true);
  SetNodeReady("n1", false);
  EXPECT_EQ(AddressesOf("a"), "10.0.0.1 10.0.0.3");
  Update<Node>("", "n3", [](Node& node) {
    (*node.mutable_metadata()
          ->mutable_labels())["node.kubernetes.io/exclude-from-external-load-balancers"] = "";
  });
  EXPECT_EQ(AddressesOf("a"), "10.0.0.1");
  // The port is taken: the addresses are everybody's.
  AddService("b");
  EXPECT_EQ(AddressesOf("b"), "");
  EXPECT_THAT(Events(),
              Contains(HasSubstr("port 80/TCP of the nodes' addresses is taken by ns/a")));
  AddService("c", [](Service& service) { service.mutable_spec()->mutable_ports(0)->set_port(81); });
  EXPECT_EQ(AddressesOf("c"), "10.0.0.1");
  ASSERT_TRUE(client_.Delete<Service>("ns", "a").ok());
  Settle();
  EXPECT_EQ(AddressesOf("b"), "10.0.0.1");
  Restart({});
  EXPECT_EQ(AddressesOf("b"), "10.0.0.1");
}

TEST(LoadBalancerPool, TellsWhatIsWrong) {
  for (const char* bad :
       {"192.0.2.1-", "192.0.2.9-192.0.2.1", "192.0.2.1-::1", "192.0.2.1/24", ""}) {
    auto pool = LoadBalancerPool::Make({bad});
    ASSERT_FALSE(pool.ok()) << bad;
    EXPECT_THAT(pool.error().message(), HasSubstr("\"" + std::string(bad) + "\""));
  }
  auto pool = LoadBalancerPool::Make({"192.0.2.255-192.0.3.0", "::1"}).value();
  EXPECT_TRUE(pool.Contains(net::IpAddress::V4(192, 0, 3, 0)));
  EXPECT_FALSE(pool.Contains(net::IpAddress::V4(192, 0, 3, 1)));
  EXPECT_EQ(pool.FindFree(net::IpFamily::kV6, [](const auto&) { return true; }), std::nullopt);
}

}  // namespace
}  // namespace skiff::cp
