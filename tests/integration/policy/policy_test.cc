// Network policies on the real kernel, from the objects of the API to packets. The cases are those
// of the behaviours that Kubernetes asks for
// (https://kubernetes.io/docs/concepts/services-networking/network-policies/).
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <future>
#include <iostream>

#include "tests/integration/policy/policy_fixture.h"

namespace skiff::agent::policy {
namespace {

TEST_F(PolicyKernelTest, WithoutPoliciesEverythingPasses) {
  Allowed({{"x/b", "x/a"},
           {"u/b", "x/a"},
           {"z/c", "x/a"},
           {"stranger", "x/a"},
           {"node", "x/a"},
           {"x/a", "x/b", 80, kUdp},
           {"x/a", "192.168.7.1"}});
  EXPECT_THAT(node_->Shell("nft list tables || true"),
              ::testing::Not(::testing::HasSubstr("skiff-policy")));
}

TEST_F(PolicyKernelTest, DefaultDenyIngress) {
  SetPolicy("x/deny", "podSelector: {}");
  Denied({{"x/b", "x/a"},
          {"u/a", "x/a"},
          {"z/c", "x/a"},
          {"stranger", "x/a"},
          {"x/b", "x/a", 80, kUdp}});
  // From the node itself, as probes come; to itself; and what the policy is not about.
  Allowed({{"node", "x/a"},
           {"node", "x/a", 80, kUdp},
           {"x/a", "x/a"},
           {"x/a", "u/a"},
           {"x/a", "192.168.7.1"},
           {"u/b", "u/a"}});
  RemovePolicy("x/deny");
  Allowed({{"x/b", "x/a"}, {"z/c", "x/a"}});
}

TEST_F(PolicyKernelTest, DefaultDenyEgress) {
  SetPolicy("x/deny", "podSelector: {}, policyTypes: [Egress]");
  Denied({{"x/a", "x/b"},
          {"x/a", "u/a"},
          {"x/a", "z/c"},
          {"x/a", "192.168.7.1"},
          {"x/a", "10.200.0.1", 81},
          {"x/a", "u/a", 80, kUdp}});
  Allowed({{"x/a", "x/a"}, {"u/a", "x/a"}, {"z/c", "x/a"}, {"node", "x/a"}});
}

TEST_F(PolicyKernelTest, DefaultDenyBoth) {
  SetPolicy("x/deny", "podSelector: {}, policyTypes: [Ingress, Egress]");
  Denied({{"x/b", "x/a"}, {"x/a", "u/a"}, {"u/a", "x/a"}});
  Allowed({{"u/b", "u/a"}, {"node", "x/a"}});
}

TEST_F(PolicyKernelTest, IngressByPodLabel) {
  SetPolicy("x/p",
            "podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: "
            "{matchLabels: {pod: b}}}]}]");
  Allowed({{"x/b", "x/a"}, {"u/a", "x/b"}});
  Denied({{"u/b", "x/a"}, {"u/a", "x/a"}});
}

TEST_F(PolicyKernelTest, IngressByNamespaceLabel) {
  SetPolicy("x/p",
            "podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: "
            "{matchExpressions: [{key: ns, operator: In, values: [u, z]}]}}]}]");
  Allowed({{"u/a", "x/a"}, {"u/b", "x/a"}, {"z/c", "x/a"}});
  Denied({{"x/b", "x/a"}, {"stranger", "x/a"}});
  // A namespace that loses the label.
  feed_.SetNamespace("u", FromYaml<core::Namespace>("metadata: {name: u, labels: {ns: other}}"));
  Sync();
  Denied({{"u/a", "x/a"}});
  Allowed({{"z/c", "x/a"}});
}

TEST_F(PolicyKernelTest, IngressByPodAndNamespace) {
  SetPolicy("x/p",
            "podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: "
            "{matchLabels: {ns: u}}, podSelector: {matchLabels: {pod: b}}}]}]");
  Allowed({{"u/b", "x/a"}});
  Denied({{"u/a", "x/a"}, {"x/b", "x/a"}});
  // Either of them: two peers.
  SetPolicy("x/p",
            "podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: "
            "{matchLabels: {ns: u}}}, {podSelector: {matchLabels: {pod: b}}}]}]");
  Allowed({{"u/b", "x/a"}, {"u/a", "x/a"}, {"x/b", "x/a"}});
  Denied({{"z/c", "x/a"}});
}

TEST_F(PolicyKernelTest, EgressByLabels) {
  SetPolicy("x/p",
            "podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{to: "
            "[{namespaceSelector: {matchLabels: {ns: u}}, podSelector: {matchLabels: {pod: "
            "b}}}, {podSelector: {matchLabels: {pod: b}}}]}, {to: [{namespaceSelector: "
            "{matchLabels: {ns: z}}}]}]");
  Allowed({{"x/a", "u/b"}, {"x/a", "x/b"}, {"x/a", "z/c"}, {"x/b", "u/a"}});
  Denied({{"x/a", "u/a"}, {"x/a", "192.168.7.1"}});
}

TEST_F(PolicyKernelTest, BothSidesHaveToAllow) {
  SetPolicy("x/in", "podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {}}]}]");
  SetPolicy("x/out", "podSelector: {matchLabels: {pod: b}}, policyTypes: [Egress]");
  Denied({{"x/b", "x/a"}});
  SetPolicy("x/out",
            "podSelector: {matchLabels: {pod: b}}, policyTypes: [Egress], egress: [{to: "
            "[{podSelector: {matchLabels: {pod: a}}}]}]");
  Allowed({{"x/b", "x/a"}});
  Denied({{"x/b", "u/a"}});
}

TEST_F(PolicyKernelTest, Blocks) {
  SetPolicy("x/p",
            "podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{ipBlock: {cidr: "
            "192.168.0.0/16}}]}]");
  Allowed({{"stranger", "x/a"}});
  Denied({{"x/b", "x/a"}, {"z/c", "x/a"}});
  SetPolicy("x/p",
            "podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{ipBlock: {cidr: "
            "0.0.0.0/0, except: [192.168.7.0/24, 10.201.1.0/24]}}]}]");
  Allowed({{"z/c", "x/a"}});
  Denied({{"stranger", "x/a"}, {"x/b", "x/a"}});
  // An exception of one block is none of another, and none of the pods'.
  SetPolicy("x/p",
            "podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{ipBlock: {cidr: "
            "192.168.0.0/16, except: [192.168.7.0/24]}}, {ipBlock: {cidr: 192.168.7.1/32}}, "
            "{podSelector: {}}]}]");
  Allowed({{"stranger", "x/a"}, {"x/b", "x/a"}});
  SetPolicy("x/out",
            "podSelector: {matchLabels: {pod: b}}, policyTypes: [Egress], egress: [{to: "
            "[{ipBlock: {cidr: 192.168.7.0/24}}]}]");
  Allowed({{"x/b", "192.168.7.1"}});
  Denied({{"x/b", "z/c"}, {"x/b", "u/a"}});
}

TEST_F(PolicyKernelTest, Ports) {
  SetPolicy("x/p",
            "podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{port: 80, protocol: "
            "TCP}]}]");
  Allowed({{"x/b", "x/a", 80}, {"stranger", "x/a", 80}});
  Denied({{"x/b", "x/a", 81}, {"x/b", "x/a", 80, kUdp}});
  SetPolicy("x/p",
            "podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{port: 81, endPort: "
            "90, protocol: TCP}, {protocol: UDP}]}]");
  Allowed({{"x/b", "x/a", 81}, {"x/b", "x/a", 80, kUdp}, {"x/b", "x/a", 81, kUdp}});
  Denied({{"x/b", "x/a", 80}});
  // Ports with peers, several of both.
  SetPolicy("x/p",
            "podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{port: 80, protocol: "
            "TCP}, {port: 81, protocol: UDP}], from: [{podSelector: {}}, "
            "{namespaceSelector: {matchLabels: {ns: z}}}]}]");
  Allowed({{"x/b", "x/a", 80}, {"x/b", "x/a", 81, kUdp}, {"z/c", "x/a", 80}});
  Denied({{"x/b", "x/a", 81}, {"u/a", "x/a", 80}});
}

TEST_F(PolicyKernelTest, NamedPorts) {
  SetPolicy("x/in",
            "podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{port: serve-81, "
            "protocol: TCP}, {port: udp-80, protocol: UDP}]}]");
  Allowed({{"x/b", "x/a", 81}, {"x/b", "x/a", 80, kUdp}});
  Denied({{"x/b", "x/a", 80}, {"x/b", "x/a", 81, kUdp}});
  SetPolicy("u/out",
            "podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: "
            "[{ports: [{port: serve-80, protocol: TCP}], to: [{podSelector: {}}]}]");
  Allowed({{"u/a", "u/b", 80}});
  Denied({{"u/a", "u/b", 81}, {"u/a", "x/b", 80}});
}

TEST_F(PolicyKernelTest, PoliciesAddUpAndChange) {
  SetPolicy("x/deny", "podSelector: {}");
  SetPolicy("x/one",
            "podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: "
            "{matchLabels: {pod: b}}}]}]");
  SetPolicy("x/two",
            "podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: "
            "{matchLabels: {ns: u}}}], ports: [{port: 81, protocol: TCP}]}]");
  Allowed({{"x/b", "x/a", 80}, {"u/a", "x/a", 81}});
  Denied({{"u/a", "x/a", 80}, {"x/a", "x/b", 80}});
  RemovePolicy("x/two");
  Denied({{"u/a", "x/a", 81}});
  SetPolicy("x/one", "podSelector: {matchLabels: {pod: a}}, ingress: [{}]");
  Allowed({{"u/a", "x/a", 80}, {"stranger", "x/a", 80}});
  // Pods that are labelled otherwise.
  SetPolicy("x/one",
            "podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: "
            "{matchLabels: {pod: b}}}]}]");
  SetLabels("x/b", "pod: elsewhat");
  Sync();
  Denied({{"x/b", "x/a", 80}});
  SetLabels("x/a", "pod: other");
  RemovePolicy("x/deny");
  Allowed({{"x/b", "x/a", 80}});
}

TEST_F(PolicyKernelTest, ConnectionsThatWereAllowedGoOn) {
  // A flow of UDP with one local port stands for a connection: answered once, it is established.
  auto ask = [&](milliseconds wait) {
    bool answered = false;
    pods_["x/b"].netns->Run([&] {
      answered = !test::Ask(kUdp, net::IpAddress::Parse(pods_["x/a"].v4).value(), 80, wait, 4000)
                      .server.empty();
    });
    return answered;
  };
  EXPECT_TRUE(ask(kAllowedWait));
  EXPECT_TRUE(ask(kAllowedWait));
  SetPolicy("x/deny", "podSelector: {}");
  EXPECT_TRUE(ask(kAllowedWait));
  Denied({{"x/b", "x/a", 80, kUdp}, {"x/b", "x/a", 80}});
}

TEST_F(PolicyKernelTest, Ipv6) {
  SetPolicy("x/deny", "podSelector: {}, policyTypes: [Ingress, Egress]");
  auto allowed = [&](const std::string& from, const std::string& to, milliseconds wait) {
    return !test::AskFrom(*pods_[from].netns, kTcp, AddressOf(to, true), 80, wait).server.empty();
  };
  EXPECT_FALSE(allowed("x/b", "x/a", kDeniedWait));
  EXPECT_FALSE(allowed("u/a", "x/a", kDeniedWait));
  EXPECT_FALSE(allowed("x/a", "u/a", kDeniedWait));
  EXPECT_TRUE(allowed("u/b", "u/a", kAllowedWait));
  SetPolicy("x/p",
            "podSelector: {matchLabels: {pod: a}}, policyTypes: [Ingress, Egress], ingress: "
            "[{from: [{namespaceSelector: {matchLabels: {ns: u}}}]}], egress: [{to: "
            "[{ipBlock: {cidr: 'fd00:200::/64'}}]}]");
  EXPECT_TRUE(allowed("u/a", "x/a", kAllowedWait));
  EXPECT_FALSE(allowed("x/b", "x/a", kDeniedWait));
  // Neighbour discovery towards the node goes on, or this would not arrive.
  pods_["x/a"].netns->Shell("ip -6 neigh flush all");
  EXPECT_TRUE(
      !test::AskFrom(*pods_["x/a"].netns, kTcp, "fd00:200::2", 80, kAllowedWait).server.empty());
  EXPECT_TRUE(!test::AskFrom(*node_, kTcp, pods_["x/a"].v6, 80, kAllowedWait).server.empty());
}

// SCTP by hand: the kernel need not have it for its packets to be told apart.
TEST_F(PolicyKernelTest, Sctp) {
  auto arrives = [&](uint16_t port) {
    UniqueFd receiver;
    pods_["x/a"].netns->Run(
        [&] { receiver = UniqueFd(::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_SCTP)); });
    pods_["x/b"].netns->Run([&] {
      UniqueFd sender(::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_SCTP));
      // The common header and an INIT chunk.
      unsigned char packet[32] = {0x10, 0, static_cast<unsigned char>(port >> 8),
                                  static_cast<unsigned char>(port)};
      packet[12] = 1;
      packet[15] = 20;
      sockaddr_in to{.sin_family = AF_INET};
      inet_pton(AF_INET, pods_["x/a"].v4.c_str(), &to.sin_addr);
      EXPECT_EQ(::sendto(sender.get(), packet, sizeof packet, 0, reinterpret_cast<sockaddr*>(&to),
                         sizeof to),
                static_cast<ssize_t>(sizeof packet));
    });
    pollfd waiting{.fd = receiver.get(), .events = POLLIN};
    return ::poll(&waiting, 1, 1000) == 1;
  };
  EXPECT_TRUE(arrives(80));
  SetPolicy("x/p", "podSelector: {}, ingress: [{ports: [{port: 80, protocol: SCTP}]}]");
  EXPECT_TRUE(arrives(80));
  EXPECT_FALSE(arrives(81));
  Denied({{"x/b", "x/a", 80}});
}

// Policies are about pods, not about the addresses of services before them.
TEST_F(PolicyKernelTest, ByWayOfServices) {
  node_->Run([this] {
    proxy::Config config{.node_name = "this-node", .cluster_cidrs = cluster_cidrs_};
    proxy_ = proxy::ServiceProxy::Start(
                 config, {on_node_->blocking(), on_node_->iptables(), on_node_->conntrack()})
                 .value();
  });
  proxy_->SetService(proxy::testing::MakeService("web", "10.202.0.20", "TCP", "http", 80, 30080));
  proxy_->SetEndpointSlice(
      proxy::testing::MakeSlice("web", {{pods_["x/a"].v4, "this-node"}}, "TCP", "http", 81));
  proxy_->SyncDone();
  std::promise<void> synced;
  proxy_->WhenSynced([&] { synced.set_value(); });
  ASSERT_EQ(synced.get_future().wait_for(seconds(20)), std::future_status::ready);
  Allowed({{"x/b", "10.202.0.20"}, {"x/a", "10.202.0.20"}});
  SetPolicy("x/p",
            "podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: "
            "{matchLabels: {pod: b}}}], ports: [{port: 81, protocol: TCP}]}]");
  Allowed({{"x/b", "10.202.0.20"}, {"x/a", "10.202.0.20"}, {"node", "10.202.0.20"}});
  Denied({{"u/a", "10.202.0.20"}, {"u/a", "10.200.0.1", 30080}});
  // Through a node port, from outside: the client's own address counts, not the node's.
  SetPolicy("x/p",
            "podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{ipBlock: {cidr: "
            "10.200.0.2/32}}]}]");
  Allowed({{"anybody", "10.200.0.1", 30080}});
  SetPolicy("x/p",
            "podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{ipBlock: {cidr: "
            "10.200.0.1/32}}]}]");
  Denied({{"anybody", "10.200.0.1", 30080}});
  // Egress to a service is egress to its pods.
  SetPolicy("u/out",
            "podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{to: "
            "[{ipBlock: {cidr: 10.202.0.0/16}}]}]");
  RemovePolicy("x/p");
  Denied({{"u/a", "10.202.0.20"}});
  SetPolicy("u/out",
            "podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{to: "
            "[{namespaceSelector: {matchLabels: {ns: x}}}], ports: [{port: 81, protocol: "
            "TCP}]}]");
  Allowed({{"u/a", "10.202.0.20"}});
}

// The node answers the cluster's DNS itself; policies speak of it as of pods.
TEST_F(PolicyKernelTest, EgressToTheClusterDns) {
  node_->Shell(std::string("ip addr add ") + kDnsAddress + "/32 dev lo");
  net::IpAddress address = net::IpAddress::Parse(kDnsAddress).value();
  EchoServer udp(node_->netns(), kUdp, address, 53, "dns"),
      tcp(node_->netns(), kTcp, address, 53, "dns");
  EchoServer other(node_->netns(), kTcp, address, 54, "other");
  Allowed({{"x/a", kDnsAddress, 53, kUdp}, {"x/a", kDnsAddress, 54}});
  SetPolicy("x/deny", "podSelector: {}, policyTypes: [Egress]");
  Denied({{"x/a", kDnsAddress, 53, kUdp}, {"x/a", kDnsAddress, 53}});
  SetPolicy("x/dns",
            "podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: "
            "{matchLabels: {ns: kube-system}}, podSelector: {matchLabels: {k8s-app: "
            "kube-dns}}}], ports: [{port: 53, protocol: UDP}, {port: 53, protocol: "
            "TCP}]}]");
  Allowed({{"x/a", kDnsAddress, 53, kUdp}, {"x/a", kDnsAddress, 53}});
  Denied({{"x/a", kDnsAddress, 54}, {"x/a", "u/a"}});
}

TEST_F(PolicyKernelTest, RulesOutliveTheAgentAndOthers) {
  SetPolicy("x/deny", "podSelector: {}");
  enforcer_.reset();
  Denied({{"x/b", "x/a"}, {"z/c", "x/a"}});
  // The next run takes them over, and knows when somebody else removes them.
  StartEnforcer();
  Sync();
  Denied({{"x/b", "x/a"}});
  node_->Shell("nft flush ruleset");
  for (int i = 0; i < 200 && enforcer_->GetStatus().repairs == 0; ++i) poll(nullptr, 0, 100);
  EXPECT_EQ(enforcer_->GetStatus().repairs, 1u);
  Sync();
  Denied({{"x/b", "x/a"}, {"z/c", "x/a"}});
}

TEST_F(PolicyKernelTest, AChangeCostsWhatItChanges) {
  SetPolicy("x/p",
            "podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: "
            "u}}}]}]");
  Update update;
  for (int part = 0; part < 32; ++part) {
    std::vector<Member> members;
    for (int i = 0; i < 160; ++i) {
      members.push_back(
          {net::IpAddress::V4(10, 210, static_cast<uint8_t>(part), static_cast<uint8_t>(i)), 0, 0});
    }
    update.parts[SetOfPolicy() + "." + std::to_string(part)] = members;
  }
  auto apply = [&](Update change) {
    auto start = std::chrono::steady_clock::now();
    enforcer_->Apply(std::move(change));
    std::promise<void> applied;
    enforcer_->WhenApplied([&] { applied.set_value(); });
    applied.get_future().wait();
    return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() -
                                                                 start);
  };
  auto all = apply(update);
  EXPECT_GT(enforcer_->GetStatus().last_operations, 1u);
  Update one;
  one.parts[SetOfPolicy() + ".3"] = {{net::IpAddress::V4(10, 211, 0, 1), 0, 0}};
  auto changed = apply(one);
  // Elements of one set travel together: one operation adds, one deletes.
  EXPECT_LE(enforcer_->GetStatus().last_operations, 2u);
  RecordProperty("all_us", static_cast<int>(all.count()));
  RecordProperty("one_us", static_cast<int>(changed.count()));
  std::cout << "5,120 addresses written in " << all.count() << " us, one part of them changed in "
            << changed.count() << " us\n";
}

}  // namespace
}  // namespace skiff::agent::policy
