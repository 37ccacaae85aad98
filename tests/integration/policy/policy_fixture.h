// A node with pods, from the control plane's PolicyFeed to the node's PolicyEnforcer and the
// traffic between pods of a BridgeNetwork.
#pragma once

#include <gtest/gtest.h>

#include <future>
#include <map>
#include <tuple>

#include "agent/policy/enforcer.h"
#include "agent/policy/rule_writer.h"
#include "agent/proxy/proxy.h"
#include "agent/proxy/testing.h"
#include "base/net/conntrack.h"
#include "base/net/iptables.h"
#include "base/os/files.h"
#include "control-plane/rpc/policy_feed.h"
#include "proto/codec/testing.h"
#include "proto/k8s/core/v1/namespace.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/core/v1/service.pb.h"
#include "proto/k8s/discovery/v1/discovery.pb.h"
#include "proto/k8s/networking/v1/networking.pb.h"
#include "proto/skiff/node/v1/policy.pb.h"
#include "tests/support/needs.h"
#include "tests/support/netns.h"
#include "tests/support/pod_node.h"
#include "tests/support/traffic.h"

namespace skiff::agent::policy {
namespace core = k8s::core::v1;
using codec::testing::FromYaml;
using std::chrono::milliseconds;
using std::chrono::seconds;
using test::EchoServer;
using test::TestNetns;
using test::TestNode;
inline constexpr auto kTcp = test::Transport::kTcp;
inline constexpr auto kUdp = test::Transport::kUdp;

// What must arrive has long; what must not is waited for shortly: a packet that is dropped stays
// so.
inline constexpr auto kAllowedWait = seconds(5);
inline constexpr auto kDeniedWait = milliseconds(400);

inline constexpr char kDnsAddress[] = "10.202.0.10";

inline net::IpPrefix Prefix(std::string_view text) { return net::IpPrefix::Parse(text).value(); }

// A node of a cluster with the pods x/a, x/b, u/a and u/b, each of which serves TCP and UDP 80 and
// 81 (named serve-80, serve-81, udp-80), and with "outside", a machine beyond it, where the pod z/c
// of another node lives.
class PolicyKernelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    SKIFF_NEEDS(test::Need::kRoot, test::Need::kIptables, test::Need::kIpv6, test::Need::kConntrack,
                test::Need::kNftables);
    std::tie(node_, outside_) = test::MakeNodeAndOutside();
    // The pod of another node, and a machine that is none of the cluster's.
    outside_->Shell(
        "ip addr add 10.201.2.1/32 dev lo; ip addr add 192.168.7.1/32 dev lo; "
        "ip route add 10.201.1.0/24 via 10.200.0.1; ip -6 route add fd00:201:1::/64 via "
        "fd00:200::1; ip route add 10.202.0.0/16 via 10.200.0.1");
    on_node_ = std::make_unique<test::PodNode>(
        *node_, std::vector{Prefix("10.201.1.0/24"), Prefix("fd00:201:1::/64")}, cluster_cidrs_);
    for (const char* ns : {"x", "u", "z", "kube-system"}) {
      feed_.SetNamespace(ns, FromYaml<core::Namespace>("metadata: {name: " + std::string(ns) +
                                                       ", labels: {ns: " + ns + "}}"));
    }
    StartEnforcer();
    for (const char* key : {"x/a", "x/b", "u/a", "u/b"}) AddPod(key);
    feed_.SetPod("z/c", FromYaml<core::Pod>("metadata: {namespace: z, name: c, labels: {pod: c}}\n"
                                            "spec: {nodeName: n2}\nstatus: {podIP: 10.201.2.1}"));
    server_ = Serve(outside_->netns(), "outside");
  }

  void TearDown() override {
    if (!on_node_) return;
    enforcer_.reset();
    proxy_.reset();
    on_node_->Close([this] {
      EXPECT_TRUE(proxy::RemoveAllRules(on_node_->iptables()).ok());
      EXPECT_TRUE(RemovePolicyTables(on_node_->nft()).ok());
    });
  }

  struct Pod : test::AttachedPod {
    TrafficRules::PodPtr object;
    std::vector<std::unique_ptr<EchoServer>> servers;
  };

  static std::string SandboxOf(const std::string& key) {
    return key.substr(0, 1) + "-" + key.substr(2);
  }
  static std::vector<std::unique_ptr<EchoServer>> Serve(const net::Netns& netns,
                                                        const std::string& name) {
    std::vector<std::unique_ptr<EchoServer>> servers;
    net::IpAddress any = net::IpAddress::Parse("::").value();
    for (uint16_t port : {80, 81}) {
      for (auto transport : {kTcp, kUdp}) {
        servers.push_back(std::make_unique<EchoServer>(netns, transport, any, port, name));
      }
    }
    return servers;
  }

  void AddPod(const std::string& key) {
    Pod& pod = pods_[key];
    static_cast<test::AttachedPod&>(pod) = on_node_->Attach(SandboxOf(key));
    pod.servers = Serve(pod.netns->netns(), key);
    SetLabels(key, "pod: " + key.substr(2));
    std::promise<Result<>> admitted;
    enforcer_->Admit(pod.object, {pod.v4, pod.v6},
                     [&](Result<> result) { admitted.set_value(std::move(result)); });
    Result<> result = admitted.get_future().get();
    ASSERT_TRUE(result.ok()) << result.error().ToString();
  }
  // Makes the pod's object anew, with these labels.
  void SetLabels(const std::string& key, const std::string& labels) {
    Pod& pod = pods_[key];
    pod.object = FromYaml<core::Pod>(
        "metadata: {namespace: " + key.substr(0, 1) + ", name: " + key.substr(2) +
        ", uid: " + SandboxOf(key) + ", labels: {" + labels +
        "}}\n"
        "spec: {nodeName: this-node, containers: [{name: c, ports: [{name: serve-80, "
        "containerPort: 80}, {name: serve-81, containerPort: 81}, {name: udp-80, containerPort: "
        "80, protocol: UDP}]}]}\n"
        "status: {podIP: '" +
        pod.v4 + "', podIPs: [{ip: '" + pod.v4 + "'}, {ip: '" + pod.v6 + "'}]}");
    feed_.SetPod(key, pod.object);
    std::vector<TrafficRules::PodPtr> objects;
    for (const auto& [other, entry] : pods_) {
      if (entry.object != nullptr) objects.push_back(entry.object);
    }
    enforcer_->SetPods(objects);
  }

  void StartEnforcer() {
    node_->Run([this] {
      enforcer_ = std::make_unique<PolicyEnforcer>(on_node_->blocking(), on_node_->nft());
    });
    std::vector<TrafficRules::PodPtr> objects;
    for (const auto& [key, pod] : pods_) objects.push_back(pod.object);
    enforcer_->SetPods(objects);
    for (const auto& [key, pod] : pods_) enforcer_->Observe(pod.object, {pod.v4, pod.v6});
  }

  void SetPolicy(const std::string& key, const std::string& spec) {
    auto policy = FromYaml<k8s::networking::v1::NetworkPolicy>(
        "metadata: {namespace: " + key.substr(0, 1) + ", name: " + key.substr(2) + "}\nspec: {" +
        spec + "}");
    // As the API server defaults it.
    if (policy->spec().policy_types().empty()) policy->mutable_spec()->add_policy_types("Ingress");
    feed_.SetPolicy(key, policy);
    Sync();
  }
  void RemovePolicy(const std::string& key) {
    feed_.SetPolicy(key, nullptr);
    Sync();
  }

  // The set of the first policy's first peer.
  std::string SetOfPolicy() {
    node::v1::NetworkPolicy policy;
    EXPECT_TRUE(policy.ParseFromString(feed_.View(cp::FeedKind::kNetworkPolicy, "x/p")->bytes));
    return policy.ingress(0).sets(0);
  }

  // Tells the enforcer what the feed has for the node and waits until it is in force.
  void Sync() {
    Update update;
    update.full = true;
    for (const auto& [kind, key] : feed_.Everything("this-node")) {
      auto view = feed_.View(kind, key);
      if (view == nullptr) continue;
      if (kind == cp::FeedKind::kAddressSet) {
        node::v1::AddressSetPart part;
        ASSERT_TRUE(part.ParseFromString(view->bytes));
        update.parts[key] = ReadPart(part).value();
      } else {
        node::v1::NetworkPolicy policy;
        ASSERT_TRUE(policy.ParseFromString(view->bytes));
        update.policies[key] = ReadPolicy(key.substr(0, key.find('/')), policy).value();
      }
    }
    enforcer_->Apply(std::move(update));
    std::promise<void> applied;
    enforcer_->WhenApplied([&] { applied.set_value(); });
    ASSERT_EQ(applied.get_future().wait_for(seconds(20)), std::future_status::ready);
    auto error = enforcer_->GetStatus().last_error;
    ASSERT_FALSE(error.has_value()) << error->ToString();
  }

  // Who an address belongs to, for messages; "x/a", "z/c", "stranger", "node".
  std::string AddressOf(const std::string& who, bool v6 = false) {
    auto pod = pods_.find(who);
    if (pod != pods_.end()) return v6 ? pod->second.v6 : pod->second.v4;
    if (who == "z/c") return "10.201.2.1";
    if (who == "stranger") return "192.168.7.1";
    return who;  // an address
  }
  bool Reaches(const std::string& from, const std::string& to, uint16_t port, test::Transport how,
               milliseconds wait) {
    std::string address = AddressOf(to);
    auto pod = pods_.find(from);
    if (pod != pods_.end()) {
      return !test::AskFrom(*pod->second.netns, how, address, port, wait).server.empty();
    }
    if (from == "node") return !test::AskFrom(*node_, how, address, port, wait).server.empty();
    // From an address of the machine outside: the route says which.
    return !test::AskFrom(*outside_, how, address, port, wait).server.empty();
  }

  struct Probe {
    std::string from, to;
    uint16_t port = 80;
    test::Transport how = kTcp;
  };
  void ExpectAll(bool allowed, const std::vector<Probe>& probes) {
    std::vector<std::future<bool>> answers;
    for (const Probe& probe : probes) {
      if (probe.from == "z/c" || probe.from == "stranger") {
        outside_->Shell("ip route replace 10.201.1.0/24 via 10.200.0.1 src " +
                        AddressOf(probe.from));
      }
      auto ask = [this, probe, allowed] {
        return Reaches(probe.from, probe.to, probe.port, probe.how,
                       allowed ? milliseconds(kAllowedWait) : milliseconds(kDeniedWait));
      };
      bool alone = !pods_.contains(probe.from);
      answers.push_back(std::async(alone ? std::launch::deferred : std::launch::async, ask));
      if (alone) answers.back().wait();
    }
    for (size_t i = 0; i < probes.size(); ++i) {
      EXPECT_EQ(answers[i].get(), allowed)
          << probes[i].from << " -> " << probes[i].to << " "
          << (probes[i].how == kTcp ? "TCP " : "UDP ") << probes[i].port;
    }
  }
  void Allowed(const std::vector<Probe>& probes) { ExpectAll(true, probes); }
  void Denied(const std::vector<Probe>& probes) { ExpectAll(false, probes); }

  const std::vector<net::IpPrefix> cluster_cidrs_{Prefix("10.201.0.0/16"), Prefix("fd00:201::/32")};
  std::unique_ptr<TestNode> node_, outside_;
  std::unique_ptr<test::PodNode> on_node_;
  cp::PolicyFeed feed_{{net::IpAddress::Parse(kDnsAddress).value()},
                       [](const std::string&, cp::FeedKind, const std::string&) {}};
  std::unique_ptr<PolicyEnforcer> enforcer_;
  std::unique_ptr<proxy::ServiceProxy> proxy_;
  std::map<std::string, Pod> pods_;
  std::vector<std::unique_ptr<EchoServer>> server_;
};

}  // namespace skiff::agent::policy
