// Services and EndpointSlices for tests, in few words.
#pragma once

#include <string>
#include <vector>

#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/discovery/v1/discovery.pb.h"

namespace skiff::agent::proxy::testing {

inline k8s::core::v1::Service MakeService(const std::string& name, const std::string& cluster_ip,
                                          const std::string& protocol = "TCP",
                                          const std::string& port_name = "p80", int port = 80,
                                          int node_port = 0) {
  k8s::core::v1::Service service;
  service.mutable_metadata()->set_namespace_("ns1");
  service.mutable_metadata()->set_name(name);
  auto& spec = *service.mutable_spec();
  spec.set_type(node_port == 0 ? "ClusterIP" : "NodePort");
  spec.set_cluster_ip(cluster_ip);
  spec.add_cluster_ips(cluster_ip);
  auto& entry = *spec.add_ports();
  entry.set_name(port_name);
  entry.set_protocol(protocol);
  entry.set_port(port);
  if (node_port != 0) entry.set_node_port(node_port);
  return service;
}

struct EndpointSpec {
  std::string address;
  std::string node = "other";
  bool ready = true, serving = true, terminating = false;
};

inline k8s::discovery::v1::EndpointSlice MakeSlice(const std::string& service,
                                                   const std::vector<EndpointSpec>& endpoints,
                                                   const std::string& protocol = "TCP",
                                                   const std::string& port_name = "p80",
                                                   int port = 80, const std::string& suffix = "1") {
  k8s::discovery::v1::EndpointSlice slice;
  slice.mutable_metadata()->set_namespace_("ns1");
  slice.mutable_metadata()->set_name(service + "-" + suffix);
  (*slice.mutable_metadata()->mutable_labels())["kubernetes.io/service-name"] = service;
  bool v6 = !endpoints.empty() && endpoints[0].address.find(':') != std::string::npos;
  slice.set_address_type(v6 ? "IPv6" : "IPv4");
  auto& entry = *slice.add_ports();
  entry.set_name(port_name);
  entry.set_protocol(protocol);
  entry.set_port(port);
  for (const EndpointSpec& from : endpoints) {
    auto& endpoint = *slice.add_endpoints();
    endpoint.add_addresses(from.address);
    endpoint.set_node_name(from.node);
    auto& conditions = *endpoint.mutable_conditions();
    conditions.set_ready(from.ready);
    conditions.set_serving(from.serving);
    conditions.set_terminating(from.terminating);
  }
  return slice;
}

}  // namespace skiff::agent::proxy::testing
