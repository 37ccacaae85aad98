// What nft(8) says of the tables that are written over netlink: it lists them, with what they refer
// to, whatever services and policies there are. A rule that it cannot put into words may end it
// with a failed assertion, and then it lists no table of the machine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <string>
#include <vector>

#include "agent/policy/enforcer.h"
#include "agent/proxy/proxy.h"
#include "agent/proxy/testing.h"
#include "base/async/executor.h"
#include "base/net/conntrack.h"
#include "base/net/iptables.h"
#include "base/net/nft.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/discovery/v1/discovery.pb.h"
#include "tests/support/needs.h"
#include "tests/support/netns.h"

namespace skiff::agent {
namespace {

using proxy::testing::EndpointSpec;
using ::testing::HasSubstr;
using ::testing::Not;

net::IpPrefix ListedPrefix(std::string_view text) { return net::IpPrefix::Parse(text).value(); }

class NftListingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    SKIFF_NEEDS(test::Need::kRoot, test::Need::kIptables, test::Need::kIpv6, test::Need::kConntrack,
                test::Need::kNftables);
    node_ = test::TestNode::Make("node");
    node_->Run([this] {
      iptables_ = net::SystemIptables::Open().value();
      blocking_ = std::make_unique<ThreadPool>("blocking", 1);
    });
  }
  void TearDown() override {
    proxy_.reset();
    enforcer_.reset();
    blocking_.reset();
  }
  void StartProxy(std::vector<net::IpPrefix> nodeport_addresses) {
    node_->Run([&] {
      proxy::Config config{
          .mode = proxy::Mode::kNftables,
          .node_name = "here",
          .cluster_cidrs = {ListedPrefix("10.201.0.0/16"), ListedPrefix("fd00:201::/48")},
          .nodeport_addresses = std::move(nodeport_addresses),
          .health_ports = false};
      proxy_ =
          proxy::ServiceProxy::Start(config, {*blocking_, *iptables_, conntrack_, &nft_}).value();
    });
  }
  // Services of every kind, each with both policies, some clients' ranges and so many endpoints,
  // some of them here.
  void AddServices() {
    for (const char* type : {"ClusterIP", "NodePort", "LoadBalancer"}) {
      for (bool affinity : {false, true}) {
        for (bool local : {false, true}) {
          for (size_t endpoints : {0, 1, 3, 40}) {
            for (bool v6 : {false, true}) AddService(type, affinity, local, endpoints, v6);
          }
        }
      }
    }
    proxy_->SyncDone();
    std::promise<void> synced;
    proxy_->WhenSynced([&] { synced.set_value(); });
    ASSERT_EQ(synced.get_future().wait_for(std::chrono::seconds(60)), std::future_status::ready)
        << proxy_->GetStatus().last_error->ToString();
  }
  void AddService(const std::string& type, bool affinity, bool local, size_t endpoints, bool v6) {
    const std::string number = std::to_string(++services_), name = "svc" + number;
    auto address = [&](const char* four, const char* six) { return (v6 ? six : four) + number; };
    auto service = proxy::testing::MakeService(name, address("10.96.0.", "fd00:96::"),
                                               services_ % 3 == 0 ? "UDP" : "TCP", "http", 80);
    auto& spec = *service.mutable_spec();
    spec.set_type(type);
    spec.add_external_ips(address("10.97.0.", "fd00:97::"));
    spec.set_internal_traffic_policy(local ? "Local" : "Cluster");
    spec.set_external_traffic_policy(local ? "Local" : "Cluster");
    if (affinity) spec.set_session_affinity("ClientIP");
    if (type != "ClusterIP") spec.mutable_ports(0)->set_node_port(30000 + services_);
    if (type == "LoadBalancer") {
      service.mutable_status()->mutable_load_balancer()->add_ingress()->set_ip(
          address("10.98.0.", "fd00:98::"));
      for (const char* range : {"192.0.2.0/24", "192.0.2.7/32", "0.0.0.0/0", "2001:db8::/32"}) {
        spec.add_load_balancer_source_ranges(range);
      }
    }
    proxy_->SetService(service);
    std::vector<EndpointSpec> specs;
    for (size_t i = 1; i <= endpoints; ++i) {
      specs.push_back({.address = (v6 ? "fd00:201::" : "10.201.0.") + std::to_string(i),
                       .node = i % 3 == 1 ? "here" : "there"});
    }
    auto slice =
        proxy::testing::MakeSlice(name, specs, services_ % 3 == 0 ? "UDP" : "TCP", "http", 8080);
    if (v6) slice.set_address_type("IPv6");
    proxy_->SetEndpointSlice(slice);
  }

  // A pod of both families that may be reached, and reach others, in every way there is.
  void IsolateAPod() {
    using policy::Member;
    auto pod = std::make_shared<k8s::core::v1::Pod>();
    pod->mutable_metadata()->set_uid("uid-web");
    pod->mutable_metadata()->set_name("web");
    pod->mutable_metadata()->set_namespace_("ns");
    auto& port = *pod->mutable_spec()->add_containers()->add_ports();
    port.set_name("http");
    port.set_container_port(8080);
    policy::Policy allows{.name_space = "ns",
                          .pods = codec::LabelSelector::Parse("").value(),
                          .isolates_ingress = true,
                          .isolates_egress = true,
                          .ingress = {},
                          .egress = {}};
    const net::IpAddress v4 = net::IpAddress::V4(10, 1, 0, 1);
    const net::IpAddress v6 = net::IpAddress::Parse("fd00:1::1").value();
    const std::vector<policy::AddressRange> ranges = {
        {v4, v4.Plus(9)}, {v4.Plus(20), v4.Plus(20)}, {v6, v6.Plus(9)}};
    for (auto* rules : {&allows.ingress, &allows.egress}) {
      rules->push_back({.any_peer = true, .ports = {{6, 80, 80}, {17, 5000, 6000}}});
      rules->push_back({.sets = {"PEERS"}, .ranges = ranges, .any_port = true});
      rules->push_back(
          {.sets = {"PEERS"}, .ranges = ranges, .ports = {{132, 1, 65535}, {6, 1, 2}}});
    }
    allows.ingress.push_back({.sets = {"PEERS"}, .names = {{6, "http"}}});
    allows.egress.push_back({.ports = {}, .port_sets = {"NAMED"}});
    policy::Update update;
    update.full = true;
    update.policies["ns/allows"] = std::move(allows);
    update.parts["PEERS.0"] = {Member{v4}, Member{v6}};
    update.parts["NAMED.0"] = {Member{v4, 6, 8080}, Member{v6, 17, 53}};
    node_->Run([this] { enforcer_ = std::make_unique<policy::PolicyEnforcer>(*blocking_, nft_); });
    enforcer_->Apply(std::move(update));
    enforcer_->SetPods({pod});
    std::promise<Result<>> admitted;
    enforcer_->Admit(pod, {"10.1.0.1", "fd00:1::1"},
                     [&](Result<> result) { admitted.set_value(std::move(result)); });
    auto result = admitted.get_future().get();
    ASSERT_TRUE(result.ok()) << result.error().ToString();
  }

  std::string List(const std::string& arguments) {
    test::TestNode::Output output = node_->Program({"sh", "-c", "nft " + arguments});
    EXPECT_EQ(output.code, 0) << arguments;
    EXPECT_THAT(output.text, Not(HasSubstr("rror:"))) << arguments;
    return output.text;
  }

  int services_ = 0;
  std::unique_ptr<test::TestNode> node_;
  net::SystemNft nft_;
  net::SystemConntrack conntrack_;
  std::unique_ptr<net::SystemIptables> iptables_;
  std::unique_ptr<ThreadPool> blocking_;
  std::unique_ptr<proxy::ServiceProxy> proxy_;
  std::unique_ptr<policy::PolicyEnforcer> enforcer_;
};

TEST_F(NftListingTest, Services) {
  StartProxy({});
  AddServices();
  std::string all = List("list ruleset");
  for (const char* line :
       {"table ip skiff-proxy", "table ip6 skiff-proxy",
        // A chain of every kind, and what it does.
        "vmap @paths comment \"by the destination's path\"", "numgen random mod 3 map @endpoints",
        "numgen random mod 14 offset 65536 map @endpoints", "chain endpoints-40-10800s",
        "update @affinity", "delete @affinity", "@members", "chain reject {", "reject",
        "chain external-3-guarded {", "@allowed", "masquerade", "@hairpin"}) {
    EXPECT_THAT(all, HasSubstr(line));
  }
  List("list tables");
  List("-s list table ip6 skiff-proxy");
  List("-j list ruleset");
}

TEST_F(NftListingTest, NodePortsOfSomeAddresses) {
  StartProxy({ListedPrefix("192.0.2.0/24"), ListedPrefix("2001:db8::/64")});
  AddServices();
  EXPECT_THAT(List("list table ip skiff-proxy"), HasSubstr("ip daddr 192.0.2.0/24"));
}

TEST_F(NftListingTest, Policies) {
  IsolateAPod();
  std::string all = List("list ruleset");
  EXPECT_THAT(all, HasSubstr("table ip skiff-policy"));
  EXPECT_THAT(all, HasSubstr("table ip6 skiff-policy"));
  EXPECT_THAT(all, HasSubstr("PEERS"));
  EXPECT_THAT(all, HasSubstr("NAMED"));
  List("-j list ruleset");
}

}  // namespace
}  // namespace skiff::agent
