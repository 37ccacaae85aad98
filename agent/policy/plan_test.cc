// What the rules of policies let pass: packets walk through what the writer put into FakeNft.
#include "agent/policy/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/policy/members.h"
#include "agent/policy/packet_walk.h"
#include "agent/policy/rule_writer.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::agent::policy {
namespace {

namespace core = k8s::core::v1;
using net::IpAddress;
using net::nft::Hook;

const IpAddress kWeb = IpAddress::V4(10, 0, 0, 1);
const IpAddress kDb = IpAddress::V4(10, 0, 0, 2);
const IpAddress kClient = IpAddress::V4(10, 0, 1, 1);
const IpAddress kOther = IpAddress::V4(10, 0, 1, 2);

class PlanTest : public ::testing::Test {
 protected:
  PlanTest() {
    AddPod("web", kWeb, {{"http", 8080}});
    AddPod("db", kDb, {});
    pods[0].addresses.push_back(*IpAddress::Parse("fd00::1"));
    members.SetPart("CLIENTS.0", {{kClient, 0, 0}, {*IpAddress::Parse("fd00::9"), 0, 0}});
    members.SetPart("DB.0", {{kDb, 0, 0}});
    members.SetPart("SQL.0", {{kDb, 6, 5432}});
  }

  void AddPod(const std::string& name, const IpAddress& address,
              const std::map<std::string, int>& ports) {
    auto pod = std::make_shared<core::Pod>();
    pod->mutable_metadata()->set_namespace_("ns");
    pod->mutable_metadata()->set_name(name);
    (*pod->mutable_metadata()->mutable_labels())["app"] = name;
    core::Container& container = *pod->mutable_spec()->add_containers();
    for (const auto& [port_name, number] : ports) {
      core::ContainerPort& port = *container.add_ports();
      port.set_name(port_name);
      port.set_container_port(number);
    }
    pods.push_back({pod, {address}});
  }
  // Of the pods with app=NAME, or of all.
  Policy& AddPolicy(const std::string& name, const std::string& app) {
    Policy& policy = policies["ns/" + name];
    policy.name_space = "ns";
    policy.pods = codec::LabelSelector::Parse(app.empty() ? "" : "app=" + app).value();
    return policy;
  }
  Policy& AddIngress(const std::string& name, const std::string& app,
                     std::vector<AllowRule> rules = {}) {
    Policy& policy = AddPolicy(name, app);
    policy.isolates_ingress = true;
    policy.ingress = std::move(rules);
    return policy;
  }
  Policy& AddEgress(const std::string& name, const std::string& app,
                    std::vector<AllowRule> rules = {}) {
    Policy& policy = AddPolicy(name, app);
    policy.isolates_egress = true;
    policy.egress = std::move(rules);
    return policy;
  }

  void Write() {
    PlanInput input;
    input.policies = &policies;
    for (const LocalPod& pod : pods) input.pods.push_back(&pod);
    input.unknown_ingress = unknown;
    auto written =
        writer.Write({PlanTable(net::IpFamily::kV4, input), PlanTable(net::IpFamily::kV6, input)},
                     members, members.TakeTouched());
    ASSERT_TRUE(written.ok()) << written.error().message();
  }
  bool Passes(const Packet& packet, Hook hook = Hook::kForward) {
    return PacketWalk(nft, packet).Passes(hook);
  }
  bool Tcp(const IpAddress& from, const IpAddress& to, uint16_t port = 80) {
    return Passes({.source = from, .destination = to, .port = port});
  }

  Policies policies;
  std::vector<LocalPod> pods;
  std::set<IpAddress> unknown;
  MemberSets members;
  net::FakeNft nft;
  RuleWriter writer{nft};
};

AllowRule AllPorts(std::vector<std::string> sets) {
  return {.sets = std::move(sets), .any_port = true};
}

TEST_F(PlanTest, WithoutPoliciesThereIsNoTable) {
  Write();
  EXPECT_TRUE(nft.TakeCommits().empty());
  EXPECT_FALSE(nft.TableHandle(TableOf(net::IpFamily::kV4)).ok());
  AddIngress("deny", "web");
  Write();
  EXPECT_TRUE(nft.TableHandle(TableOf(net::IpFamily::kV4)).ok());
  policies.clear();
  Write();
  EXPECT_FALSE(nft.TableHandle(TableOf(net::IpFamily::kV4)).ok());
  EXPECT_FALSE(nft.TableHandle(TableOf(net::IpFamily::kV6)).ok());
}

TEST_F(PlanTest, IngressOfOnePod) {
  AddIngress("deny", "web");
  Write();
  EXPECT_FALSE(Tcp(kClient, kWeb));
  EXPECT_TRUE(Tcp(kClient, kDb)) << "another pod";
  EXPECT_TRUE(Tcp(kWeb, kClient)) << "the other direction";
  EXPECT_TRUE(Tcp(kWeb, kWeb)) << "to itself, by way of a service";
  EXPECT_TRUE(Passes({.source = kClient, .destination = kWeb, .established = true}));
  EXPECT_FALSE(Passes(
      {.source = *IpAddress::Parse("fd00::9"), .destination = *IpAddress::Parse("fd00::1")}));
  // What comes from the node itself passes neither hook; what goes there does.
  EXPECT_TRUE(Passes({.source = kWeb, .destination = IpAddress::V4(1, 1, 1, 1)}, Hook::kInput));
}

TEST_F(PlanTest, PeersAndBlocks) {
  AllowRule rule = AllPorts({"CLIENTS"});
  rule.ranges = RangesOf(
      {{*net::IpPrefix::Parse("192.168.0.0/16"), {*net::IpPrefix::Parse("192.168.5.0/24")}}});
  AddIngress("p", "web", {rule});
  Write();
  EXPECT_TRUE(Tcp(kClient, kWeb));
  EXPECT_FALSE(Tcp(kOther, kWeb));
  EXPECT_TRUE(Tcp(IpAddress::V4(192, 168, 4, 255), kWeb));
  EXPECT_FALSE(Tcp(IpAddress::V4(192, 168, 5, 0), kWeb));
  EXPECT_TRUE(Tcp(IpAddress::V4(192, 168, 6, 0), kWeb));
  EXPECT_TRUE(Passes(
      {.source = *IpAddress::Parse("fd00::9"), .destination = *IpAddress::Parse("fd00::1")}));
  EXPECT_FALSE(Passes(
      {.source = *IpAddress::Parse("fd00::8"), .destination = *IpAddress::Parse("fd00::1")}));
  // A protocol without ports goes where all ports go.
  EXPECT_TRUE(Passes({.source = kClient, .destination = kWeb, .protocol = 1}));
}

TEST_F(PlanTest, Ports) {
  AllowRule rule{.any_peer = true};
  rule.ports = {{6, 80, 80}, {6, 90, 95}, {17, 0, 65535}};
  rule.names = {{6, "http"}, {6, "nothing"}};
  AddIngress("p", "", {rule});
  Write();
  EXPECT_TRUE(Tcp(kClient, kWeb, 80));
  EXPECT_FALSE(Tcp(kClient, kWeb, 81));
  EXPECT_FALSE(Tcp(kClient, kWeb, 89));
  EXPECT_TRUE(Tcp(kClient, kWeb, 90));
  EXPECT_TRUE(Tcp(kClient, kWeb, 95));
  EXPECT_FALSE(Tcp(kClient, kWeb, 96));
  EXPECT_TRUE(Tcp(kClient, kWeb, 8080)) << "by name";
  EXPECT_FALSE(Tcp(kClient, kDb, 8080)) << "a pod without a port of that name";
  EXPECT_TRUE(Passes({.source = kClient, .destination = kDb, .protocol = 17, .port = 7}));
  EXPECT_FALSE(Passes({.source = kClient, .destination = kWeb, .protocol = 132, .port = 80}));
  EXPECT_FALSE(Passes({.source = kClient, .destination = kWeb, .protocol = 1}));
}

TEST_F(PlanTest, ManyPeersAndManyPorts) {
  AllowRule rule{.sets = {"CLIENTS", "DB"}};
  rule.ports = {{6, 80, 80}, {6, 443, 443}};
  AddIngress("p", "web", {rule});
  Write();
  for (uint16_t port : {80, 443}) {
    EXPECT_TRUE(Tcp(kClient, kWeb, port));
    EXPECT_TRUE(Tcp(kDb, kWeb, port));
    EXPECT_FALSE(Tcp(kOther, kWeb, port));
  }
  EXPECT_FALSE(Tcp(kClient, kWeb, 81));
}

TEST_F(PlanTest, PoliciesAddUp) {
  AddIngress("deny", "");
  AddIngress("clients", "web", {AllPorts({"CLIENTS"})});
  AllowRule port{.any_peer = true};
  port.ports = {{6, 443, 443}};
  AddIngress("port", "web", {port});
  Write();
  EXPECT_TRUE(Tcp(kClient, kWeb, 80));
  EXPECT_FALSE(Tcp(kOther, kWeb, 80));
  EXPECT_TRUE(Tcp(kOther, kWeb, 443));
  EXPECT_FALSE(Tcp(kClient, kDb));
}

TEST_F(PlanTest, EgressAndIngressBothHaveToAllow) {
  AddEgress("web", "web", {AllPorts({"DB"})});
  AddIngress("db", "db", {AllPorts({"CLIENTS"})});
  Write();
  EXPECT_FALSE(Tcp(kWeb, kDb)) << "db does not take it";
  EXPECT_TRUE(Tcp(kClient, kDb));
  EXPECT_FALSE(Tcp(kWeb, kOther)) << "web may not";
  EXPECT_TRUE(Tcp(kOther, kWeb));
  AddIngress("web-too", "db", {{.ranges = {{kWeb, kWeb}}, .any_port = true}});
  Write();
  EXPECT_TRUE(Tcp(kWeb, kDb));
}

TEST_F(PlanTest, EgressToTheNode) {
  AllowRule dns{.any_peer = true};
  dns.ports = {{17, 53, 53}};
  AddEgress("web", "web", {dns});
  Write();
  const IpAddress node = IpAddress::V4(10, 96, 0, 10);
  auto input = [&](Packet packet) { return Passes(packet, Hook::kInput); };
  EXPECT_TRUE(input({.source = kWeb, .destination = node, .protocol = 17, .port = 53}));
  EXPECT_FALSE(input({.source = kWeb, .destination = node, .protocol = 6, .port = 22}));
  EXPECT_TRUE(input({.source = kWeb, .destination = node, .port = 9, .established = true}));
  EXPECT_TRUE(input({.source = kDb, .destination = node, .port = 22}));
  Packet discovery{.source = *IpAddress::Parse("fd00::1"),
                   .destination = *IpAddress::Parse("ff02::1"),
                   .protocol = 58,
                   .icmp_type = 135};
  EXPECT_TRUE(input(discovery));
  discovery.icmp_type = 128;
  EXPECT_FALSE(input(discovery));
}

TEST_F(PlanTest, EgressToNamedPorts) {
  AllowRule rule{.sets = {"DB"}};
  rule.port_sets = {"SQL"};
  AddEgress("web", "web", {rule});
  Write();
  EXPECT_TRUE(Tcp(kWeb, kDb, 5432));
  EXPECT_FALSE(Tcp(kWeb, kDb, 5433)) << "no other port is allowed";
  EXPECT_FALSE(Passes({.source = kWeb, .destination = kDb, .protocol = 17, .port = 5432}));
}

TEST_F(PlanTest, ChangesAreAsSmallAsTheyAre) {
  AddIngress("p", "web", {AllPorts({"CLIENTS"})});
  Write();
  nft.TakeCommits();
  // A peer more: one element.
  members.SetPart("CLIENTS.1", {{kOther, 0, 0}});
  Write();
  EXPECT_EQ(writer.last_operations(), 1u);
  EXPECT_TRUE(Tcp(kOther, kWeb));
  members.SetPart("CLIENTS.1", {});
  Write();
  EXPECT_EQ(writer.last_operations(), 1u);
  EXPECT_FALSE(Tcp(kOther, kWeb));
  // A pod more with the same policies: two elements, of which one is "to itself".
  AddPod("web", IpAddress::V4(10, 0, 0, 3), {});
  Write();
  EXPECT_EQ(writer.last_operations(), 2u);
  EXPECT_FALSE(Tcp(kOther, IpAddress::V4(10, 0, 0, 3)));
  nft.TakeCommits();
  Write();
  EXPECT_TRUE(nft.TakeCommits().empty()) << "nothing changed";
  // A policy that says something else: its rules change, nothing else.
  policies["ns/p"].ingress[0].any_port = false;
  policies["ns/p"].ingress[0].ports = {{6, 81, 81}};
  Write();
  EXPECT_FALSE(Tcp(kClient, kWeb, 80));
  EXPECT_TRUE(Tcp(kClient, kWeb, 81));
  // And nothing of it is left when it goes.
  policies.erase("ns/p");
  AddIngress("deny", "web");
  Write();
  auto table = nft.List(TableOf(net::IpFamily::kV4));
  ASSERT_TRUE(table.ok());
  for (const net::nft::Set& set : table->sets) EXPECT_NE(set.name, "CLIENTS");
  EXPECT_FALSE(Tcp(kClient, kWeb, 81));
}

// Of two pods with the same address the later is the one that has it.
TEST_F(PlanTest, AnAddressHasOneOwner) {
  AddIngress("web", "web");
  AddIngress("db", "db", {AllPorts({"CLIENTS"})});
  AddPod("db", kWeb, {});
  Write();
  EXPECT_TRUE(Tcp(kClient, kWeb));
}

TEST_F(PlanTest, UnknownAddressesStayIsolated) {
  unknown = {kOther, kWeb};
  AddIngress("web", "web", {AllPorts({"CLIENTS"})});
  Write();
  EXPECT_FALSE(Tcp(kClient, kOther));
  EXPECT_TRUE(Tcp(kClient, kWeb)) << "known by now";
  unknown.clear();
  Write();
  EXPECT_TRUE(Tcp(kClient, kOther));
}

TEST_F(PlanTest, AFailedWriteIsFollowedByAWholeOne) {
  AddIngress("p", "web", {AllPorts({"CLIENTS"})});
  Write();
  nft.FailNext(Error(Code::kUnavailable, "busy"));
  members.SetPart("CLIENTS.1", {{kOther, 0, 0}});
  PlanInput input;
  input.policies = &policies;
  for (const LocalPod& pod : pods) input.pods.push_back(&pod);
  EXPECT_FALSE(
      writer
          .Write({PlanTable(net::IpFamily::kV4, input), PlanTable(net::IpFamily::kV6, input)},
                 members, members.TakeTouched())
          .ok());
  Write();
  EXPECT_TRUE(Tcp(kOther, kWeb));
  EXPECT_FALSE(Tcp(kDb, kWeb));
}

TEST_F(PlanTest, AFlushIsNoticed) {
  AddIngress("p", "web");
  Write();
  EXPECT_FALSE(writer.CheckForFlush());
  nft.FlushRuleset();
  EXPECT_TRUE(writer.CheckForFlush());
  Write();
  EXPECT_FALSE(Tcp(kClient, kWeb));
  EXPECT_FALSE(writer.CheckForFlush());
  // Emptied, but not deleted.
  net::nft::Transaction empty(TableOf(net::IpFamily::kV4));
  empty.FlushAllRules();
  ASSERT_TRUE(nft.Commit(empty).ok());
  EXPECT_TRUE(Tcp(kClient, kWeb));
  EXPECT_TRUE(writer.CheckForFlush());
  Write();
  EXPECT_FALSE(Tcp(kClient, kWeb));
  ASSERT_TRUE(RemovePolicyTables(nft).ok());
  ASSERT_TRUE(RemovePolicyTables(nft).ok()) << "twice";
  EXPECT_FALSE(nft.TableHandle(TableOf(net::IpFamily::kV4)).ok());
}

}  // namespace
}  // namespace skiff::agent::policy
