// Golden rules. Chain names are kube-proxy's own for these names (its tests and any cluster show
// them). Endpoints are on another node where nothing else is said.
#include "agent/proxy/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/proxy/testing.h"

namespace skiff::agent::proxy {
namespace {

using testing::EndpointSpec;
using testing::MakeService;
using testing::MakeSlice;

net::IpPrefix Prefix(std::string_view text) { return net::IpPrefix::Parse(text).value(); }

PlanContext Context(net::IpFamily family = net::IpFamily::kV4) {
  return {.family = family,
          .cluster_cidr = family == net::IpFamily::kV4 ? Prefix("10.0.0.0/8") : Prefix("fd00::/16"),
          .mark = "0x4000"};
}

// The rules as iptables-save shows them: "table -A CHAIN rule".
std::string Render(const PlanContext& context, const k8s::core::v1::Service& service,
                   const std::vector<k8s::discovery::v1::EndpointSlice>& slices) {
  auto translated = TranslateService(service);
  if (!translated) return "not proxied\n";
  ServiceState state{.service = *translated};
  for (const auto& slice : slices) {
    auto part = TranslateSlice(slice, {"this-node", "here"});
    if (!part) continue;
    for (const auto& [port, endpoints] : part->endpoints) {
      auto& all = state.endpoints[port];
      all.insert(all.end(), endpoints.begin(), endpoints.end());
    }
  }
  ServicePlan plan =
      PlanService(context, {service.metadata().namespace_(), service.metadata().name()}, &state);
  std::string text = "\n";
  for (SharedChain chain : kAllSharedChains) {
    for (const std::string& rule : plan.in(chain)) {
      text += (IsNat(chain) ? "" : "filter ") + std::string("-A ") +
              std::string(SharedChainName(chain)) + " " + rule + "\n";
    }
  }
  for (const auto& [name, rules] : plan.chains) {
    if (rules.empty()) text += ":" + name + "\n";
    for (const std::string& rule : rules) text += "-A " + name + " " + rule + "\n";
  }
  return text;
}

TEST(Plan, ChainNamesAreKubeProxys) {
  EXPECT_EQ(ServiceChain("KUBE-SVC-", "default/kubernetes:https", Transport::kTcp),
            "KUBE-SVC-NPX46M4PTMTKRN6Y");
  EXPECT_EQ(ServiceChain("KUBE-SVC-", "kube-system/kube-dns:dns", Transport::kUdp),
            "KUBE-SVC-TCOU7JCQXEZGVUNU");
  EXPECT_EQ(ServiceChain("KUBE-SVC-", "kube-system/kube-dns:dns-tcp", Transport::kTcp),
            "KUBE-SVC-ERIFXISQEP7F7OF4");
  EXPECT_EQ(EndpointChain("ns1/svc1:p80", Transport::kTcp,
                          {.address = net::IpAddress::V4(10, 180, 0, 1), .port = 80}),
            "KUBE-SEP-SXIVWICOYRO3J4NJ");
}

TEST(Plan, ClusterIp) {
  EXPECT_EQ(Render(Context(), MakeService("svc1", "172.30.0.41"),
                   {MakeSlice("svc1", {{"10.180.0.1"}, {"10.180.0.2"}, {"10.180.0.3"}})}),
            R"(
-A KUBE-SERVICES -d 172.30.0.41/32 -p tcp -m comment --comment "ns1/svc1:p80 cluster IP" -m tcp --dport 80 -j KUBE-SVC-XPGD46QRK7WJZT7O
-A KUBE-SVC-XPGD46QRK7WJZT7O ! -s 10.0.0.0/8 -d 172.30.0.41/32 -p tcp -m comment --comment "ns1/svc1:p80 cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
-A KUBE-SVC-XPGD46QRK7WJZT7O -p tcp -m comment --comment "ns1/svc1:p80 -> 10.180.0.1:80" -m statistic --mode random --probability 0.33333333333 -j DNAT --to-destination 10.180.0.1:80
-A KUBE-SVC-XPGD46QRK7WJZT7O -p tcp -m comment --comment "ns1/svc1:p80 -> 10.180.0.2:80" -m statistic --mode random --probability 0.50000000000 -j DNAT --to-destination 10.180.0.2:80
-A KUBE-SVC-XPGD46QRK7WJZT7O -p tcp -m comment --comment "ns1/svc1:p80 -> 10.180.0.3:80" -j DNAT --to-destination 10.180.0.3:80
)");
}

// What may reach itself by way of this node: its own pods, and endpoints made by hand, of which
// nobody says where they are.
TEST(Plan, EndpointsThatMayReachThemselvesHaveChains) {
  EXPECT_EQ(Render(Context(), MakeService("svc1", "172.30.0.41", "UDP"),
                   {MakeSlice("svc1", {{"10.180.0.1"}, {"10.180.0.2", "this-node"}}, "UDP"),
                    MakeSlice("svc1", {{"10.180.0.3", ""}}, "UDP", "p80", 80, "2")}),
            R"(
-A KUBE-SERVICES -d 172.30.0.41/32 -p udp -m comment --comment "ns1/svc1:p80 cluster IP" -m udp --dport 80 -j KUBE-SVC-OJWW7NSBVZTDHXNW
-A KUBE-SEP-DDIIKABLWMIVHFVJ -s 10.180.0.3/32 -m comment --comment "ns1/svc1:p80" -j KUBE-MARK-MASQ
-A KUBE-SEP-DDIIKABLWMIVHFVJ -p udp -m comment --comment "ns1/svc1:p80" -m udp -j DNAT --to-destination 10.180.0.3:80
-A KUBE-SEP-FKEZZZ47TJGP5J5J -s 10.180.0.2/32 -m comment --comment "ns1/svc1:p80" -j KUBE-MARK-MASQ
-A KUBE-SEP-FKEZZZ47TJGP5J5J -p udp -m comment --comment "ns1/svc1:p80" -m udp -j DNAT --to-destination 10.180.0.2:80
-A KUBE-SVC-OJWW7NSBVZTDHXNW ! -s 10.0.0.0/8 -d 172.30.0.41/32 -p udp -m comment --comment "ns1/svc1:p80 cluster IP" -m udp --dport 80 -j KUBE-MARK-MASQ
-A KUBE-SVC-OJWW7NSBVZTDHXNW -p udp -m comment --comment "ns1/svc1:p80 -> 10.180.0.1:80" -m statistic --mode random --probability 0.33333333333 -j DNAT --to-destination 10.180.0.1:80
-A KUBE-SVC-OJWW7NSBVZTDHXNW -m comment --comment "ns1/svc1:p80 -> 10.180.0.2:80" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-FKEZZZ47TJGP5J5J
-A KUBE-SVC-OJWW7NSBVZTDHXNW -m comment --comment "ns1/svc1:p80 -> 10.180.0.3:80" -j KUBE-SEP-DDIIKABLWMIVHFVJ
)");
}

TEST(Plan, NoEndpointsIsRefused) {
  auto service = MakeService("svc1", "172.30.0.41", "TCP", "p80", 80, 30080);
  service.mutable_spec()->add_external_ips("192.0.2.1");
  EXPECT_EQ(Render(Context(), service, {}), R"(
filter -A KUBE-SERVICES -d 172.30.0.41/32 -p tcp -m comment --comment "ns1/svc1:p80 has no endpoints" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable
filter -A KUBE-EXTERNAL-SERVICES -d 192.0.2.1/32 -p tcp -m comment --comment "ns1/svc1:p80 has no endpoints" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable
filter -A KUBE-EXTERNAL-SERVICES -p tcp -m comment --comment "ns1/svc1:p80 has no endpoints" -m addrtype --dst-type LOCAL -m tcp --dport 30080 -j REJECT --reject-with icmp-port-unreachable
)");
}

TEST(Plan, NodePortAndExternalAddresses) {
  auto service = MakeService("svc1", "172.30.0.41", "TCP", "p80", 80, 30080);
  service.mutable_spec()->set_type("LoadBalancer");
  service.mutable_spec()->add_external_ips("192.0.2.1");
  service.mutable_status()->mutable_load_balancer()->add_ingress()->set_ip("198.51.100.7");
  auto* proxied = service.mutable_status()->mutable_load_balancer()->add_ingress();
  proxied->set_ip("198.51.100.8");
  proxied->set_ip_mode("Proxy");
  EXPECT_EQ(Render(Context(), service, {MakeSlice("svc1", {{"10.180.0.1"}})}), R"(
-A KUBE-SERVICES -d 172.30.0.41/32 -p tcp -m comment --comment "ns1/svc1:p80 cluster IP" -m tcp --dport 80 -j KUBE-SVC-XPGD46QRK7WJZT7O
-A KUBE-SERVICES -d 192.0.2.1/32 -p tcp -m comment --comment "ns1/svc1:p80 external IP" -m tcp --dport 80 -j KUBE-EXT-XPGD46QRK7WJZT7O
-A KUBE-SERVICES -d 198.51.100.7/32 -p tcp -m comment --comment "ns1/svc1:p80 loadbalancer IP" -m tcp --dport 80 -j KUBE-EXT-XPGD46QRK7WJZT7O
-A KUBE-NODEPORTS -p tcp -m comment --comment "ns1/svc1:p80" -m tcp --dport 30080 -j KUBE-EXT-XPGD46QRK7WJZT7O
-A KUBE-EXT-XPGD46QRK7WJZT7O -m comment --comment "masquerade traffic for ns1/svc1:p80 external destinations" -j KUBE-MARK-MASQ
-A KUBE-EXT-XPGD46QRK7WJZT7O -j KUBE-SVC-XPGD46QRK7WJZT7O
-A KUBE-SVC-XPGD46QRK7WJZT7O ! -s 10.0.0.0/8 -d 172.30.0.41/32 -p tcp -m comment --comment "ns1/svc1:p80 cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
-A KUBE-SVC-XPGD46QRK7WJZT7O -p tcp -m comment --comment "ns1/svc1:p80 -> 10.180.0.1:80" -j DNAT --to-destination 10.180.0.1:80
)");
}

TEST(Plan, ExternalPolicyLocal) {
  auto service = MakeService("svc1", "172.30.0.41", "TCP", "p80", 80, 30080);
  service.mutable_spec()->set_external_traffic_policy("Local");
  EXPECT_EQ(Render(Context(), service,
                   {MakeSlice("svc1", {{"10.180.0.1"}, {"10.180.0.2", "this-node"}})}),
            R"(
-A KUBE-SERVICES -d 172.30.0.41/32 -p tcp -m comment --comment "ns1/svc1:p80 cluster IP" -m tcp --dport 80 -j KUBE-SVC-XPGD46QRK7WJZT7O
-A KUBE-NODEPORTS -p tcp -m comment --comment "ns1/svc1:p80" -m tcp --dport 30080 -j KUBE-EXT-XPGD46QRK7WJZT7O
-A KUBE-EXT-XPGD46QRK7WJZT7O -s 10.0.0.0/8 -m comment --comment "pod traffic for ns1/svc1:p80 external destinations" -j KUBE-SVC-XPGD46QRK7WJZT7O
-A KUBE-EXT-XPGD46QRK7WJZT7O -m comment --comment "masquerade LOCAL traffic for ns1/svc1:p80 external destinations" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ
-A KUBE-EXT-XPGD46QRK7WJZT7O -m comment --comment "route LOCAL traffic for ns1/svc1:p80 external destinations" -m addrtype --src-type LOCAL -j KUBE-SVC-XPGD46QRK7WJZT7O
-A KUBE-EXT-XPGD46QRK7WJZT7O -j KUBE-SVL-XPGD46QRK7WJZT7O
-A KUBE-SEP-LXVODXWDISEETFEF -s 10.180.0.2/32 -m comment --comment "ns1/svc1:p80" -j KUBE-MARK-MASQ
-A KUBE-SEP-LXVODXWDISEETFEF -p tcp -m comment --comment "ns1/svc1:p80" -m tcp -j DNAT --to-destination 10.180.0.2:80
-A KUBE-SEP-SXIVWICOYRO3J4NJ -s 10.180.0.1/32 -m comment --comment "ns1/svc1:p80" -j KUBE-MARK-MASQ
-A KUBE-SEP-SXIVWICOYRO3J4NJ -p tcp -m comment --comment "ns1/svc1:p80" -m tcp -j DNAT --to-destination 10.180.0.1:80
-A KUBE-SVC-XPGD46QRK7WJZT7O ! -s 10.0.0.0/8 -d 172.30.0.41/32 -p tcp -m comment --comment "ns1/svc1:p80 cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
-A KUBE-SVC-XPGD46QRK7WJZT7O -m comment --comment "ns1/svc1:p80 -> 10.180.0.1:80" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-SXIVWICOYRO3J4NJ
-A KUBE-SVC-XPGD46QRK7WJZT7O -m comment --comment "ns1/svc1:p80 -> 10.180.0.2:80" -j KUBE-SEP-LXVODXWDISEETFEF
-A KUBE-SVL-XPGD46QRK7WJZT7O -m comment --comment "ns1/svc1:p80 -> 10.180.0.2:80" -j KUBE-SEP-LXVODXWDISEETFEF
)");
}

TEST(Plan, LocalPoliciesWithoutLocalEndpointsDrop) {
  auto service = MakeService("svc1", "172.30.0.41", "TCP", "p80", 80, 30080);
  service.mutable_spec()->set_external_traffic_policy("Local");
  service.mutable_spec()->set_internal_traffic_policy("Local");
  std::string text = Render(Context(), service, {MakeSlice("svc1", {{"10.180.0.1"}})});
  EXPECT_THAT(text, ::testing::HasSubstr(R"(
filter -A KUBE-SERVICES -d 172.30.0.41/32 -p tcp -m comment --comment "ns1/svc1:p80 has no local endpoints" -m tcp --dport 80 -j DROP
filter -A KUBE-EXTERNAL-SERVICES -p tcp -m comment --comment "ns1/svc1:p80 has no local endpoints" -m addrtype --dst-type LOCAL -m tcp --dport 30080 -j DROP
)"));
  // Pods and the node still reach it from here, by its external ways.
  EXPECT_THAT(text, ::testing::HasSubstr(
                        "-m addrtype --src-type LOCAL -j KUBE-SVC-XPGD46QRK7WJZT7O\n-A KUBE-SEP"));
}

TEST(Plan, SessionAffinityAndMasqueradeAll) {
  auto service = MakeService("svc1", "172.30.0.41");
  service.mutable_spec()->set_session_affinity("ClientIP");
  PlanContext context = Context();
  context.masquerade_all = true;
  EXPECT_EQ(Render(context, service, {MakeSlice("svc1", {{"10.180.0.1"}})}), R"(
-A KUBE-SERVICES -d 172.30.0.41/32 -p tcp -m comment --comment "ns1/svc1:p80 cluster IP" -m tcp --dport 80 -j KUBE-SVC-XPGD46QRK7WJZT7O
-A KUBE-SEP-SXIVWICOYRO3J4NJ -p tcp -m comment --comment "ns1/svc1:p80" -m recent --set --name KUBE-SEP-SXIVWICOYRO3J4NJ --mask 255.255.255.255 --rsource -m tcp -j DNAT --to-destination 10.180.0.1:80
-A KUBE-SVC-XPGD46QRK7WJZT7O -d 172.30.0.41/32 -p tcp -m comment --comment "ns1/svc1:p80 cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
-A KUBE-SVC-XPGD46QRK7WJZT7O -m comment --comment "ns1/svc1:p80 -> 10.180.0.1:80" -m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-SXIVWICOYRO3J4NJ --mask 255.255.255.255 --rsource -j KUBE-SEP-SXIVWICOYRO3J4NJ
-A KUBE-SVC-XPGD46QRK7WJZT7O -m comment --comment "ns1/svc1:p80 -> 10.180.0.1:80" -j KUBE-SEP-SXIVWICOYRO3J4NJ
)");
}

TEST(Plan, LoadBalancerSourceRanges) {
  auto service = MakeService("svc1", "172.30.0.41", "TCP", "p80", 80, 30080);
  service.mutable_spec()->set_type("LoadBalancer");
  service.mutable_spec()->add_load_balancer_source_ranges(" 203.0.113.5/25 ");
  service.mutable_status()->mutable_load_balancer()->add_ingress()->set_ip("198.51.100.7");
  std::string text = Render(Context(), service, {MakeSlice("svc1", {{"10.180.0.1"}})});
  for (std::string_view rule :
       {"-A KUBE-SERVICES -d 198.51.100.7/32 -p tcp -m comment --comment \"ns1/svc1:p80 "
        "loadbalancer "
        "IP\" -m tcp --dport 80 -j KUBE-FW-XPGD46QRK7WJZT7O\n",
        "filter -A KUBE-PROXY-FIREWALL -d 198.51.100.7/32 -p tcp -m comment --comment "
        "\"ns1/svc1:p80 "
        "traffic not accepted by KUBE-FW-XPGD46QRK7WJZT7O\" -m tcp --dport 80 -j DROP\n",
        "-A KUBE-FW-XPGD46QRK7WJZT7O -s 203.0.113.0/25 -m comment --comment \"ns1/svc1:p80 "
        "loadbalancer IP\" -j KUBE-EXT-XPGD46QRK7WJZT7O\n"}) {
    EXPECT_THAT(text, ::testing::HasSubstr(rule));
  }
}

TEST(Plan, FamiliesAreSeparate) {
  auto service = MakeService("svc1", "172.30.0.41");
  service.mutable_spec()->add_cluster_ips("fd00:172::41");
  std::vector<k8s::discovery::v1::EndpointSlice> slices{
      MakeSlice("svc1", {{"10.180.0.1"}}),
      MakeSlice("svc1", {{"fd00:180::1"}}, "TCP", "p80", 80, "2")};
  std::string v4 = Render(Context(), service, slices);
  std::string v6 = Render(Context(net::IpFamily::kV6), service, slices);
  EXPECT_EQ(v4.find("fd00"), std::string::npos);
  EXPECT_EQ(v6.find("172.30"), std::string::npos);
  EXPECT_EQ(v6.find("10.180"), std::string::npos);
  EXPECT_THAT(v6, ::testing::HasSubstr("-d fd00:172::41/128 "));
  EXPECT_THAT(v6, ::testing::HasSubstr("--to-destination [fd00:180::1]:80\n"));
  EXPECT_THAT(v6, ::testing::HasSubstr("! -s fd00::/16 "));
}

TEST(Plan, WhatIsNotProxied) {
  auto service = MakeService("svc1", "None");
  EXPECT_EQ(Render(Context(), service, {}), "not proxied\n");
  service = MakeService("svc1", "");
  EXPECT_EQ(Render(Context(), service, {}), "not proxied\n");
  service = MakeService("svc1", "172.30.0.41");
  service.mutable_spec()->set_type("ExternalName");
  EXPECT_EQ(Render(Context(), service, {}), "not proxied\n");
  service = MakeService("svc1", "172.30.0.41");
  (*service.mutable_metadata()->mutable_labels())["service.kubernetes.io/service-proxy-name"] = "x";
  EXPECT_EQ(Render(Context(), service, {}), "not proxied\n");

  auto slice = MakeSlice("svc1", {{"10.180.0.1"}});
  EXPECT_TRUE(TranslateSlice(slice, {}).has_value());
  (*slice.mutable_metadata()->mutable_labels())["service.kubernetes.io/headless"] = "";
  EXPECT_FALSE(TranslateSlice(slice, {}).has_value());
  slice = MakeSlice("svc1", {{"10.180.0.1"}});
  slice.set_address_type("FQDN");
  EXPECT_FALSE(TranslateSlice(slice, {}).has_value());
  slice = MakeSlice("", {{"10.180.0.1"}});
  EXPECT_FALSE(TranslateSlice(slice, {}).has_value());
}

TEST(Plan, BadFieldsAreLeftOut) {
  auto service = MakeService("svc1", "172.30.0.41");
  service.mutable_spec()->add_external_ips("not an address");
  service.mutable_spec()->add_ports()->set_port(0);
  service.mutable_spec()->add_ports()->set_port(70000);
  auto translated = TranslateService(service);
  ASSERT_TRUE(translated.has_value());
  EXPECT_EQ(translated->ports.size(), 1u);
  EXPECT_TRUE(translated->external_ips.empty());
  auto slice = MakeSlice("svc1", {{"10.180.0.1"}, {"fd00::1"}, {"x"}});
  slice.add_endpoints();
  auto parsed = TranslateSlice(slice, {});
  EXPECT_EQ((parsed->endpoints.at({"p80", Transport::kTcp}).size()), 1u);
}

// address:ready/serving/terminating/local of each, as the letters r, s, t, l.
std::vector<Endpoint> Endpoints(const std::vector<std::string>& flags) {
  std::vector<Endpoint> endpoints;
  for (const std::string& some : flags) {
    auto has = [&](char c) { return some.find(c) != std::string::npos; };
    endpoints.push_back({.address = net::IpAddress::V4(10, 0, 0, 1).Plus(endpoints.size()),
                         .port = 80,
                         .local = has('l'),
                         .ready = has('r'),
                         .serving = has('s'),
                         .terminating = has('t'),
                         .zone_hint = has('Z')   ? Hint::kHere
                                      : has('z') ? Hint::kOthers
                                                 : Hint::kNone,
                         .node_hint = has('N')   ? Hint::kHere
                                      : has('n') ? Hint::kOthers
                                                 : Hint::kNone});
  }
  return endpoints;
}

std::string Names(const std::vector<Endpoint>& endpoints) {
  std::string names;
  for (const Endpoint& endpoint : endpoints) names += std::to_string(endpoint.address.bytes()[3]);
  return names;
}

TEST(Select, TerminatingOnesOnlyWithoutReadyOnes) {
  Service service;
  ServicePort port{.port = 80};
  EXPECT_EQ(Names(SelectEndpoints(service, port, Endpoints({"rs", "st", "s", ""})).reachable), "1");
  EXPECT_EQ(Names(SelectEndpoints(service, port, Endpoints({"t", "st", "s", ""})).reachable), "2");
  EXPECT_FALSE(SelectEndpoints(service, port, Endpoints({"t", "s", ""})).any);
}

TEST(Select, LocalPolicies) {
  Service service{.external_local = true};
  ServicePort port{.port = 80, .node_port = 30080};
  Selection both = SelectEndpoints(service, port, Endpoints({"rs", "rsl", "stl"}));
  EXPECT_EQ(Names(both.cluster), "12");
  EXPECT_EQ(Names(both.local), "2");
  // KEP-1669: the last local ones serve on while they terminate, though others are ready elsewhere.
  both = SelectEndpoints(service, port, Endpoints({"rs", "stl"}));
  EXPECT_EQ(Names(both.local), "2");
  EXPECT_EQ(Names(both.cluster), "1");
  EXPECT_EQ(Names(both.reachable), "12");

  service = {.internal_local = true};
  port = {.port = 80};
  both = SelectEndpoints(service, port, Endpoints({"rs"}));
  EXPECT_TRUE(both.any);
  EXPECT_TRUE(both.reachable.empty());
}

TEST(Select, TopologyHints) {
  ServicePort port{.port = 80, .node_port = 30080};
  auto cluster = [&](const std::vector<std::string>& flags) {
    return Names(SelectEndpoints({}, port, Endpoints(flags)).cluster);
  };
  EXPECT_EQ(cluster({"rsz", "rsZ", "rsZ"}), "23");
  EXPECT_EQ(cluster({"rsz", "rsz"}), "12") << "none for this zone";
  EXPECT_EQ(cluster({"rsz", "rsZ", "rs"}), "123") << "one has no hint";
  EXPECT_EQ(cluster({"rsz", "rsZ", "", "st"}), "2") << "those that are not ready need no hint";
  EXPECT_EQ(cluster({"rszn", "rsZn", "rsZN"}), "3") << "the node before the zone";
  EXPECT_EQ(cluster({"rszn", "rsZn"}), "2") << "without one on the node, the zone";
  EXPECT_EQ(cluster({"stz", "stZ"}), "12") << "terminating ones are taken wherever they are";
  // Local policies know no zones.
  Selection both = SelectEndpoints({.external_local = true}, port, Endpoints({"rslz", "rsZ"}));
  EXPECT_EQ(Names(both.local), "1");
  EXPECT_EQ(Names(both.cluster), "2");
  EXPECT_EQ(Names(both.reachable), "12");
}

TEST(Select, HintsNameThisNodeOrItsZone) {
  auto slice = MakeSlice("svc1", {{"10.0.0.1"}, {"10.0.0.2"}, {"10.0.0.3"}});
  slice.mutable_endpoints(0)->mutable_hints()->add_for_zones()->set_name("there");
  slice.mutable_endpoints(0)->mutable_hints()->add_for_zones()->set_name("here");
  slice.mutable_endpoints(1)->mutable_hints()->add_for_zones()->set_name("there");
  slice.mutable_endpoints(1)->mutable_hints()->add_for_nodes()->set_name("this-node");
  auto parsed = TranslateSlice(slice, {"this-node", "here"});
  const auto& found = parsed->endpoints.begin()->second;
  EXPECT_EQ(found[0].zone_hint, Hint::kHere);
  EXPECT_EQ(found[0].node_hint, Hint::kNone);
  EXPECT_EQ(found[1].zone_hint, Hint::kOthers);
  EXPECT_EQ(found[1].node_hint, Hint::kHere);
  EXPECT_EQ(found[2].zone_hint, Hint::kNone);
  // A node without a zone is in none, not in the one without a name.
  slice.mutable_endpoints(0)->mutable_hints()->mutable_for_zones(0)->set_name("");
  EXPECT_EQ(TranslateSlice(slice, {"this-node", ""})->endpoints.begin()->second[0].zone_hint,
            Hint::kOthers);
}

TEST(Select, OneAddressInTwoSlicesIsOneEndpoint) {
  std::vector<Endpoint> endpoints = Endpoints({"rs"});
  endpoints.push_back(endpoints[0]);
  endpoints[0].ready = false;
  Selection selection = SelectEndpoints({}, {.port = 80}, endpoints);
  ASSERT_EQ(selection.reachable.size(), 1u);
  EXPECT_TRUE(selection.reachable[0].ready);
}

}  // namespace
}  // namespace skiff::agent::proxy
