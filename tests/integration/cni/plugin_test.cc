// CNI plugins on the real kernel: our own (cni/plugin) and Debian's reference plugins, each run by
// our own runner (cni/runner) for pods of a node, with an outside machine beside it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <set>
#include <thread>
#include <tuple>

#include "base/net/rtnl.h"
#include "base/os/files.h"
#include "cni/runner/plugin_network.h"
#include "cni/spec/result.h"
#include "tests/support/needs.h"
#include "tests/support/netns.h"
#include "tests/support/traffic.h"

namespace skiff::cni {
namespace {

using test::AskFrom;
using test::EchoServer;
using test::TestNetns;
using test::TestNode;
using test::Transport;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kOwnPlugin = "skiff-cni";

// A chain and what it leaves of itself on a node without pods.
struct ChainCase {
  const char* name;
  const char* plugins;  // DIR stands for a folder of the test's
  const char* version;
  // Debian's portmap 1.1.1 fails at CHECK without IPv6 rules, and its bridge leaves rules where the
  // pod's interface is gone.
  bool checks = true;
  bool tidy = true;
};

const ChainCase kChains[] = {
    {"Skiff", R"([{"type": "skiff-cni", "bridge": "br0", "dataDir": "DIR",
       "podCidrs": ["10.201.1.0/24", "fd00:201:1::/64"], "capabilities": {"portMappings": true}}])",
     "1.1.0"},
    {"SkiffBeforePortmap",
     R"([{"type": "skiff-cni", "bridge": "br0", "dataDir": "DIR", "podCidrs": ["10.201.1.0/24"]},
       {"type": "portmap", "capabilities": {"portMappings": true}}])",
     "0.4.0", /*checks=*/false},
    {"Reference", R"([
       {"type": "bridge", "bridge": "br0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
        "ipam": {"type": "host-local", "dataDir": "DIR", "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
                 "ranges": [[{"subnet": "10.201.1.0/24"}], [{"subnet": "fd00:201:1::/64"}]]}},
       {"type": "portmap", "capabilities": {"portMappings": true}},
       {"type": "firewall"},
       {"type": "bandwidth", "ingressRate": 1000000000, "ingressBurst": 1000000000},
       {"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}}])",
     "1.0.0", /*checks=*/false, /*tidy=*/false},
};

class CniNodeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ::signal(SIGPIPE, SIG_IGN);  // as daemons do: not every plugin reads what it is given
    SKIFF_NEEDS(test::Need::kRoot, test::Need::kIptables, test::Need::kIpv6, test::Need::kConntrack,
                test::Need::kCniPlugins);
    std::tie(node_, outside_) = test::MakeNodeAndOutside();
    ASSERT_TRUE(MakeDirectories(work_.path() + "/net.d").ok());
  }

  void Configure(const std::string& plugins, const std::string& version,
                 const std::string& name = "net") {
    std::string text = plugins;
    for (size_t at; (at = text.find("DIR")) != std::string::npos;) {
      text.replace(at, 3, work_.path() + "/data");
    }
    ASSERT_TRUE(WriteFileAtomic(work_.path() + "/net.d/10-net.conflist",
                                R"({"cniVersion": ")" + version + R"(", "name": ")" + name +
                                    R"(", "plugins": )" + text + "}",
                                Durability::kNone)
                    .ok());
  }

  void Open(const std::string& boot = "") {
    node_->Run([&] {
      network_.reset();
      PluginNetworkConfig config;
      config.config_directory = work_.path() + "/net.d";
      config.programs.directories = {SKIFF_TEST_BINARY_DIR, "/usr/lib/cni"};
      config.state_dir = work_.path() + "/records";
      config.boot_id = boot;
      network_ = PluginNetwork::Open(std::move(config)).value();
      ASSERT_EQ(network_->Unready(), "");
    });
  }

  struct Pod {
    std::string id;
    std::unique_ptr<TestNetns> netns;
    Attachment attachment;
    std::string Address(net::IpFamily family) const {
      for (const PodAddress& address : attachment.addresses) {
        if (address.address.family() == family) return address.address.ToString();
      }
      return "";
    }
    std::string v4() const { return Address(net::IpFamily::kV4); }
    std::string v6() const { return Address(net::IpFamily::kV6); }
  };
  static AttachRequest RequestFor(const Pod& pod, std::vector<PortMapping> ports) {
    return {.sandbox_id = pod.id,
            .netns_path = pod.netns->path(),
            .pod_namespace = "default",
            .pod_name = "pod-" + pod.id,
            .pod_uid = "uid-" + pod.id,
            .ports = std::move(ports)};
  }
  Pod Attach(const std::string& id, std::vector<PortMapping> ports = {}) {
    Pod pod{.id = id, .netns = TestNetns::Make()};
    node_->Run([&] {
      auto attachment = network_->Attach(RequestFor(pod, std::move(ports)));
      ASSERT_TRUE(attachment.ok()) << attachment.error().ToString();
      pod.attachment = *attachment;
    });
    return pod;
  }
  void Detach(const std::string& id) {
    node_->Run([&] {
      auto detached = network_->Detach(id);
      EXPECT_TRUE(detached.ok()) << detached.error().ToString();
    });
  }
  void MakeWhatIsMadeOnce() {
    Detach(Attach("first", {{Protocol::kTcp, 8080, 80, {}}, {Protocol::kUdp, 5353, 53, {}}}).id);
  }
  Result<> Check(const std::string& id) {
    Result<> checked;
    node_->Run([&] { checked = network_->Check(id); });
    return checked;
  }

  // All that a pod may leave: rules, links, routes of the node, leases, records.
  std::string State() {
    const std::string folders = work_.path() + "/data " + work_.path() + "/records";
    return node_->Shell(
        "{ iptables-save; ip6tables-save; } | grep '^-A' | sort;"
        "ip -o link | sed 's/^[0-9]*: //;s/[:@].*//' | sort;"
        "{ ip route; ip -6 route; } | grep -v fe80 | sed 's/ linkdown//' | sort;"
        "find " +
        folders + " -type f ! -name 'last_reserved_ip.*' | sort");
  }

  // Runs our plugin as a runtime does.
  TestNode::Output Run(const std::string& command, const std::string& config,
                       const std::string& container = "", const TestNetns* netns = nullptr) {
    std::vector<std::string> argv = {"/usr/bin/env", "CNI_COMMAND=" + command,
                                     "CNI_CONTAINERID=" + container, "CNI_IFNAME=eth0"};
    if (netns != nullptr) argv.push_back("CNI_NETNS=" + netns->path());
    argv.push_back(std::string(SKIFF_TEST_BINARY_DIR) + "/" + kOwnPlugin);
    return node_->Program(argv, config);
  }
  std::string OwnConfig(const std::string& more, const std::string& name = "direct") const {
    return R"({"cniVersion": "1.1.0", "name": ")" + name +
           R"(", "type": "skiff-cni", "dataDir": ")" + work_.path() + R"(/data")" + more + "}";
  }
  static std::string AddressIn(const std::string& output) {
    auto result = ParseAddResult(ParseDocument(output).value(), kCni110);
    return result->ips.at(0).address.ToString();
  }

  TempDir work_ = TempDir::Make().value();
  std::unique_ptr<TestNode> node_, outside_;
  std::unique_ptr<PluginNetwork> network_;
};

class CniPluginTest : public CniNodeTest, public ::testing::WithParamInterface<ChainCase> {};

TEST_P(CniPluginTest, PodsAreOnTheNetworkAndLeaveNothing) {
  Configure(GetParam().plugins, GetParam().version);
  Open();
  MakeWhatIsMadeOnce();
  std::string before = State();
  Pod a = Attach("a");
  Pod b = Attach("b", {{Protocol::kTcp, 8080, 80, {}}, {Protocol::kUdp, 5353, 53, {}}});
  EchoServer tcp(b.netns->netns(), Transport::kTcp, net::IpPrefix::Parse("::/0")->first(), 80, "b");
  EchoServer udp(b.netns->netns(), Transport::kUdp, net::IpAddress(), 53, "b");
  EchoServer outside(outside_->netns(), Transport::kTcp, net::IpAddress(), 443, "outside");
  EXPECT_EQ(AskFrom(*a.netns, Transport::kTcp, b.v4(), 80).server, "b");
  if (!b.v6().empty()) {
    EXPECT_EQ(AskFrom(*a.netns, Transport::kTcp, b.v6(), 80).server, "b");
  }
  EXPECT_EQ(AskFrom(*node_, Transport::kTcp, b.v4(), 80).server, "b");
  EXPECT_EQ(AskFrom(*outside_, Transport::kTcp, "10.200.0.1", 8080).server, "b");
  EXPECT_EQ(AskFrom(*outside_, Transport::kUdp, "10.200.0.1", 5353).server, "b");
  auto masqueraded = AskFrom(*a.netns, Transport::kTcp, "10.200.0.2", 443);
  EXPECT_EQ(masqueraded.server, "outside");
  EXPECT_EQ(masqueraded.peer, "10.200.0.1");
  a.netns->Shell("ping -c1 -W2 127.0.0.1 > /dev/null || ip addr show lo | grep -q 'state UNKNOWN'");
  if (GetParam().checks) {
    Result<> checked = Check("b");
    EXPECT_TRUE(checked.ok()) << checked.error().ToString();
  }
  // A daemon that starts again finds its pods.
  Open();
  node_->Run([&] {
    EXPECT_TRUE(network_->Recover({"a", "b"}).ok());
    EXPECT_EQ(network_->Get("b")->addresses, b.attachment.addresses);
  });
  EXPECT_EQ(AskFrom(*outside_, Transport::kTcp, "10.200.0.1", 8080).server, "b");
  for (const char* id : {"a", "b", "b"}) Detach(id);
  EXPECT_EQ(State(), before);
}

TEST_P(CniPluginTest, WhatIsGoneAlreadyIsDetachedToo) {
  Configure(GetParam().plugins, GetParam().version);
  Open();
  MakeWhatIsMadeOnce();
  std::string before = State();
  {
    Pod a = Attach("a", {{Protocol::kTcp, 8080, 80, {}}});
    a.netns->Shell("ip link del eth0");
  }
  Detach("a");
  if (GetParam().tidy) {
    EXPECT_EQ(State(), before);
  }
}

TEST_P(CniPluginTest, AfterARebootAllAddressesAreFree) {
  Configure(GetParam().plugins, GetParam().version);
  Open("boot-1");
  std::vector<Pod> pods;
  for (const char* id : {"a", "b", "c"}) pods.push_back(Attach(id));
  EXPECT_FALSE(Check("none").ok());
  // The namespaces are gone, and with them the interfaces.
  pods.clear();
  Open("boot-2");
  node_->Run([&] {
    EXPECT_TRUE(network_->Recover({"a"}).ok());
    EXPECT_THAT(network_->Attached(), IsEmpty());
  });
  EXPECT_THAT(
      node_->Shell("find " + work_.path() + "/data -name '10.201.*' -o -name '*@eth0.json'"),
      IsEmpty());
}

TEST_P(CniPluginTest, ManyAtOnce) {
  Configure(GetParam().plugins, GetParam().version);
  Open();
  constexpr int kCount = 12;
  std::vector<Pod> pods(kCount);
  node_->Run([&] {
    std::vector<std::thread> threads;
    for (int i = 0; i < kCount; ++i) {
      pods[i] = {.id = "pod" + std::to_string(i), .netns = TestNetns::Make()};
      threads.emplace_back([this, &pod = pods[i], i] {
        auto port = static_cast<uint16_t>(9000 + i);
        auto attachment = network_->Attach(RequestFor(pod, {{Protocol::kTcp, port, 80, {}}}));
        EXPECT_TRUE(attachment.ok()) << attachment.error().ToString();
        if (attachment.ok()) pod.attachment = *attachment;
      });
    }
    for (std::thread& thread : threads) thread.join();
    std::set<std::string> addresses;
    for (const Pod& pod : pods) addresses.insert(pod.v4());
    EXPECT_EQ(addresses.size(), kCount);
    threads.clear();
    for (const Pod& pod : pods) {
      threads.emplace_back([this, &pod] { EXPECT_TRUE(network_->Detach(pod.id).ok()); });
    }
    for (std::thread& thread : threads) thread.join();
  });
  EXPECT_THAT(node_->Shell("find " + work_.path() + "/data -name '10.201.*' -o -name '*@eth0.*'"),
              IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Chains, CniPluginTest, ::testing::ValuesIn(kChains),
                         [](const auto& chain) { return std::string(chain.param.name); });

using OwnPluginTest = CniNodeTest;

TEST_F(OwnPluginTest, AddressesOfPodsThatWentWithoutDelAreFree) {
  // Five addresses.
  const std::string config = OwnConfig(R"(, "podCidrs": ["10.203.0.0/29"])");
  std::set<std::string> seen;
  for (int i = 0; i < 12; ++i) {
    auto pod = TestNetns::Make();
    auto added = Run("ADD", config, "c" + std::to_string(i), pod.get());
    ASSERT_EQ(added.code, 0) << added.text;
    seen.insert(AddressIn(added.text));
    pod.reset();
    // The kernel takes a namespace's links down in its own time; STATUS looks for a free address.
    while (node_->Shell("ip -o link | grep -c veth || true") != "0\n") std::this_thread::yield();
  }
  EXPECT_EQ(seen.size(), 5u);
  // Those of pods that live are not.
  std::vector<std::unique_ptr<TestNetns>> live;
  for (int i = 0; i < 5; ++i) {
    live.push_back(TestNetns::Make());
    auto added = Run("ADD", config, "live" + std::to_string(i), live.back().get());
    ASSERT_EQ(added.code, 0) << added.text;
  }
  live.push_back(TestNetns::Make());
  auto refused = Run("ADD", config, "more", live.back().get());
  EXPECT_EQ(refused.code, 1);
  EXPECT_EQ(ParsePluginError(refused.text)->code, 102u) << refused.text;
  auto status = Run("STATUS", config);
  EXPECT_EQ(ParsePluginError(status.text)->code, 50u) << status.text;
  // GC keeps what is named.
  const std::string valid =
      R"(, "podCidrs": ["10.203.0.0/29"], "cni.dev/valid-attachments": [{"containerID": "live0", "ifname": "eth0"}])";
  auto collected = Run("GC", OwnConfig(valid));
  EXPECT_EQ(collected.code, 0) << collected.text;
  EXPECT_EQ(node_->Shell("ls " + work_.path() + "/data/direct/leases/*"), "live0@eth0.json\n");
  EXPECT_EQ(node_->Shell("ip -o link | grep -c veth"), "1\n");
  EXPECT_EQ(Run("STATUS", config).code, 0);
}

TEST_F(OwnPluginTest, AnswersAsTheSpecificationSays) {
  const std::string ranges = R"(, "podCidrs": ["10.203.0.0/24"], "dns": {"domain": "x.example"})";
  auto pod = TestNetns::Make();
  auto added = Run("ADD", OwnConfig(ranges), "a", pod.get());
  ASSERT_EQ(added.code, 0) << added.text;
  const AddResult result = ParseAddResult(ParseDocument(added.text).value(), kCni110).value();
  ASSERT_EQ(result.interfaces.size(), 3u);
  EXPECT_EQ(result.interfaces[0].sandbox, "");
  EXPECT_EQ(result.interfaces[2].name, "eth0");
  EXPECT_EQ(result.interfaces[2].sandbox, pod->path());
  EXPECT_EQ(result.interfaces[2].mtu, 1500u);
  EXPECT_THAT(pod->Shell("ip link show eth0"), HasSubstr(result.interfaces[2].mac));
  EXPECT_EQ(result.ips[0].interface, 2u);
  EXPECT_EQ(result.dns.domain, "x.example");
  // An interface that is there already is an error.
  EXPECT_EQ(ParsePluginError(Run("ADD", OwnConfig(ranges), "a", pod.get()).text)->code, 101u);

  const std::string previous = ranges + R"(, "prevResult": )" + added.text;
  EXPECT_EQ(Run("CHECK", OwnConfig(previous), "a", pod.get()).code, 0);
  EXPECT_EQ(ParsePluginError(Run("CHECK", OwnConfig(ranges), "a", pod.get()).text)->code, 7u);
  node_->Shell("iptables -t nat -F POSTROUTING");
  EXPECT_THAT(Run("CHECK", OwnConfig(previous), "a", pod.get()).text, HasSubstr("rules are gone"));
  // The next pod has them put back.
  auto other = TestNetns::Make();
  EXPECT_EQ(Run("ADD", OwnConfig(ranges), "b", other.get()).code, 0);
  EXPECT_EQ(Run("CHECK", OwnConfig(previous), "a", pod.get()).code, 0);
  pod->Shell("ip link del eth0");
  EXPECT_THAT(Run("CHECK", OwnConfig(previous), "a", pod.get()).text, HasSubstr("is gone"));
  for (const char* id : {"a", "a", "b", "never"}) {
    auto deleted = Run("DEL", OwnConfig(ranges), id);
    EXPECT_EQ(deleted.code, 0) << deleted.text;
    EXPECT_EQ(deleted.text, "");
  }
  EXPECT_EQ(ParsePluginError(Run("ADD", "{", "a", pod.get()).text)->code, 6u);
}

TEST_F(OwnPluginTest, CapabilitiesAndConflicts) {
  auto with = [&](const std::string& runtime) {
    return OwnConfig(R"(, "podCidrs": ["10.203.0.0/24"], "runtimeConfig": )" + runtime);
  };
  auto a = TestNetns::Make(), b = TestNetns::Make();
  auto added = Run("ADD", with(R"({"ips": ["10.203.0.77/24"], "mac": "0a:00:00:00:00:07",
      "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]})"),
                   "a", a.get());
  ASSERT_EQ(added.code, 0) << added.text;
  EXPECT_EQ(AddressIn(added.text), "10.203.0.77");
  EXPECT_THAT(a->Shell("ip link show eth0"), HasSubstr("0a:00:00:00:00:07"));
  for (const char* taken : {R"({"ips": ["10.203.0.77"]})",
                            R"({"portMappings": [{"hostPort": 8080, "containerPort": 1}]})"}) {
    auto refused = Run("ADD", with(taken), "b", b.get());
    EXPECT_EQ(ParsePluginError(refused.text)->code, 101u) << refused.text;
    EXPECT_THAT(refused.text, HasSubstr("belongs to"));
  }
  EXPECT_EQ(ParsePluginError(Run("ADD", with(R"({"ips": ["10.9.9.9"]})"), "b", b.get()).text)->code,
            7u);
  EXPECT_EQ(Run("ADD", with("{}"), "b", b.get()).code, 0);
}

TEST_F(OwnPluginTest, NetworksSideBySideLeaveEachOtherAlone) {
  auto a = TestNetns::Make(), b = TestNetns::Make();
  auto port = [](const char* range, int host_port) {
    return R"(, "podCidrs": [")" + std::string(range) +
           R"("], "runtimeConfig": {"portMappings": [{"containerPort": 80, "hostPort": )" +
           std::to_string(host_port) + "}]}";
  };
  auto one = Run("ADD", OwnConfig(port("10.203.0.0/24", 8081), "one"), "a", a.get());
  auto two = Run("ADD", OwnConfig(port("10.204.0.0/24", 8082), "two"), "b", b.get());
  ASSERT_EQ(one.code, 0) << one.text;
  ASSERT_EQ(two.code, 0) << two.text;
  EchoServer in_a(a->netns(), Transport::kTcp, net::IpAddress(), 80, "a");
  EchoServer in_b(b->netns(), Transport::kTcp, net::IpAddress(), 80, "b");
  auto ask_both = [&] {
    return AskFrom(*outside_, Transport::kTcp, "10.200.0.1", 8081).server + " " +
           AskFrom(*outside_, Transport::kTcp, "10.200.0.1", 8082).server;
  };
  EXPECT_EQ(ask_both(), "a b");
  EXPECT_EQ(AskFrom(*a, Transport::kTcp, AddressIn(two.text), 80).server, "b");
  EXPECT_EQ(Run("DEL", OwnConfig(R"(, "podCidrs": ["10.204.0.0/24"])", "two"), "b").code, 0);
  EXPECT_EQ(ask_both(), "a ");
  // One bridge cannot be that of two.
  const std::string bridge = node_->Shell(
      "ip -o link show type bridge | head -1 | sed 's/^[0-9]*: //;s/:.*//' | tr -d '\\n'");
  auto refused = Run(
      "ADD", OwnConfig(R"(, "podCidrs": ["10.205.0.0/24"], "bridge": ")" + bridge + "\"", "three"),
      "c", b.get());
  EXPECT_EQ(ParsePluginError(refused.text)->code, 7u) << refused.text;
}

}  // namespace
}  // namespace skiff::cni
