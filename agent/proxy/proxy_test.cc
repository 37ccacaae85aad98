// The proxy against model iptables and conntrack, in virtual time.
#include "agent/proxy/proxy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/proxy/flows.h"
#include "agent/proxy/plan.h"
#include "agent/proxy/rule_set.h"
#include "agent/proxy/testing.h"
#include "base/net/fake_conntrack.h"
#include "base/net/fake_iptables.h"
#include "base/os/files.h"

namespace skiff::agent::proxy {
namespace {

using testing::EndpointSpec;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::MakeService;
using testing::MakeSlice;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

constexpr net::IpFamily kV4 = net::IpFamily::kV4;

net::IpAddress Address(std::string_view text) { return net::IpAddress::Parse(text).value(); }

class ProxyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(MakeDirectories(proc_.path() + "/net/ipv4/conf/all").ok());
    ASSERT_TRUE(WriteFileAtomic(proc_.path() + "/net/ipv4/conf/all/route_localnet", "0\n").ok());
    Start();
  }
  void Start() {
    proxy_.reset();
    Config config{.node_name = "this-node",
                  .cluster_cidrs = {net::IpPrefix::Parse("10.0.0.0/8").value()},
                  .sysctl_root = proc_.path()};
    proxy_ = ServiceProxy::Start(config, {executor_, iptables_, conntrack_}).value();
  }
  void Settle() { executor_.Advance(std::chrono::seconds(2)); }
  // All was told.
  void SyncAndSettle() {
    proxy_->SyncDone();
    Settle();
  }
  std::string Save() {
    return iptables_.Save(kV4, "nat").value() + iptables_.Save(kV4, "filter").value();
  }
  std::vector<std::string> ServiceChains() {
    std::vector<std::string> chains = iptables_.Chains(kV4, "nat");
    std::erase_if(chains, [](const std::string& chain) { return !IsServiceChain(chain); });
    return chains;
  }

  TempDir proc_ = TempDir::Make().value();
  ManualExecutor executor_;
  net::FakeIptables iptables_;
  net::FakeConntrack conntrack_;
  std::unique_ptr<ServiceProxy> proxy_;
};

TEST_F(ProxyTest, WritesNothingBeforeTheStateIsComplete) {
  proxy_->SetService(MakeService("svc1", "172.30.0.41"));
  Settle();
  EXPECT_THAT(iptables_.Chains(kV4, "nat"), IsEmpty());
  bool synced = false;
  proxy_->WhenSynced([&] { synced = true; });
  Settle();
  EXPECT_FALSE(synced);
  SyncAndSettle();
  EXPECT_TRUE(synced);
  EXPECT_THAT(Save(), HasSubstr("has no endpoints"));
  EXPECT_EQ(ReadFile(proc_.path() + "/net/ipv4/conf/all/route_localnet").value(), "1\n");
  Status status = proxy_->GetStatus();
  EXPECT_TRUE(status.synced);
  EXPECT_EQ(status.services, 1u);
  EXPECT_EQ(status.full_syncs, 1u);
}

TEST_F(ProxyTest, AChangeWritesOnlyItsOwnChains) {
  for (int i = 0; i < 50; ++i) {
    std::string name = "svc" + std::to_string(i);
    proxy_->SetService(MakeService(name, "172.30.0." + std::to_string(i + 1)));
    proxy_->SetEndpointSlice(MakeSlice(name, {{"10.1.0." + std::to_string(i)}}));
  }
  SyncAndSettle();
  iptables_.TakePayloads();
  proxy_->SetEndpointSlice(MakeSlice("svc7", {{"10.1.0.7"}, {"10.1.0.77"}}));
  Settle();
  auto payloads = iptables_.TakePayloads();
  ASSERT_THAT(payloads, SizeIs(1));
  // The service's own chain: nothing of the others, no shared chain.
  EXPECT_THAT(payloads[0], Not(HasSubstr("svc8")));
  EXPECT_THAT(payloads[0], Not(HasSubstr("KUBE-SERVICES")));
  EXPECT_THAT(payloads[0], Not(HasSubstr("*filter")));
  EXPECT_THAT(payloads[0], HasSubstr("10.1.0.77:80"));
  EXPECT_EQ(proxy_->GetStatus().full_syncs, 1u);
}

TEST_F(ProxyTest, IncrementalEqualsFull) {
  // Whatever the way to a state, its rules are those that a fresh proxy writes for it.
  SyncAndSettle();
  for (int i = 0; i < 40; ++i) {
    std::string name = "svc" + std::to_string(i);
    auto service = MakeService(name, "172.30.1." + std::to_string(i), i % 3 ? "TCP" : "UDP", "p80",
                               80, i % 2 ? 30000 + i : 0);
    if (i % 5 == 0) service.mutable_spec()->set_session_affinity("ClientIP");
    if (i % 7 == 0) service.mutable_spec()->set_external_traffic_policy("Local");
    proxy_->SetService(service);
    proxy_->SetEndpointSlice(MakeSlice(
        name, {{"10.1.0." + std::to_string(i), i % 6 < 3 ? "this-node" : "other"}, {"10.1.1.1"}},
        i % 3 ? "TCP" : "UDP"));
    if (i % 4 == 0) Settle();
  }
  Settle();
  for (int i = 0; i < 30; ++i) {
    std::string name = "svc" + std::to_string(i);
    if (i % 2 == 0) {
      proxy_->DeleteEndpointSlice("ns1", name + "-1");
    } else {
      proxy_->SetEndpointSlice(MakeSlice(name, {{"10.1.1.1", "this-node"}}, i % 3 ? "TCP" : "UDP"));
    }
    if (i % 3 == 0) proxy_->DeleteService("ns1", name);
    if (i % 6 == 0) Settle();
  }
  Settle();
  auto sorted = [this] {
    // The order of services in shared chains is not part of the meaning.
    std::string text = Save();
    std::vector<std::string> lines;
    for (size_t at = 0; at < text.size();) {
      size_t end = text.find('\n', at);
      lines.push_back(text.substr(at, end - at));
      at = end + 1;
    }
    std::sort(lines.begin(), lines.end());
    return lines;
  };
  EXPECT_THAT(iptables_.Rules(kV4, "nat", "KUBE-SERVICES")->back(), HasSubstr("must be the last"));
  auto incremental = sorted();
  iptables_.Flush();
  executor_.Advance(std::chrono::minutes(1));
  EXPECT_EQ(sorted(), incremental);
  EXPECT_EQ(proxy_->GetStatus().full_syncs, 2u);
  EXPECT_EQ(proxy_->GetStatus().services, 30u);
}

TEST_F(ProxyTest, ChangesTogetherAreWrittenTogether) {
  SyncAndSettle();
  iptables_.TakePayloads();
  for (int i = 0; i < 20; ++i) {
    proxy_->SetService(MakeService("svc" + std::to_string(i), "172.30.0." + std::to_string(i + 1)));
    executor_.Advance(std::chrono::microseconds(50));
  }
  Settle();
  EXPECT_THAT(iptables_.TakePayloads(), SizeIs(1));
  // Told the same again: nothing is written.
  proxy_->SetService(MakeService("svc1", "172.30.0.2"));
  Settle();
  EXPECT_THAT(iptables_.TakePayloads(), IsEmpty());
}

TEST_F(ProxyTest, TrafficAlwaysMeetsARefusalOrATranslation) {
  proxy_->SetService(MakeService("svc1", "172.30.0.41"));
  proxy_->SetEndpointSlice(MakeSlice("svc1", {{"10.180.0.1"}}));
  SyncAndSettle();
  iptables_.TakePayloads();
  proxy_->DeleteEndpointSlice("ns1", "svc1-1");
  Settle();
  std::string losing = iptables_.TakePayloads().at(0);
  EXPECT_LT(losing.find("REJECT"), losing.find("*nat"));
  EXPECT_THAT(ServiceChains(), IsEmpty());
  proxy_->SetEndpointSlice(MakeSlice("svc1", {{"10.180.0.1"}}));
  Settle();
  std::string gaining = iptables_.TakePayloads().at(0);
  EXPECT_LT(gaining.find("*nat"), gaining.find("REJECT"));
}

TEST_F(ProxyTest, ARestartTakesOverAndCleansUp) {
  for (const char* name : {"svc1", "svc2"}) {
    proxy_->SetService(MakeService(name, name[3] == '1' ? "172.30.0.1" : "172.30.0.2"));
    proxy_->SetEndpointSlice(MakeSlice(name, {{"10.180.0.1"}}));
  }
  SyncAndSettle();
  std::string before = Save();
  size_t chains = ServiceChains().size();
  Start();
  Settle();
  EXPECT_EQ(Save(), before) << "the rules stay while the new run is learning";
  proxy_->BeginReplace();
  proxy_->SetService(MakeService("svc1", "172.30.0.1"));
  proxy_->SetEndpointSlice(MakeSlice("svc1", {{"10.180.0.1"}}));
  SyncAndSettle();
  EXPECT_EQ(ServiceChains().size(), chains / 2);
  EXPECT_THAT(Save(), Not(HasSubstr("svc2")));
  // Jumps are not doubled.
  EXPECT_THAT(*iptables_.Rules(kV4, "nat", "PREROUTING"), SizeIs(1));
}

TEST_F(ProxyTest, AReplaceForgetsWhatItDoesNotName) {
  proxy_->SetService(MakeService("svc1", "172.30.0.1"));
  proxy_->SetService(MakeService("svc2", "172.30.0.2"));
  proxy_->SetEndpointSlice(MakeSlice("svc2", {{"10.180.0.1"}}));
  SyncAndSettle();
  proxy_->BeginReplace();
  proxy_->SetService(MakeService("svc2", "172.30.0.2"));
  Settle();
  EXPECT_THAT(Save(), HasSubstr("svc1")) << "not before the listing is complete";
  SyncAndSettle();
  EXPECT_THAT(Save(), Not(HasSubstr("svc1")));
  EXPECT_THAT(Save(), HasSubstr("ns1/svc2:p80 has no endpoints"));
}

TEST_F(ProxyTest, ManyServicesGoInPieces) {
  constexpr int kMany = 3 * static_cast<int>(kServicesPerPayload) / 2;
  auto tell = [&](int from, int to) {
    for (int i = from; i < to; ++i) {
      std::string name = "svc" + std::to_string(i);
      std::string tail = std::to_string(i / 250) + "." + std::to_string(i % 250 + 1);
      proxy_->SetService(MakeService(name, "172.30." + tail));
      proxy_->SetEndpointSlice(MakeSlice(name, {{"10.1." + tail, "this-node"}}));
    }
  };
  tell(0, kMany);
  SyncAndSettle();
  EXPECT_EQ(ServiceChains().size(), 2u * kMany);
  EXPECT_THAT(iptables_.TakePayloads(), SizeIs(2 + 1 + 1)) << "pieces, the rest; IPv6";
  tell(kMany, 2 * kMany);
  Settle();
  EXPECT_THAT(iptables_.TakePayloads(), SizeIs(2));
  EXPECT_EQ(ServiceChains().size(), 4u * kMany);
  EXPECT_THAT(*iptables_.Rules(kV4, "nat", "KUBE-SERVICES"), SizeIs(2 * kMany + 1));

  // A write fails; what comes after makes up for it.
  proxy_->BeginReplace();
  tell(0, 1);
  iptables_.FailNext(Error(Code::kUnavailable, "lock"));
  proxy_->SyncDone();
  executor_.Advance(std::chrono::seconds(10));
  EXPECT_EQ(ServiceChains().size(), 2u);
  EXPECT_THAT(*iptables_.Rules(kV4, "nat", "KUBE-SERVICES"), SizeIs(2));
  EXPECT_EQ(proxy_->GetStatus().services, 1u);
}

TEST_F(ProxyTest, WritesAgainWhatOthersFlush) {
  proxy_->SetService(MakeService("svc1", "172.30.0.1"));
  SyncAndSettle();
  std::string before = Save();
  iptables_.Flush();
  executor_.Advance(std::chrono::seconds(35));
  EXPECT_EQ(Save(), before);
  // Emptied, but the chains are left.
  ASSERT_TRUE(iptables_.Restore(kV4, "*nat\n-F KUBE-POSTROUTING\nCOMMIT\n").ok());
  executor_.Advance(std::chrono::seconds(35));
  EXPECT_EQ(Save(), before);
}

TEST_F(ProxyTest, RetriesWithEverythingAfterAFailure) {
  proxy_->SetService(MakeService("svc1", "172.30.0.1"));
  SyncAndSettle();
  iptables_.FailNext(Error(Code::kUnavailable, "xtables lock"), 3);
  proxy_->SetService(MakeService("svc2", "172.30.0.2"));
  executor_.Advance(std::chrono::milliseconds(100));
  EXPECT_FALSE(proxy_->GetStatus().synced);
  ASSERT_TRUE(proxy_->GetStatus().last_error.has_value());
  EXPECT_THAT(proxy_->GetStatus().last_error->message(), HasSubstr("xtables lock"));
  executor_.Advance(std::chrono::seconds(10));
  EXPECT_TRUE(proxy_->GetStatus().synced);
  EXPECT_FALSE(proxy_->GetStatus().last_error.has_value());
  EXPECT_THAT(Save(), HasSubstr("svc2"));
  EXPECT_EQ(proxy_->GetStatus().services, 2u);
  // A rule that somebody took out makes "-D" fail, and a full write repairs it.
  std::string rule = iptables_.Rules(kV4, "filter", "KUBE-SERVICES")->front();
  ASSERT_TRUE(iptables_.Restore(kV4, "*filter\n-D KUBE-SERVICES " + rule + "\nCOMMIT\n").ok());
  proxy_->DeleteService("ns1", "svc1");
  proxy_->DeleteService("ns1", "svc2");
  executor_.Advance(std::chrono::seconds(10));
  EXPECT_TRUE(proxy_->GetStatus().synced);
  EXPECT_THAT(*iptables_.Rules(kV4, "filter", "KUBE-SERVICES"), IsEmpty());
}

TEST_F(ProxyTest, ACallbackMayEndTheProxy) {
  proxy_->SyncDone();
  proxy_->SetService(MakeService("svc1", "172.30.0.1"));
  bool called = false;
  proxy_->WhenSynced([&] {
    called = true;
    proxy_.reset();
  });
  Settle();
  EXPECT_TRUE(called);
  EXPECT_THAT(Save(), HasSubstr("svc1"));
  executor_.Advance(std::chrono::hours(2));
}

TEST_F(ProxyTest, MachinesWithoutIpv6) {
  iptables_.SetSupported(net::IpFamily::kV6, false);
  Start();
  proxy_->SetService(MakeService("svc1", "172.30.0.1"));
  SyncAndSettle();
  EXPECT_TRUE(proxy_->GetStatus().synced);
  EXPECT_THAT(iptables_.Chains(net::IpFamily::kV6, "nat"), IsEmpty());
}

net::Flow UdpFlow(const std::string& destination, uint16_t port, const std::string& answering,
                  uint16_t answering_port, uint32_t id) {
  return {.protocol = net::kProtocolUdp,
          .original = {Address("10.9.9.9"), Address(destination), 5000, port},
          .reply = {Address(answering), Address("10.9.9.9"), answering_port, 5000},
          .id = id};
}

TEST_F(ProxyTest, DeletesExactlyTheStaleUdpFlows) {
  proxy_->SetService(MakeService("dns", "172.30.0.10", "UDP", "dns", 53));
  proxy_->SetEndpointSlice(MakeSlice("dns", {{"10.1.0.1"}, {"10.1.0.2"}}, "UDP", "dns", 5353));
  proxy_->SetService(MakeService("web", "172.30.0.11", "TCP", "http", 53));
  SyncAndSettle();
  net::Flow kept = UdpFlow("172.30.0.10", 53, "10.1.0.1", 5353, 1);
  net::Flow stale = UdpFlow("172.30.0.10", 53, "10.1.0.2", 5353, 2);
  net::Flow other_service = UdpFlow("172.30.0.99", 53, "10.1.0.2", 5353, 3);
  net::Flow direct = UdpFlow("10.1.0.2", 5353, "10.1.0.2", 5353, 4);
  for (const net::Flow& flow : {kept, stale, other_service, direct}) conntrack_.Add(flow);
  int listings = conntrack_.listings();
  proxy_->SetEndpointSlice(
      MakeSlice("dns", {{"10.1.0.1"}, {"10.1.0.2"}, {"10.1.0.3"}}, "UDP", "dns", 5353));
  proxy_->SetEndpointSlice(MakeSlice("web", {{"10.1.0.1"}}, "TCP", "http", 80));
  Settle();
  EXPECT_EQ(conntrack_.listings(), listings) << "nothing can be stale when endpoints only join";
  proxy_->SetEndpointSlice(MakeSlice("dns", {{"10.1.0.1"}, {"10.1.0.3"}}, "UDP", "dns", 5353));
  Settle();
  EXPECT_THAT(conntrack_.flows(), UnorderedElementsAre(kept, other_service, direct));
  EXPECT_EQ(proxy_->GetStatus().stale_flows_deleted, 1u);
  proxy_->DeleteService("ns1", "dns");
  Settle();
  EXPECT_THAT(conntrack_.flows(), UnorderedElementsAre(other_service, direct));
}

TEST_F(ProxyTest, ARestartFindsTheFlowsThatBecameStaleMeanwhile) {
  proxy_->SetService(MakeService("dns", "172.30.0.10", "UDP", "dns", 53));
  proxy_->SetEndpointSlice(MakeSlice("dns", {{"10.1.0.1"}, {"10.1.0.2"}}, "UDP", "dns", 5353));
  proxy_->SetService(MakeService("gone", "172.30.0.20", "UDP", "dns", 53));
  proxy_->SetEndpointSlice(MakeSlice("gone", {{"10.1.0.3"}}, "UDP", "dns", 5353));
  SyncAndSettle();
  net::Flow kept = UdpFlow("172.30.0.10", 53, "10.1.0.1", 5353, 1);
  conntrack_.Add(kept);
  conntrack_.Add(UdpFlow("172.30.0.10", 53, "10.1.0.2", 5353, 2));
  conntrack_.Add(UdpFlow("172.30.0.20", 53, "10.1.0.3", 5353, 3));
  Start();
  proxy_->SetService(MakeService("dns", "172.30.0.10", "UDP", "dns", 53));
  proxy_->SetEndpointSlice(MakeSlice("dns", {{"10.1.0.1"}}, "UDP", "dns", 5353));
  SyncAndSettle();
  EXPECT_THAT(conntrack_.flows(), UnorderedElementsAre(kept));
}

TEST(UdpTargets, NodePortsOfOtherMachinesAreNotOurs) {
  auto translated = TranslateService(MakeService("dns", "172.30.0.10", "UDP", "dns", 53, 30053));
  ServiceState state{.service = *translated};
  UdpTargets targets;
  targets.AddCurrent(state);
  std::set<net::IpAddress> local{Address("192.0.2.1")};
  EXPECT_TRUE(targets.IsStale(UdpFlow("192.0.2.1", 30053, "10.1.0.1", 53, 1), local));
  EXPECT_FALSE(targets.IsStale(UdpFlow("192.0.2.2", 30053, "192.0.2.2", 30053, 1), local));
}

TEST_F(ProxyTest, RemoveAllRulesLeavesWhatIsNotOurs) {
  ASSERT_TRUE(iptables_
                  .Restore(kV4,
                           "*nat\n:KUBE-KUBELET-CANARY - [0:0]\n:DOCKER - [0:0]\n"
                           "-A PREROUTING -j DOCKER\nCOMMIT\n")
                  .ok());
  std::string before = Save();
  proxy_->SetService(MakeService("svc1", "172.30.0.1"));
  proxy_->SetEndpointSlice(MakeSlice("svc1", {{"10.180.0.1"}}));
  SyncAndSettle();
  proxy_.reset();
  EXPECT_NE(Save(), before) << "stopping leaves the rules";
  ASSERT_TRUE(RemoveAllRules(iptables_).ok());
  EXPECT_EQ(Save(), before);
  EXPECT_TRUE(RemoveAllRules(iptables_).ok());
}

}  // namespace
}  // namespace skiff::agent::proxy
