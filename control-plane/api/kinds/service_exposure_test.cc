#include "control-plane/api/kinds/service_exposure.h"

#include "control-plane/api/kinds/testing_kinds.h"
#include "proto/k8s/core/v1/service.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::Service;

struct Case {
  const char* yaml;
  Errors errors;
};

TEST(ServiceExposure, IsValidatedAsUpstream) {
  const std::string only = "Forbidden: may only be used when `type` is 'LoadBalancer'";
  const Case cases[] = {
      {"spec: {type: LoadBalancer, ports: [{port: 80}], loadBalancerClass: example.com/x, "
       "loadBalancerSourceRanges: [' 10.1.0.0/8 ', '::/0'], externalTrafficPolicy: Local, "
       "healthCheckNodePort: 30001}",
       {}},
      {"spec: {ports: [{port: 80}], externalIPs: [192.0.2.1], externalTrafficPolicy: Local}", {}},
      {"spec: {ports: [{port: 80}], externalTrafficPolicy: Local}",
       {"spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for "
        "externally-accessible services"}},
      {"spec: {type: NodePort, ports: [{port: 80}], externalTrafficPolicy: Some}",
       {"spec.externalTrafficPolicy: Unsupported value: \"Some\": supported values: \"Cluster\", "
        "\"Local\""}},
      {"spec: {ports: [{port: 80}], loadBalancerClass: a/b, allocateLoadBalancerNodePorts: true, "
       "loadBalancerSourceRanges: [10.0.0.0/8]}",
       {"spec.LoadBalancerSourceRanges: " + only, "spec.allocateLoadBalancerNodePorts: " + only,
        "spec.loadBalancerClass: " + only}},
      {"spec: {type: LoadBalancer, ports: [{port: 10250}], loadBalancerSourceRanges: "
       "[10.0.0.0/33]}",
       {"spec.LoadBalancerSourceRanges[0]: Invalid value: \"10.0.0.0/33\": must be a valid CIDR "
        "value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
        "spec.ports[0].port: Invalid value: 10250: may not expose port 10250 externally since it "
        "is used by kubelet"}},
      {"spec: {type: LoadBalancer, ports: [{port: 80}], healthCheckNodePort: 30001}",
       {"spec.healthCheckNodePort: Invalid value: 30001: may only be set when `type` is "
        "'LoadBalancer' and `externalTrafficPolicy` is 'Local'"}},
      {"spec: {ports: [{port: 80}], externalIPs: [127.0.0.1, 169.254.1.1, 0.0.0.0, 224.0.0.1]}",
       {"spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range "
        "(127.0.0.0/8, ::1/128)",
        "spec.externalIPs[1]: Invalid value: \"169.254.1.1\": may not be in the link-local range "
        "(169.254.0.0/16, fe80::/10)",
        "spec.externalIPs[2]: Invalid value: \"0.0.0.0\": may not be unspecified (0.0.0.0 or ::)",
        "spec.externalIPs[3]: Invalid value: \"224.0.0.1\": may not be in the link-local multicast "
        "range (224.0.0.0/24, ff02::/10)"}},
      {"spec: {ports: [{port: 80}], trafficDistribution: PreferSameNode}", {}},
      {"spec: {ports: [{port: 80}], trafficDistribution: Near}",
       {"spec.trafficDistribution: Unsupported value: \"Near\": supported values: \"PreferClose\", "
        "\"PreferSameNode\", \"PreferSameZone\""}},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(Validate(Services(), c.yaml), c.errors) << c.yaml;
  }
}

TEST(ServiceExposure, ClassAndHealthCheckPortStay) {
  const std::string start =
      "spec: {type: LoadBalancer, clusterIP: 10.0.0.1, ports: [{port: 80}], externalTrafficPolicy: "
      "Local, ";
  EXPECT_EQ(
      ValidateUpdate(Services(), start + "healthCheckNodePort: 30001, loadBalancerClass: a/b}",
                     start + "healthCheckNodePort: 30002, loadBalancerClass: a/c}"),
      (Errors{"spec.loadBalancerClass: Invalid value: \"a/c\": may not change once set",
              "spec.healthCheckNodePort: Forbidden: field is immutable"}));
  EXPECT_EQ(ValidateUpdate(Services(), start + "healthCheckNodePort: 30001}",
                           start + "healthCheckNodePort: 30001}"),
            Errors{});
}

TEST(ServiceExposure, WhatATypeHasNotGoesWithTheType) {
  MessagePtr old = Read(Services(), R"(
spec:
  type: LoadBalancer
  clusterIP: 10.0.0.1
  ports: [{port: 80}]
  externalTrafficPolicy: Local
  healthCheckNodePort: 30001
  loadBalancerClass: a/b
status: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}
)");
  MessagePtr next(old->New());
  next->CopyFrom(*old);
  auto& service = static_cast<Service&>(*next);
  service.mutable_spec()->set_type("ClusterIP");
  Services().rules.prepare_update(*next, *old);
  EXPECT_TRUE(service.spec().external_traffic_policy().empty());
  EXPECT_FALSE(service.spec().has_health_check_node_port());
  EXPECT_FALSE(service.spec().has_load_balancer_class());
  EXPECT_FALSE(service.spec().has_allocate_load_balancer_node_ports());
  EXPECT_TRUE(service.status().load_balancer().ingress().empty());
  FieldErrors errors;
  Services().rules.validate_update(*next, *old, errors);
  EXPECT_TRUE(errors.empty()) << errors.ToString();
}

TEST(ServiceExposure, StatusOfALoadBalancer) {
  auto validate = [&](const std::string& type_and_ports, const std::string& ingress) {
    std::string yaml =
        "spec: " + type_and_ports + "\nstatus: {loadBalancer: {ingress: [" + ingress + "]}}";
    return ValidateStatusUpdate(Services(), yaml, yaml);
  };
  const std::string balancer = "{type: LoadBalancer, ports: [{port: 80}]}";
  EXPECT_EQ(validate(balancer, "{ip: 192.0.2.1}, {hostname: a.example}"), Errors{});
  EXPECT_EQ(validate("{ports: [{port: 80}]}", "{hostname: a.example}"),
            Errors{"status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is "
                   "LoadBalancer"});
  EXPECT_EQ(
      validate(balancer, "{ip: x, ipMode: Other}, {hostname: 192.0.2.1, ipMode: VIP}"),
      (Errors{"status.loadBalancer.ingress[0].ip: Invalid value: \"x\": must be a valid IP "
              "address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
              "status.loadBalancer.ingress[0].ipMode: Unsupported value: \"Other\": supported "
              "values: \"Proxy\", \"VIP\"",
              "status.loadBalancer.ingress[1].ipMode: Forbidden: may not be specified when "
              "`ip` is not set",
              "status.loadBalancer.ingress[1].hostname: Invalid value: \"192.0.2.1\": must be "
              "a DNS name, not an IP address"}));
}

TEST(Endpoints, HintsAndAddressesAreChecked) {
  const KindInfo& slices = Kind("discovery.k8s.io", "endpointslices");
  EXPECT_EQ(Validate(slices, R"(
addressType: IPv4
endpoints:
- addresses: [127.0.0.1]
  hints: {forZones: [{name: a}, {name: a}], forNodes: [{name: "A B"}]}
ports: []
)")
                .size(),
            3u);
  EXPECT_EQ(Validate(Kind("", "endpoints"),
                     "subsets: [{addresses: [{ip: 169.254.0.1}], ports: [{port: 80}]}]"),
            Errors{"subsets[0].addresses[0].ip: Invalid value: \"169.254.0.1\": may not be in the "
                   "link-local range (169.254.0.0/16, fe80::/10)"});
}

}  // namespace
}  // namespace skiff::cp
