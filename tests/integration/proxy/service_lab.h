// ServiceLab: two nodes with pods and a service proxy each, and a host outside the cluster, in
// network namespaces of their own.
//
//      outside 10.200.0.2, 10.200.1.2 --- 10.200.0.1 here  10.210.0.1 --- 10.210.0.2 there
//             \_______________________________________________________________ 10.200.1.1 |
//
// Pods: endpoints a and c and the client x on the node here, endpoint b and the client y there.
// Endpoints answer with their names on TCP (and SCTP, where the kernel has it) 8080 and UDP 5353.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/proxy/proxy.h"
#include "base/net/conntrack.h"
#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/discovery/v1/discovery.pb.h"
#include "tests/integration/proxy/service_cases.h"
#include "tests/support/netns.h"
#include "tests/support/pod_node.h"
#include "tests/support/traffic.h"

namespace skiff::agent::proxy {

inline constexpr uint16_t kStreamPort = 8080;
inline constexpr uint16_t kDatagramPort = 5353;
inline constexpr uint16_t kServicePort = 80;
inline constexpr int kServiceNodePort = 30080;

class ServiceLab {
 public:
  // mode: of the proxies.
  explicit ServiceLab(const std::string& mode);
  // Removes all that proxies and networks made; the test fails where something stays.
  ~ServiceLab();

  // Makes the case's Service the only one there is, in force on both nodes.
  void Apply(const ServiceCase& c);
  void Apply(const k8s::core::v1::Service& service,
             const std::vector<k8s::discovery::v1::EndpointSlice>& slices);
  // The objects of a case.
  static k8s::core::v1::Service MakeService(const ServiceCase& c);
  std::vector<k8s::discovery::v1::EndpointSlice> MakeSlices(const ServiceCase& c) const;
  // Waits until both proxies have done what they were told.
  void WaitSynced();

  // Asks as the case's client does.
  test::Answer Ask(const ServiceCase& c,
                   std::chrono::milliseconds timeout = std::chrono::seconds(10));
  // Whether the address is one of the case's client.
  bool IsClient(const ServiceCase& c, const std::string& address) const;
  // Whether it is one of a node's.
  bool IsNode(const std::string& address) const;
  std::string AddressOf(const std::string& pod, net::IpFamily family) const;

  test::TestNode& here() { return *nodes_[0]->machine; }
  test::TestNode& outside() { return *outside_; }
  ServiceProxy& proxy_here() { return *nodes_[0]->proxy; }
  net::Conntrack& conntrack() { return nodes_[0]->pods->conntrack(); }

 private:
  struct Pod : test::AttachedPod {
    std::vector<std::unique_ptr<test::EchoServer>> servers;
  };
  struct Node {
    std::string name;
    std::unique_ptr<test::TestNode> machine;
    std::unique_ptr<test::PodNode> pods;
    std::unique_ptr<ServiceProxy> proxy;
  };
  void Cable();
  void StartNode(Node& node, const std::string& mode, const std::string& cidr4,
                 const std::string& cidr6);
  void AddPod(Node& node, const std::string& name, bool serves);
  const Pod& FindPod(const std::string& name) const;
  const std::string& Zone(const std::string& which) const;

  std::vector<std::unique_ptr<Node>> nodes_;  // here, there
  std::unique_ptr<test::TestNode> outside_;
  std::vector<std::unique_ptr<Pod>> pods_;
  std::vector<std::string> told_slices_;
  bool told_ = false;
};

}  // namespace skiff::agent::proxy
