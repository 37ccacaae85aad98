#include "control-plane/controllers/service_conflicts_controller.h"

#include <gmock/gmock.h>

#include "control-plane/controllers/testing_fixture.h"
#include "proto/k8s/core/v1/service.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::Service;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

class ServiceConflictsTest : public ControllerTest {
 protected:
  void Add(const std::string& name, const std::string& address, int node_port = 0,
           int health_port = 0) {
    Service service;
    service.mutable_metadata()->set_namespace_("ns");
    service.mutable_metadata()->set_name(name);
    service.mutable_spec()->set_cluster_ip(address);
    for (const char* protocol : {"TCP", "UDP"}) {
      auto* port = service.mutable_spec()->add_ports();
      port->set_protocol(protocol);
      port->set_port(80);
      if (node_port != 0) port->set_node_port(node_port);
    }
    if (health_port != 0) service.mutable_spec()->set_health_check_node_port(health_port);
    (void)client_.Create(service).value();
    Settle();
  }
};

TEST_F(ServiceConflictsTest, AreToldOfTheYoungerService) {
  Add("a", "10.96.0.10", 30080);
  Add("b", "10.96.0.11", 30081);
  Add("c", "None");
  Add("d", "None");
  Run(MakeServiceConflictsController(client_, executor_,
                                     {net::IpPrefix::Parse("10.96.0.0/16").value()}));
  EXPECT_THAT(Events(), IsEmpty());
  Advance(std::chrono::seconds(2));
  Add("e", "10.96.0.10", 30081);
  Add("f", "10.97.0.1", 0, 30080);
  EXPECT_THAT(Events(),
              UnorderedElementsAre(
                  "Warning ClusterIPAlreadyAllocated Cluster IP [IPv4]: 10.96.0.10 was assigned "
                  "to multiple services; please recreate service",
                  "Warning PortAlreadyAllocated Port 30081 was assigned to multiple services; "
                  "please recreate service",
                  "Warning PortAlreadyAllocated Port 30080 was assigned to multiple services; "
                  "please recreate service",
                  "Warning ClusterIPOutOfRange Cluster IP [IPv4]: 10.97.0.1 is not within any "
                  "configured Service CIDR; please recreate service"));
}

}  // namespace
}  // namespace skiff::cp
