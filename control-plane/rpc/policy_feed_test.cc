// What nodes are told of network policies.
#include "control-plane/rpc/policy_feed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "proto/codec/testing.h"
#include "proto/k8s/core/v1/namespace.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/networking/v1/networking.pb.h"
#include "proto/skiff/node/v1/policy.pb.h"

namespace skiff::cp {
namespace {

namespace core = k8s::core::v1;
namespace networking = k8s::networking::v1;
using codec::testing::FromYaml;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;

// A node as the feed talks to it: its share is what it was told of last.
class PolicyFeedTest : public testing::Test {
 protected:
  PolicyFeedTest() {
    SetNamespace("default", "team: a");
    SetNamespace("other", "team: b");
    SetNamespace("kube-system", "kubernetes.io/metadata.name: kube-system");
  }

  void SetNamespace(const std::string& name, const std::string& labels) {
    feed.SetNamespace(name, FromYaml<core::Namespace>("metadata: {name: " + name + ", labels: {" +
                                                      labels + "}}"));
  }
  // key: "namespace/name"; status and the rest of the spec as they are.
  void SetPod(const std::string& key, const std::string& node, const std::string& labels,
              const std::string& status, const std::string& spec = "") {
    size_t slash = key.find('/');
    feed.SetPod(key, FromYaml<core::Pod>("metadata: {namespace: " + key.substr(0, slash) +
                                         ", name: " + key.substr(slash + 1) + ", labels: {" +
                                         labels + "}}\nspec: {nodeName: " + node +
                                         (spec.empty() ? "" : ", " + spec) + "}\nstatus: {" +
                                         status + "}"));
  }
  void RemovePod(const std::string& key) { feed.SetPod(key, nullptr); }
  void SetPolicy(const std::string& key, const std::string& spec) {
    size_t slash = key.find('/');
    feed.SetPolicy(key, FromYaml<networking::NetworkPolicy>(
                            "metadata: {namespace: " + key.substr(0, slash) +
                            ", name: " + key.substr(slash + 1) + "}\nspec: {" + spec + "}"));
  }

  node::v1::NetworkPolicy Policy(const std::string& key) {
    node::v1::NetworkPolicy message;
    auto view = feed.View(FeedKind::kNetworkPolicy, key);
    EXPECT_NE(view, nullptr) << key;
    EXPECT_TRUE(view != nullptr && message.ParseFromString(view->bytes));
    return message;
  }
  // The members of a set as the node is told of them: "10.0.0.1", "10.0.0.1 TCP 80".
  std::multiset<std::string> Members(const std::string& node, const std::string& set) {
    std::multiset<std::string> members;
    for (const auto& [kind, key] : feed.Everything(node)) {
      if (kind != FeedKind::kAddressSet || !key.starts_with(set + ".")) continue;
      EXPECT_TRUE(feed.Concerns(node, kind, key));
      node::v1::AddressSetPart part;
      EXPECT_TRUE(part.ParseFromString(feed.View(kind, key)->bytes));
      for (const auto& member : part.members()) {
        auto family = member.address().size() == 4 ? net::IpFamily::kV4 : net::IpFamily::kV6;
        std::string text = net::IpAddress::FromBytes(family, member.address().data()).ToString();
        if (member.port() != 0) {
          text += " " + member.protocol() + " " + std::to_string(member.port());
        }
        members.insert(text);
      }
    }
    return members;
  }
  std::vector<std::string> PoliciesOf(const std::string& node) {
    std::vector<std::string> keys;
    for (const auto& [kind, key] : feed.Everything(node)) {
      if (kind == FeedKind::kNetworkPolicy) keys.push_back(key);
    }
    return keys;
  }

  std::vector<std::string> changes;  // "node kind key" since the last clear
  PolicyFeed feed{{net::IpAddress::V4(10, 96, 0, 10)},
                  [this](const std::string& node, FeedKind kind, const std::string& key) {
                    changes.push_back(node + " " + FeedKindName(kind) + " " + key);
                  }};
};

TEST_F(PolicyFeedTest, ANodeIsToldOfThePoliciesOfItsPods) {
  SetPod("default/web", "n1", "app: web", "podIP: 10.0.0.1");
  SetPod("other/web", "n2", "app: web", "podIP: 10.0.1.1");
  SetPolicy("default/p", "podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]");
  EXPECT_THAT(changes, ElementsAre("n1 NetworkPolicy default/p"));
  EXPECT_THAT(PoliciesOf("n1"), ElementsAre("default/p"));
  EXPECT_THAT(PoliciesOf("n2"), IsEmpty()) << "a policy is about the pods of its namespace";
  node::v1::NetworkPolicy policy = Policy("default/p");
  EXPECT_EQ(policy.pod_selector(), "app=web");
  EXPECT_TRUE(policy.isolates_ingress());
  EXPECT_FALSE(policy.isolates_egress());

  // Labels may change, pods may go.
  changes.clear();
  SetPod("default/web", "n1", "app: db", "podIP: 10.0.0.1");
  EXPECT_THAT(changes, ElementsAre("n1 NetworkPolicy default/p"));
  EXPECT_FALSE(feed.Concerns("n1", FeedKind::kNetworkPolicy, "default/p"));
  SetPod("default/second", "n3", "app: web", "");
  EXPECT_THAT(PoliciesOf("n3"), ElementsAre("default/p")) << "before the pod has an address";
  RemovePod("default/second");
  EXPECT_THAT(PoliciesOf("n3"), IsEmpty());
  SetPod("default/third", "n3", "app: web", "", "hostNetwork: true");
  SetPod("default/fourth", "n3", "app: web", "phase: Succeeded");
  EXPECT_THAT(PoliciesOf("n3"), IsEmpty());
  SetPod("default/web", "n1", "app: web", "podIP: 10.0.0.1");
  feed.SetPolicy("default/p", nullptr);
  EXPECT_THAT(PoliciesOf("n1"), IsEmpty());
}

TEST_F(PolicyFeedTest, PeersAreResolvedOverTheCluster) {
  SetPod("default/web", "n1", "app: web", "podIP: 10.0.0.1");
  SetPod("default/a", "n2", "app: client",
         "podIP: 10.0.1.1, podIPs: [{ip: 10.0.1.1}, {ip: 'fd00::1'}]");
  SetPod("other/b", "n3", "app: client", "podIP: 10.0.2.1");
  SetPod("other/c", "n3", "app: elsewhat", "podIP: 10.0.2.2");
  SetPod("other/host", "n3", "app: client", "podIP: 192.168.0.3", "hostNetwork: true");
  SetPod("other/done", "n3", "app: client", "podIP: 10.0.2.3, phase: Failed");
  SetPolicy("default/p",
            "podSelector: {}, policyTypes: [Ingress], ingress: ["
            "{from: [{podSelector: {matchLabels: {app: client}}}]},"
            "{from: [{namespaceSelector: {matchLabels: {team: b}}}]},"
            "{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: client}}}]}]");
  node::v1::NetworkPolicy policy = Policy("default/p");
  ASSERT_EQ(policy.ingress_size(), 3);
  auto members = [&](int rule) { return Members("n1", policy.ingress(rule).sets(0)); };
  EXPECT_THAT(members(0), UnorderedElementsAre("10.0.1.1", "fd00::1"));
  EXPECT_THAT(members(1), UnorderedElementsAre("10.0.2.1", "10.0.2.2"));
  EXPECT_THAT(members(2), UnorderedElementsAre("10.0.1.1", "fd00::1", "10.0.2.1"));
  EXPECT_THAT(Members("n3", policy.ingress(0).sets(0)), IsEmpty()) << "none of its business";

  // A namespace whose labels change moves its pods.
  changes.clear();
  SetNamespace("other", "team: c");
  EXPECT_THAT(members(1), IsEmpty());
  EXPECT_THAT(changes, SizeIs(4))
      << "one part for each pod, for the two nodes that the policy is for";
  feed.SetNamespace("other", nullptr);
  EXPECT_THAT(members(2), UnorderedElementsAre("10.0.1.1", "fd00::1"));
}

TEST_F(PolicyFeedTest, APodThatComesOrGoesCostsOnePart) {
  SetPod("default/web", "n1", "app: web", "podIP: 10.0.0.1");
  SetPolicy("default/p",
            "podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress], ingress: [{from: "
            "[{podSelector: {matchLabels: {app: client}}}]}]");
  auto key = [](int i) { return "default/client-" + std::to_string(i); };
  auto status = [](int i) {
    return "podIP: 10.1." + std::to_string(i / 250) + "." + std::to_string(i % 250 + 1);
  };
  for (int i = 0; i < 1000; ++i) SetPod(key(i), "n2", "app: client", status(i));
  std::string set = Policy("default/p").ingress(0).sets(0);
  EXPECT_THAT(Members("n1", set), SizeIs(1000));
  changes.clear();
  RemovePod(key(17));
  ASSERT_THAT(changes, SizeIs(1));
  ASSERT_TRUE(changes[0].starts_with("n1 AddressSet " + set + "."));
  std::string part = changes[0].substr(std::string("n1 AddressSet ").size());
  EXPECT_LT(feed.View(FeedKind::kAddressSet, part)->bytes.size(), 1000u);
  EXPECT_THAT(Members("n1", set), SizeIs(999));
  // What is of no meaning to peers says nothing to nodes.
  changes.clear();
  SetPod(key(18), "n2", "app: client", status(18) + ", phase: Running");
  EXPECT_THAT(changes, IsEmpty());
}

TEST_F(PolicyFeedTest, PoliciesShareSets) {
  SetPod("default/web", "n1", "app: web", "podIP: 10.0.0.1");
  SetPod("default/a", "n2", "app: client", "podIP: 10.0.1.1");
  const std::string spec =
      "podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: "
      "{app: client}}}]}]";
  SetPolicy("default/p", spec);
  SetPolicy("default/q", spec);
  std::string set = Policy("default/p").ingress(0).sets(0);
  EXPECT_EQ(Policy("default/q").ingress(0).sets(0), set);
  feed.SetPolicy("default/p", nullptr);
  EXPECT_THAT(Members("n1", set), SizeIs(1));
  // A change of the policy that keeps the set tells nothing of it anew.
  changes.clear();
  SetPolicy("default/q", spec + ", egress: [{}]");
  EXPECT_THAT(changes, ElementsAre("n1 NetworkPolicy default/q", "n2 NetworkPolicy default/q"));
  changes.clear();
  feed.SetPolicy("default/q", nullptr);
  EXPECT_THAT(Members("n1", set), IsEmpty());
  EXPECT_THAT(feed.Everything("n1"), IsEmpty());
}

TEST_F(PolicyFeedTest, NamedPortsOfEgressAreThePeers) {
  SetPod("default/web", "n1", "app: web", "podIP: 10.0.0.1");
  SetPod("default/a", "n2", "app: db", "podIP: 10.0.1.1",
         "containers: [{name: x, ports: [{name: sql, containerPort: 5432}]}]");
  SetPod("default/b", "n2", "app: db", "podIP: 10.0.1.2",
         "containers: [{name: x, ports: [{name: sql, containerPort: 6543}]}]");
  SetPod("default/c", "n2", "app: db", "podIP: 10.0.1.3",
         "containers: [{name: x, ports: [{name: sql, containerPort: 53, protocol: UDP}]}]");
  SetPolicy("default/p",
            "podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{ports: "
            "[{port: sql}, {port: 80, endPort: 90}, {protocol: UDP}], to: [{podSelector: "
            "{matchLabels: {app: db}}}, {ipBlock: {cidr: 10.0.0.1/8, except: [10.1.0.0/16]}}]}]");
  node::v1::NetworkPolicy policy = Policy("default/p");
  ASSERT_EQ(policy.egress_size(), 1);
  const node::v1::PolicyRule& rule = policy.egress(0);
  ASSERT_EQ(rule.ports_size(), 2);
  EXPECT_EQ(rule.ports(0).port(), 80u);
  EXPECT_EQ(rule.ports(0).end_port(), 90u);
  EXPECT_EQ(rule.ports(1).protocol(), "UDP");
  EXPECT_FALSE(rule.any_port());
  EXPECT_FALSE(rule.any_peer());
  EXPECT_EQ(rule.blocks(0).cidr(), "10.0.0.0/8");
  EXPECT_EQ(rule.blocks(0).except(0), "10.1.0.0/16");
  ASSERT_EQ(rule.port_sets_size(), 1);
  EXPECT_THAT(Members("n1", rule.port_sets(0)),
              UnorderedElementsAre("10.0.1.1 TCP 5432", "10.0.1.2 TCP 6543"));
}

TEST_F(PolicyFeedTest, NamedPortsOfIngressAreThePodsOwn) {
  SetPod("default/web", "n1", "app: web", "podIP: 10.0.0.1");
  SetPolicy("default/p",
            "podSelector: {}, policyTypes: [Ingress], ingress: [{ports: [{port: http}]}]");
  const node::v1::PolicyRule rule = Policy("default/p").ingress(0);
  EXPECT_TRUE(rule.any_peer());
  EXPECT_FALSE(rule.any_port());
  EXPECT_EQ(rule.ports(0).name(), "http");
  EXPECT_EQ(rule.ports(0).protocol(), "TCP");
}

// As users write it everywhere: "to the pods of the cluster's DNS".
TEST_F(PolicyFeedTest, TheDnsOfTheNodesIsAPod) {
  SetPod("default/web", "n1", "app: web", "podIP: 10.0.0.1");
  SetPolicy("default/p",
            "podSelector: {}, policyTypes: [Egress], egress: [{ports: [{protocol: UDP, port: "
            "dns}], to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: "
            "kube-system}}, podSelector: {matchLabels: {k8s-app: kube-dns}}}]}, {ports: [{port: "
            "dns-tcp}]}]");
  node::v1::NetworkPolicy policy = Policy("default/p");
  EXPECT_THAT(Members("n1", policy.egress(0).sets(0)), ElementsAre("10.96.0.10"));
  EXPECT_THAT(Members("n1", policy.egress(0).port_sets(0)), ElementsAre("10.96.0.10 UDP 53"));
  EXPECT_THAT(Members("n1", policy.egress(1).port_sets(0)), ElementsAre("10.96.0.10 TCP 53"));
}

TEST_F(PolicyFeedTest, ASelectorNobodyCanReadSelectsNothing) {
  SetPod("default/web", "n1", "app: web", "podIP: 10.0.0.1");
  SetPolicy("default/p",
            "podSelector: {matchExpressions: [{key: a, operator: Bad}]}, policyTypes: [Ingress]");
  EXPECT_THAT(PoliciesOf("n1"), IsEmpty());
  SetPolicy("default/q",
            "podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{podSelector: "
            "{matchExpressions: [{key: a, operator: Bad}]}}, {ipBlock: {cidr: x}}]}]");
  const node::v1::PolicyRule rule = Policy("default/q").ingress(0);
  EXPECT_FALSE(rule.any_peer());
  EXPECT_EQ(rule.blocks_size(), 0);
  EXPECT_THAT(Members("n1", rule.sets(0)), IsEmpty());
}

}  // namespace
}  // namespace skiff::cp
