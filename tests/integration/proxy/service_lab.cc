#include "tests/integration/proxy/service_lab.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <future>

#include "agent/proxy/testing.h"
#include "tests/support/needs.h"

namespace skiff::agent::proxy {
namespace {

using test::TestNode;

constexpr char kServiceName[] = "web";
constexpr char kPortName[] = "p";

net::IpPrefix ParsePrefix(std::string_view text) { return net::IpPrefix::Parse(text).value(); }

const std::vector<net::IpPrefix>& ClusterCidrs() {
  static const auto& cidrs =
      *new std::vector<net::IpPrefix>{ParsePrefix("10.201.0.0/16"), ParsePrefix("fd00:201::/32")};
  return cidrs;
}

const char* ProtocolName(test::Transport transport) {
  return transport == test::Transport::kTcp   ? "TCP"
         : transport == test::Transport::kUdp ? "UDP"
                                              : "SCTP";
}

// The addresses of a Service. What comes in through the other node has others, which the host
// outside routes there.
constexpr auto kNeverChecked = std::chrono::hours(1);

std::string ServiceAddress(Way way, net::IpFamily family, From from) {
  const bool v4 = family == net::IpFamily::kV4, there = from == From::kOutsideThere;
  switch (way) {
    case Way::kClusterIp: return v4 ? "10.202.0.10" : "fd00:202::10";
    case Way::kLoadBalancer:
      if (there) return v4 ? "192.0.2.11" : "2001:db8::11";
      return v4 ? "192.0.2.10" : "2001:db8::10";
    case Way::kExternalIp:
      if (there) return v4 ? "192.0.2.21" : "2001:db8::21";
      return v4 ? "192.0.2.20" : "2001:db8::20";
    case Way::kNodePort: break;
  }
  if (from == From::kLoopback) return v4 ? "127.0.0.1" : "::1";
  if (there) return v4 ? "10.200.1.1" : "fd00:200:1::1";
  if (from == From::kOutside) return v4 ? "10.200.0.1" : "fd00:200::1";
  return v4 ? "10.210.0.1" : "fd00:210::1";
}

// As a dual-stack server sees it: IPv4 without the prefix of IPv4-mapped addresses.
std::string Unmapped(const std::string& address) {
  constexpr std::string_view kMapped = "::ffff:";
  return address.starts_with(kMapped) ? address.substr(kMapped.size()) : address;
}

}  // namespace

ServiceLab::ServiceLab(const std::string& mode) {
  for (const char* name : {"here", "there"}) {
    nodes_.push_back(std::make_unique<Node>());
    nodes_.back()->name = name;
    nodes_.back()->machine = TestNode::Make(name);
  }
  outside_ = TestNode::Make("outside");
  Cable();
  StartNode(*nodes_[0], mode, "10.201.1.0/24", "fd00:201:1::/64");
  StartNode(*nodes_[1], mode, "10.201.2.0/24", "fd00:201:2::/64");
  AddPod(*nodes_[0], "a", true);
  AddPod(*nodes_[0], "c", true);
  AddPod(*nodes_[0], "x", false);
  AddPod(*nodes_[1], "b", true);
  AddPod(*nodes_[1], "y", false);
  WaitSynced();
}

void ServiceLab::Cable() {
  TestNode &here_node = *nodes_[0]->machine, &there_node = *nodes_[1]->machine;
  Connect(here_node, {"10.210.0.1/24", "fd00:210::1/64"}, there_node,
          {"10.210.0.2/24", "fd00:210::2/64"});
  Connect(here_node, {"10.200.0.1/24", "fd00:200::1/64"}, *outside_,
          {"10.200.0.2/24", "fd00:200::2/64"});
  Connect(there_node, {"10.200.1.1/24", "fd00:200:1::1/64"}, *outside_,
          {"10.200.1.2/24", "fd00:200:1::2/64"});
  here_node.Shell(
      "ip route add default via 10.200.0.2; ip -6 route add default via fd00:200::2;"
      "ip route add 10.201.2.0/24 via 10.210.0.2; ip route add fd00:201:2::/64 via fd00:210::2");
  there_node.Shell(
      "ip route add default via 10.200.1.2; ip -6 route add default via fd00:200:1::2;"
      "ip route add 10.201.1.0/24 via 10.210.0.1; ip route add fd00:201:1::/64 via fd00:210::1");
  outside_->Shell(
      "for net in 10.202.0.0/16 192.0.2.10 192.0.2.20; do ip route add $net via 10.200.0.1; done;"
      "for net in 192.0.2.11 192.0.2.21; do ip route add $net via 10.200.1.1; done;"
      "for net in fd00:202::/64 2001:db8::10 2001:db8::20; do ip route add $net via fd00:200::1;"
      "done;"
      "for net in 2001:db8::11 2001:db8::21; do ip route add $net via fd00:200:1::1; done");
}

void ServiceLab::StartNode(Node& node, const std::string& mode, const std::string& cidr4,
                           const std::string& cidr6) {
  node.pods = std::make_unique<test::PodNode>(
      *node.machine, std::vector{ParsePrefix(cidr4), ParsePrefix(cidr6)}, ClusterCidrs());
  node.machine->Run([&] {
    Config config{.mode = mode == "nftables" ? Mode::kNftables : Mode::kIptables,
                  .node_name = node.name,
                  .cluster_cidrs = ClusterCidrs(),
                  // Of nftables, events tell.
                  .flush_check = mode == "nftables" ? std::chrono::nanoseconds(kNeverChecked)
                                                    : std::chrono::milliseconds(200)};
    node.proxy = ServiceProxy::Start(config, {node.pods->blocking(), node.pods->iptables(),
                                              node.pods->conntrack(), &node.pods->nft()})
                     .value();
    node.proxy->SetZone("zone-" + node.name);
    node.proxy->SyncDone();
  });
}

ServiceLab::~ServiceLab() {
  for (auto& node : nodes_) {
    node->proxy.reset();
    node->pods->Close([&] {
      EXPECT_TRUE(RemoveAllRules(node->pods->iptables()).ok());
      EXPECT_TRUE(RemoveAllRules(node->pods->nft()).ok());
    });
  }
}

void ServiceLab::AddPod(Node& node, const std::string& name, bool serves) {
  auto pod = std::make_unique<Pod>(Pod{node.pods->Attach(name), {}});
  if (serves) {
    const net::IpAddress any = net::IpAddress::Parse("::").value();
    auto serve = [&](test::Transport transport, uint16_t port) {
      pod->servers.push_back(
          std::make_unique<test::EchoServer>(pod->netns->netns(), transport, any, port, name));
    };
    serve(test::Transport::kTcp, kStreamPort);
    serve(test::Transport::kUdp, kDatagramPort);
    if (test::Missing(test::Need::kSctp).empty()) serve(test::Transport::kSctp, kStreamPort);
  }
  pods_.push_back(std::move(pod));
}

const ServiceLab::Pod& ServiceLab::FindPod(const std::string& name) const {
  auto found = std::find_if(pods_.begin(), pods_.end(),
                            [&name](const auto& pod) { return pod->name == name; });
  CHECK(found != pods_.end());
  return **found;
}

std::string ServiceLab::AddressOf(const std::string& pod, net::IpFamily family) const {
  return family == net::IpFamily::kV4 ? FindPod(pod).v4 : FindPod(pod).v6;
}

void ServiceLab::WaitSynced() {
  for (auto& node : nodes_) {
    std::promise<void> synced;
    node->proxy->WhenSynced([&synced] { synced.set_value(); });
    auto last_error = [&] {
      auto error = node->proxy->GetStatus().last_error;
      return error ? error->ToString() : "";
    };
    ASSERT_EQ(synced.get_future().wait_for(std::chrono::seconds(30)), std::future_status::ready)
        << node->name << ": " << last_error();
  }
}

k8s::core::v1::Service ServiceLab::MakeService(const ServiceCase& c) {
  auto service =
      testing::MakeService(kServiceName, ServiceAddress(Way::kClusterIp, c.family, c.from),
                           ProtocolName(c.transport), kPortName, kServicePort);
  auto& spec = *service.mutable_spec();
  if (c.way == Way::kNodePort || c.way == Way::kLoadBalancer) {
    spec.set_type(c.way == Way::kNodePort ? "NodePort" : "LoadBalancer");
    spec.mutable_ports(0)->set_node_port(kServiceNodePort);
  }
  if (c.way == Way::kExternalIp) spec.add_external_ips(ServiceAddress(c.way, c.family, c.from));
  if (c.way == Way::kLoadBalancer) {
    auto& ingress = *service.mutable_status()->mutable_load_balancer()->add_ingress();
    ingress.set_ip(ServiceAddress(c.way, c.family, c.from));
    ingress.set_ip_mode("VIP");
  }
  spec.set_internal_traffic_policy(c.internal_local ? "Local" : "Cluster");
  if (c.way != Way::kClusterIp) {
    spec.set_external_traffic_policy(c.external_local ? "Local" : "Cluster");
  }
  if (c.affinity) spec.set_session_affinity("ClientIP");
  if (!c.source_ranges.empty()) {
    spec.add_load_balancer_source_ranges(std::string(c.source_ranges));
  }
  return service;
}

std::vector<k8s::discovery::v1::EndpointSlice> ServiceLab::MakeSlices(const ServiceCase& c) const {
  std::vector<testing::EndpointSpec> specs;
  for (const EndpointCase& endpoint : c.Endpoints()) {
    const std::string& state = endpoint.state;
    specs.push_back({.address = AddressOf(endpoint.name, c.family),
                     .node = endpoint.name == "b" ? "there" : "here",
                     .ready = state.empty() || state == "published",
                     .serving = state.empty() || state == "leaving",
                     .terminating = state == "leaving" || state == "gone"});
  }
  auto slice =
      testing::MakeSlice(kServiceName, specs, ProtocolName(c.transport), kPortName,
                         c.transport == test::Transport::kUdp ? kDatagramPort : kStreamPort);
  if (c.family == net::IpFamily::kV6) slice.set_address_type("IPv6");
  const std::vector<EndpointCase> endpoints = c.Endpoints();
  for (size_t i = 0; i < endpoints.size(); ++i) {
    auto& to = *slice.mutable_endpoints(static_cast<int>(i));
    if (!endpoints[i].zone_hint.empty()) {
      to.mutable_hints()->add_for_zones()->set_name("zone-" + endpoints[i].zone_hint);
    }
    if (!endpoints[i].node_hint.empty()) {
      to.mutable_hints()->add_for_nodes()->set_name(endpoints[i].node_hint);
    }
  }
  return {slice};
}

void ServiceLab::Apply(const k8s::core::v1::Service& service,
                       const std::vector<k8s::discovery::v1::EndpointSlice>& slices) {
  for (auto& node : nodes_) {
    node->proxy->BeginReplace();
    node->proxy->SetService(service);
    for (const auto& slice : slices) node->proxy->SetEndpointSlice(slice);
    node->proxy->SyncDone();
  }
  WaitSynced();
}

void ServiceLab::Apply(const ServiceCase& c) { Apply(MakeService(c), MakeSlices(c)); }

test::Answer ServiceLab::Ask(const ServiceCase& c, std::chrono::milliseconds timeout) {
  const std::string address = ServiceAddress(c.way, c.family, c.from);
  const uint16_t port = c.way == Way::kNodePort ? kServiceNodePort : kServicePort;
  test::Answer answer;
  switch (c.from) {
    case From::kPodHere:
      answer = AskFrom(*FindPod("x").netns, c.transport, address, port, timeout);
      break;
    case From::kPodThere:
      answer = AskFrom(*FindPod("y").netns, c.transport, address, port, timeout);
      break;
    case From::kItself:
      answer = AskFrom(*FindPod("a").netns, c.transport, address, port, timeout);
      break;
    case From::kNode:
    case From::kLoopback: answer = AskFrom(here(), c.transport, address, port, timeout); break;
    case From::kOutside:
    case From::kOutsideThere:
      answer = AskFrom(*outside_, c.transport, address, port, timeout);
      break;
  }
  answer.peer = Unmapped(answer.peer);
  return answer;
}

bool ServiceLab::IsNode(const std::string& address) const {
  for (const char* own : {"10.200.0.1", "10.200.1.1", "10.210.0.1", "10.210.0.2", "10.201.1.1",
                          "10.201.2.1", "fd00:200::1", "fd00:200:1::1", "fd00:210::1",
                          "fd00:210::2", "fd00:201:1::1", "fd00:201:2::1"}) {
    if (address == own) return true;
  }
  return false;
}

bool ServiceLab::IsClient(const ServiceCase& c, const std::string& address) const {
  auto pod = [&](const char* name) { return address == AddressOf(name, c.family); };
  switch (c.from) {
    case From::kPodHere: return pod("x");
    case From::kPodThere: return pod("y");
    case From::kItself: return pod("a");
    case From::kNode:
    case From::kLoopback: return IsNode(address);
    case From::kOutside: return address == "10.200.0.2" || address == "fd00:200::2";
    case From::kOutsideThere: return address == "10.200.1.2" || address == "fd00:200:1::2";
  }
  return false;
}

}  // namespace skiff::agent::proxy
