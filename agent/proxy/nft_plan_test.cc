// The nftables mode's maps, and the proxy writing them to a model of the kernel.
#include "agent/proxy/nft_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>

#include "agent/proxy/proxy.h"
#include "agent/proxy/testing.h"
#include "base/net/fake_conntrack.h"
#include "base/net/fake_iptables.h"
#include "base/net/fake_nft.h"
#include "base/os/files.h"

namespace skiff::agent::proxy {
namespace {

using net::nft::Element;
using net::nft::Key;
using ::testing::Contains;
using testing::EndpointSpec;
using ::testing::IsEmpty;
using testing::MakeService;
using testing::MakeSlice;
using ::testing::Not;
using ::testing::SizeIs;

net::IpAddress Ip(std::string_view text) { return net::IpAddress::Parse(text).value(); }
const net::nft::Table kTable = NftTableOf(net::IpFamily::kV4);

class NftPlanTest : public ::testing::Test {
 protected:
  NftServicePlan Plan(const k8s::core::v1::Service& service,
                      const std::vector<EndpointSpec>& endpoints) {
    ServiceState state{.service = *TranslateService(service)};
    if (!endpoints.empty()) {
      state.endpoints =
          TranslateSlice(MakeSlice("web", endpoints, "TCP", "p80", 8080), Place{.node = "here"})
              ->endpoints;
    }
    return PlanNftService(context_, {"ns1", "web"}, &state);
  }
  static Path PathOf(const Element& element) { return PathOfFrontend(element.data); }
  static const Element& Only(const std::map<net::nft::Bytes, Element>& elements) {
    CHECK(elements.size() == 1);
    return elements.begin()->second;
  }
  PlanContext context_{.family = net::IpFamily::kV4,
                       .cluster_cidr = net::IpPrefix::Parse("10.244.0.0/16").value(),
                       .mark = "0x4000"};
};

TEST_F(NftPlanTest, AServiceIsElements) {
  auto service = MakeService("web", "10.96.0.1", "TCP", "p80", 80, 30080);
  NftServicePlan plan = Plan(service, {{"10.244.0.2", "here"}, {"10.244.0.3"}, {"10.244.0.3"}});
  const Element& vip = Only(plan.frontends);
  EXPECT_EQ(vip.key, Key().Add(Ip("10.96.0.1")).Protocol(6).Port(80).bytes());
  EXPECT_EQ(vip.comment, "ns1/web:p80 cluster IP");
  EXPECT_EQ(PathOf(vip).ChainName(), "cluster-ip-2");
  const Element& port = Only(plan.node_ports);
  EXPECT_EQ(port.key, Key().Protocol(6).Port(30080).bytes());
  EXPECT_EQ(PathOf(port).ChainName(), "external-2");
  auto identity = vip.data.substr(4, 8);
  EXPECT_EQ(identity, port.data.substr(4, 8));
  ASSERT_THAT(plan.endpoints, SizeIs(2));
  EXPECT_EQ(plan.endpoints.at(identity + Key().Mark(1).bytes()),
            Key().Add(Ip("10.244.0.3")).Port(8080).bytes());
  EXPECT_THAT(plan.hairpin, SizeIs(1)) << "of this node's endpoint";
  EXPECT_THAT(plan.members, IsEmpty());
  EXPECT_EQ(plan.elements(), 5u);
  EXPECT_THAT(Plan(service, {{"10.244.0.2", ""}}).hairpin, SizeIs(1)) << "it may be here";
  service.mutable_spec()->set_external_traffic_policy("Local");
  EXPECT_THAT(Plan(service, {{"10.244.0.2"}}).hairpin, SizeIs(1));
}

TEST_F(NftPlanTest, RefusalsAndPolicies) {
  auto service = MakeService("web", "10.96.0.1", "TCP", "p80", 80, 30080);
  EXPECT_EQ(PathOf(Only(Plan(service, {}).frontends)).kind, Path::Kind::kReject);
  EXPECT_EQ(PathOf(Only(Plan(service, {}).node_ports)).kind, Path::Kind::kReject);
  service.mutable_spec()->set_external_traffic_policy("Local");
  NftServicePlan far = Plan(service, {{"10.244.1.2"}});
  EXPECT_EQ(PathOf(Only(far.node_ports)).ChainName(), "external-local-1-0");
  NftServicePlan both = Plan(service, {{"10.244.1.2"}, {"10.244.0.2", "here"}});
  EXPECT_EQ(PathOf(Only(both.node_ports)).ChainName(), "external-local-2-1");
  EXPECT_EQ(PathOf(Only(both.frontends)).ChainName(), "cluster-ip-2");
  EXPECT_THAT(both.endpoints, SizeIs(3)) << "two for all, one of them for Local";
  service.mutable_spec()->set_internal_traffic_policy("Local");
  EXPECT_EQ(PathOf(Only(Plan(service, {{"10.244.1.2"}}).frontends)).kind, Path::Kind::kDrop);
  EXPECT_EQ(PathOf(Only(Plan(service, {{"10.244.0.2", "here"}}).frontends)).ChainName(),
            "cluster-ip-local-1");
}

TEST_F(NftPlanTest, AffinityAndSourceRanges) {
  auto service = MakeService("web", "10.96.0.1");
  service.mutable_spec()->set_type("LoadBalancer");
  service.mutable_spec()->set_session_affinity("ClientIP");
  service.mutable_spec()->add_load_balancer_source_ranges("192.0.2.0/24");
  service.mutable_spec()->add_load_balancer_source_ranges("2001:db8::/32");
  service.mutable_status()->mutable_load_balancer()->add_ingress()->set_ip("203.0.113.1");
  NftServicePlan plan = Plan(service, {{"10.244.0.2"}});
  ASSERT_THAT(plan.frontends, SizeIs(2));
  auto balanced = plan.frontends.at(Key().Add(Ip("203.0.113.1")).Protocol(6).Port(80).bytes());
  EXPECT_EQ(PathOf(balanced).ChainName(), "external-1-10800s-guarded");
  EXPECT_EQ(Path::FromBytes(PathOf(balanced).ToBytes()), PathOf(balanced));
  EXPECT_THAT(plan.members, SizeIs(1));
  EXPECT_THAT(plan.sticky_endpoints, SizeIs(1));
  EXPECT_THAT(plan.endpoints, IsEmpty());
  EXPECT_THAT(plan.allowed, SizeIs(1));
}

TEST_F(NftPlanTest, ChainsLeadToThoseBeforeThem) {
  Path path{.kind = Path::Kind::kExternalLocal,
            .guarded = true,
            .cluster_endpoints = 3,
            .local_endpoints = 1,
            .affinity_seconds = 60};
  for (net::IpFamily family : {net::IpFamily::kV4, net::IpFamily::kV6}) {
    context_.family = family;
    context_.cluster_cidr.reset();
    std::set<std::string> known{"source-ranges"};
    for (const ChainPlan& plan : ChainsOfPath(context_, path)) {
      for (const net::nft::Rule& rule : plan.rules) {
        for (const std::string& target : net::nft::ChainsOf(rule)) {
          EXPECT_TRUE(known.contains(target)) << target;
        }
      }
      known.insert(plan.chain.name);
    }
    EXPECT_THAT(known, Contains("external-local-3-1-60s-guarded"));
  }
}

TEST_F(NftPlanTest, NodePortsOnLoopbackAreForThisNodeAlone) {
  auto has_input = [this] {
    std::vector<ChainPlan> chains = BaseChains(context_);
    return std::any_of(chains.begin(), chains.end(),
                       [](const ChainPlan& plan) { return plan.chain.name == "input"; });
  };
  EXPECT_TRUE(has_input());
  context_.localhost_nodeports = false;
  EXPECT_FALSE(has_input());
  context_ = {.family = net::IpFamily::kV6, .mark = "0x4000", .localhost_nodeports = true};
  EXPECT_FALSE(has_input());
}

class NftProxyTest : public ::testing::Test {
 protected:
  void SetUp() override { Start(); }
  void Start(Mode mode = Mode::kNftables) {
    proxy_.reset();
    Config config{.mode = mode,
                  .node_name = "this-node",
                  .cluster_cidrs = {net::IpPrefix::Parse("10.0.0.0/8").value()},
                  .localhost_nodeports = false,
                  .health_ports = false};
    proxy_ = ServiceProxy::Start(config, {executor_, iptables_, conntrack_, &nft_}).value();
    nft_.TakeCommits();
  }
  void Settle() { executor_.Advance(std::chrono::seconds(2)); }
  // All was told.
  void SyncAndSettle() {
    proxy_->SyncDone();
    Settle();
  }
  std::vector<Element> Elements(ProxySet set) {
    return nft_.ListElements(kTable, DeclareSet(set, net::IpFamily::kV4).name).value();
  }
  // All that is in force.
  std::vector<std::vector<Element>> Everything() {
    std::vector<std::vector<Element>> all;
    for (ProxySet set : kAllProxySets) all.push_back(Elements(set));
    return all;
  }
  size_t Operations(const std::vector<std::vector<net::nft::Transaction>>& commits) {
    size_t elements = 0;
    for (const auto& commit : commits) {
      for (const auto& transaction : commit) {
        for (const auto& operation : transaction.operations()) {
          if (const auto* add = std::get_if<net::nft::op::AddElements>(&operation)) {
            elements += add->elements.size();
          } else if (const auto* gone = std::get_if<net::nft::op::DeleteElements>(&operation)) {
            elements += gone->elements.size();
          } else {
            ++elements;
          }
        }
      }
    }
    return elements;
  }

  ManualExecutor executor_;
  net::FakeNft nft_;
  net::FakeIptables iptables_;
  net::FakeConntrack conntrack_;
  std::unique_ptr<ServiceProxy> proxy_;
};

TEST_F(NftProxyTest, WritesNothingBeforeTheStateIsComplete) {
  proxy_->SetService(MakeService("svc1", "172.30.0.41"));
  Settle();
  EXPECT_FALSE(nft_.List(kTable).ok());
  SyncAndSettle();
  EXPECT_THAT(Elements(ProxySet::kFrontends), SizeIs(1));
  EXPECT_TRUE(proxy_->GetStatus().synced);
  EXPECT_EQ(proxy_->GetStatus().rules, 1u);
  EXPECT_TRUE(nft_.List(NftTableOf(net::IpFamily::kV6)).ok());
}

TEST_F(NftProxyTest, AChangeIsAFewElementsAndListsNothing) {
  for (int i = 0; i < 200; ++i) {
    std::string name = "svc" + std::to_string(i);
    proxy_->SetService(MakeService(name, "172.30.0." + std::to_string(i + 1)));
    proxy_->SetEndpointSlice(MakeSlice(name, {{"10.1.0." + std::to_string(i)}, {"10.1.1.1"}}));
  }
  SyncAndSettle();
  nft_.TakeCommits();
  int listings = nft_.listings();
  proxy_->SetEndpointSlice(MakeSlice("svc7", {{"10.1.0.7"}, {"10.1.1.1"}, {"10.1.0.77"}}));
  Settle();
  auto commits = nft_.TakeCommits();
  EXPECT_THAT(commits, SizeIs(1)) << "one transaction";
  EXPECT_LT(Operations(commits), 20u);
  EXPECT_EQ(nft_.listings(), listings);
  // The same again, where another service has three endpoints already: no chain is new.
  proxy_->SetEndpointSlice(MakeSlice("svc8", {{"10.1.0.8"}, {"10.1.1.1"}, {"10.1.0.88"}}));
  Settle();
  EXPECT_LT(Operations(nft_.TakeCommits()), 8u);
  EXPECT_EQ(proxy_->GetStatus().full_syncs, 1u);
  // Told the same again: nothing is written.
  proxy_->SetService(MakeService("svc1", "172.30.0.2"));
  Settle();
  EXPECT_THAT(nft_.TakeCommits(), IsEmpty());
}

TEST_F(NftProxyTest, IncrementalEqualsFull) {
  SyncAndSettle();
  for (int i = 0; i < 40; ++i) {
    std::string name = "svc" + std::to_string(i);
    auto service = MakeService(name, "172.30.1." + std::to_string(i), i % 3 ? "TCP" : "UDP", "p80",
                               80, i % 2 ? 30000 + i : 0);
    if (i % 5 == 0) service.mutable_spec()->set_session_affinity("ClientIP");
    if (i % 7 == 0) service.mutable_spec()->set_external_traffic_policy("Local");
    if (i % 4 == 0) {
      service.mutable_spec()->set_type("LoadBalancer");
      service.mutable_spec()->add_load_balancer_source_ranges("192.0.2.0/" +
                                                              std::to_string(24 + i % 3));
      auto& balancer = *service.mutable_status()->mutable_load_balancer();
      balancer.add_ingress()->set_ip("203.0.113." + std::to_string(i % 12));  // shared by some
    }
    proxy_->SetService(service);
    std::vector<EndpointSpec> endpoints{{"10.1.1.1"}};
    for (int e = 0; e < i % 4; ++e) endpoints.push_back({"10.1.0." + std::to_string(i + e)});
    if (i % 6 == 0) endpoints.front().node = "this-node";
    proxy_->SetEndpointSlice(MakeSlice(name, endpoints, i % 3 ? "TCP" : "UDP"));
    if (i % 4 == 0) Settle();
  }
  Settle();
  for (int i = 0; i < 30; ++i) {
    std::string name = "svc" + std::to_string(i);
    if (i % 2 == 0) proxy_->DeleteEndpointSlice("ns1", name + "-1");
    if (i % 3 == 0) proxy_->DeleteService("ns1", name);
    if (i % 6 == 0) Settle();
  }
  Settle();
  EXPECT_EQ(proxy_->GetStatus().full_syncs, 1u) << "no change was refused";
  auto incremental = Everything();
  auto sorted_rules = [this] {
    auto info = nft_.List(kTable).value();
    return std::pair(info.chains, info.rules);
  };
  auto rules = sorted_rules();
  nft_.FlushRuleset();
  executor_.Advance(std::chrono::minutes(1));
  EXPECT_EQ(proxy_->GetStatus().full_syncs, 2u);
  EXPECT_EQ(Everything(), incremental);
  EXPECT_EQ(sorted_rules(), rules);
  // And over what is there.
  Start();
  for (int i = 0; i < 40; ++i) proxy_->DeleteService("ns1", "svc" + std::to_string(i));
  SyncAndSettle();
  EXPECT_THAT(Elements(ProxySet::kFrontends), IsEmpty());
  EXPECT_THAT(Elements(ProxySet::kPaths), IsEmpty());
  size_t standing =
      BaseChains({.family = net::IpFamily::kV4, .mark = "0x4000", .localhost_nodeports = false})
          .size() +
      1;
  EXPECT_THAT(nft_.List(kTable)->chains, SizeIs(standing));
}

TEST_F(NftProxyTest, OneOfTwoThatAskForTheSameAddressHasIt) {
  auto owner = [this] { return Elements(ProxySet::kNodePorts).at(0).comment; };
  proxy_->SetService(MakeService("b", "172.30.0.2", "TCP", "p80", 80, 30080));
  SyncAndSettle();
  EXPECT_EQ(owner(), "ns1/b:p80 node port");
  proxy_->SetService(MakeService("a", "172.30.0.1", "TCP", "p80", 80, 30080));
  Settle();
  EXPECT_EQ(owner(), "ns1/a:p80 node port");
  proxy_->SetEndpointSlice(MakeSlice("b", {{"10.1.0.1"}}));
  Settle();
  EXPECT_EQ(owner(), "ns1/a:p80 node port");
  proxy_->DeleteService("ns1", "a");
  Settle();
  EXPECT_EQ(owner(), "ns1/b:p80 node port");
  EXPECT_EQ(PathOfFrontend(Elements(ProxySet::kNodePorts)[0].data).cluster_endpoints, 1);
  proxy_->DeleteService("ns1", "b");
  Settle();
  EXPECT_THAT(Elements(ProxySet::kNodePorts), IsEmpty());
  EXPECT_EQ(proxy_->GetStatus().full_syncs, 1u);
}

TEST_F(NftProxyTest, RepairsWhatOthersDo) {
  proxy_->SetService(MakeService("svc1", "172.30.0.1"));
  proxy_->SetEndpointSlice(MakeSlice("svc1", {{"10.180.0.1"}}));
  SyncAndSettle();
  auto before = Everything();
  auto commit = [this](net::nft::Transaction change) { EXPECT_TRUE(nft_.Commit(change).ok()); };
  nft_.FlushRuleset();
  executor_.Advance(std::chrono::seconds(35));
  EXPECT_EQ(Everything(), before);
  commit(net::nft::Transaction(kTable).FlushAllRules());
  executor_.Advance(std::chrono::seconds(35));
  EXPECT_THAT(nft_.Rules(kTable, "services"), SizeIs(2));
  // Other tables' flushes are no concern of ours.
  net::nft::Table other{net::nft::Family::kInet, "firewall"};
  commit(net::nft::Transaction(other).AddTable());
  commit(net::nft::Transaction(other).DeleteTable());
  uint64_t syncs = proxy_->GetStatus().full_syncs;
  executor_.Advance(std::chrono::seconds(35));
  EXPECT_EQ(proxy_->GetStatus().full_syncs, syncs);
  // An element that somebody took out makes its deletion fail, and a full write repairs it.
  commit(net::nft::Transaction(kTable).FlushSet("endpoints"));
  proxy_->DeleteEndpointSlice("ns1", "svc1-1");
  executor_.Advance(std::chrono::seconds(10));
  EXPECT_TRUE(proxy_->GetStatus().synced);
  EXPECT_EQ(PathOfFrontend(Elements(ProxySet::kFrontends)[0].data).kind, Path::Kind::kReject);
}

TEST_F(NftProxyTest, ClientsAreRememberedOverARestart) {
  auto tell = [this] {
    auto service = MakeService("svc1", "172.30.0.1");
    service.mutable_spec()->set_session_affinity("ClientIP");
    proxy_->SetService(service);
    proxy_->SetEndpointSlice(MakeSlice("svc1", {{"10.180.0.1"}, {"10.180.0.2"}}));
    SyncAndSettle();
  };
  tell();
  Element client{.key = Key().Mark(1).Mark(2).Add(Ip("10.9.9.9")),
                 .data = Key().Mark(0).Add(Ip("10.180.0.1")).Port(80),
                 .timeout = std::chrono::hours(3)};
  ASSERT_TRUE(nft_.Commit(net::nft::Transaction(kTable).AddElement(
                              DeclareSet(ProxySet::kAffinity, net::IpFamily::kV4), client))
                  .ok());
  auto before = Everything();
  Start();
  // A table of another version of ours.
  net::nft::Transaction odd(kTable);
  odd.AddChain({.name = "odd"}).AddRule({"odd", net::nft::Body().Decide({})});
  odd.AddSet({.name = "odd", .key = {net::nft::Type::kMark}});
  ASSERT_TRUE(nft_.Commit(odd).ok());
  tell();
  EXPECT_EQ(Everything(), before);
  EXPECT_THAT(nft_.List(kTable)->sets, SizeIs(kAllProxySets.size()));
}

TEST_F(NftProxyTest, RetriesWithEverythingAfterAFailure) {
  proxy_->SetService(MakeService("svc1", "172.30.0.1"));
  SyncAndSettle();
  nft_.FailNext(Error::Sys(ENOBUFS, "nftables"), 3);
  proxy_->SetService(MakeService("svc2", "172.30.0.2"));
  executor_.Advance(std::chrono::milliseconds(100));
  EXPECT_FALSE(proxy_->GetStatus().synced);
  executor_.Advance(std::chrono::seconds(10));
  EXPECT_TRUE(proxy_->GetStatus().synced);
  EXPECT_THAT(Elements(ProxySet::kFrontends), SizeIs(2));
  EXPECT_EQ(proxy_->GetStatus().services, 2u);
}

net::Flow UdpFlow(const std::string& destination, const std::string& answering, uint32_t id) {
  return {.protocol = net::kProtocolUdp,
          .original = {Ip("10.9.9.9"), Ip(destination), 5000, 53},
          .reply = {Ip(answering), Ip("10.9.9.9"), 53, 5000},
          .id = id};
}

TEST_F(NftProxyTest, ARestartFindsTheFlowsThatBecameStaleMeanwhile) {
  for (const char* name : {"dns", "gone"}) {
    proxy_->SetService(
        MakeService(name, name[0] == 'd' ? "172.30.0.10" : "172.30.0.20", "UDP", "dns", 53));
    proxy_->SetEndpointSlice(MakeSlice(name, {{"10.1.0.1"}}, "UDP", "dns", 53));
  }
  SyncAndSettle();
  net::Flow kept = UdpFlow("172.30.0.10", "10.1.0.1", 1);
  conntrack_.Add(kept);
  conntrack_.Add(UdpFlow("172.30.0.20", "10.1.0.1", 2));
  Start();
  proxy_->SetService(MakeService("dns", "172.30.0.10", "UDP", "dns", 53));
  proxy_->SetEndpointSlice(MakeSlice("dns", {{"10.1.0.1"}}, "UDP", "dns", 53));
  SyncAndSettle();
  EXPECT_THAT(conntrack_.flows(), ::testing::UnorderedElementsAre(kept));
}

TEST_F(NftProxyTest, AModeRemovesWhatTheOtherLeft) {
  auto tell = [this] {
    proxy_->SetService(MakeService("svc1", "172.30.0.1"));
    SyncAndSettle();
    EXPECT_TRUE(proxy_->GetStatus().synced);
  };
  Start(Mode::kIptables);
  tell();
  EXPECT_THAT(iptables_.Chains(net::IpFamily::kV4, "nat"), Not(IsEmpty()));
  Start(Mode::kNftables);
  EXPECT_THAT(iptables_.Chains(net::IpFamily::kV4, "nat"), Not(IsEmpty()))
      << "until the new rules are complete";
  tell();
  EXPECT_THAT(iptables_.Chains(net::IpFamily::kV4, "nat"), IsEmpty());
  Start(Mode::kIptables);
  nft_.FailNext(Error::Sys(EPERM, "nftables"));
  tell();
  EXPECT_TRUE(nft_.List(kTable).ok()) << "it could not, and goes on";
  executor_.Advance(std::chrono::seconds(35));
  EXPECT_FALSE(nft_.List(kTable).ok());
  Start(Mode::kNftables);
  tell();
  proxy_.reset();
  EXPECT_TRUE(RemoveAllRules(nft_).ok());
  EXPECT_FALSE(nft_.List(kTable).ok());
  EXPECT_TRUE(RemoveAllRules(nft_).ok());
}

TEST_F(NftProxyTest, SaysWhyItCannot) {
  nft_.FailNext(Error::Sys(EOPNOTSUPP, "nftables: add set"), 2);
  auto can = CheckNftables(nft_);
  ASSERT_FALSE(can.ok());
  EXPECT_EQ(can.error().code(), Code::kUnimplemented);
  EXPECT_TRUE(CheckNftables(nft_).ok());
  EXPECT_FALSE(nft_.List({net::nft::Family::kIp4, "skiff-proxy-probe"}).ok());
}

}  // namespace
}  // namespace skiff::agent::proxy
