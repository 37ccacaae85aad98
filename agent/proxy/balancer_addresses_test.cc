#include "agent/proxy/balancer_addresses.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/proxy/testing.h"

namespace skiff::agent::proxy {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

k8s::core::v1::Service Balancer(const std::string& node) {
  auto service = testing::MakeService("web", "10.96.0.10");
  service.mutable_spec()->set_type("LoadBalancer");
  (*service.mutable_metadata()->mutable_annotations())["skiff.dev/load-balancer-node"] = node;
  for (const char* address : {"192.0.2.10", "2001:db8::10", ""}) {
    service.mutable_status()->mutable_load_balancer()->add_ingress()->set_ip(address);
  }
  return service;
}

TEST(BalancerAddresses, AreThoseOfTheNodeThatIsNamed) {
  EXPECT_THAT(AnnouncedHere(Balancer("n1"), "n1"),
              ElementsAre(net::IpAddress::V4(192, 0, 2, 10),
                          net::IpAddress::Parse("2001:db8::10").value()));
  EXPECT_THAT(AnnouncedHere(Balancer("n2"), "n1"), IsEmpty());
  auto former = Balancer("n1");
  former.mutable_spec()->set_type("ClusterIP");
  EXPECT_THAT(AnnouncedHere(former, "n1"), IsEmpty());
}

TEST(BalancerAddresses, TheNodeItselfIsNotReachedAtThem) {
  const std::vector<net::IpAddress> addresses = AnnouncedHere(Balancer("n1"), "n1");
  EXPECT_EQ(PlanBalancerRules(addresses, net::IpFamily::kV4, {"INPUT -j SKIFF-LB"}),
            "*filter\n:SKIFF-LB - [0:0]\n"
            "-A SKIFF-LB -d 192.0.2.10/32 -p icmp -j RETURN\n"
            "-A SKIFF-LB -d 192.0.2.10/32 -j REJECT --reject-with icmp-port-unreachable\n"
            "-A INPUT -j SKIFF-LB\nCOMMIT\n");
  EXPECT_EQ(PlanBalancerRules(addresses, net::IpFamily::kV6, {}),
            "*filter\n:SKIFF-LB - [0:0]\n"
            "-A SKIFF-LB -d 2001:db8::10/128 -p ipv6-icmp -j RETURN\n"
            "-A SKIFF-LB -d 2001:db8::10/128 -j REJECT --reject-with icmp6-port-unreachable\n"
            "COMMIT\n");
}

}  // namespace
}  // namespace skiff::agent::proxy
