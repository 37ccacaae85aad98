// Services of one and of two address families: what they get, how they change, what is refused
// (https://kubernetes.io/docs/concepts/services-networking/dual-stack/).
#include "control-plane/api/tests/api_fixture.h"

namespace skiff::cp {
namespace {

class ServiceFamiliesTest : public ApiFixture {
 protected:
  void Configure(std::vector<std::string> ranges) {
    options_.service_cidrs = std::move(ranges);
    options_.dns_addresses.clear();
    for (const std::string& range : options_.service_cidrs) {
      bool v6 = range.find(':') != range.npos;
      options_.dns_addresses.push_back(v6 ? "fd00:96::a" : "10.96.0.10");
    }
    Restart();
  }
  void Dual() { Configure({"10.96.0.0/16", "fd00:96::/108"}); }
  void Single() { Configure({"10.96.0.0/16"}); }

  static Json Service(const std::string& name, Json spec) {
    if (!spec.contains("ports")) spec["ports"] = {{{"port", 80}}};
    return {{"metadata", {{"name", name}}}, {"spec", std::move(spec)}};
  }
  // The spec as it is stored, or the messages why not.
  Json Create(const std::string& name, const Json& spec) {
    return SpecOf(Ask("POST", kServices, Service(name, spec)));
  }
  Json Replace(const std::string& name, const Json& spec) {
    return SpecOf(Ask("PUT", std::string(kServices) + "/" + name, Service(name, spec)));
  }
  Json PatchSpec(const std::string& name, const Json& spec) {
    return SpecOf(Patch(std::string(kServices) + "/" + name, "application/merge-patch+json",
                        Json{{"spec", spec}}.dump()));
  }
  static Json SpecOf(const Reply& reply) {
    Json body = reply.json();
    return reply.status < 300 ? body["spec"] : body["message"];
  }
  static void ExpectFamilies(const Json& spec, const char* policy,
                             std::vector<std::string> families) {
    ASSERT_TRUE(spec.is_object()) << spec;
    EXPECT_EQ(spec["ipFamilyPolicy"], policy);
    EXPECT_EQ(spec["ipFamilies"], families);
    if (spec["clusterIP"] == "None") return;
    ASSERT_EQ(spec["clusterIPs"].size(), families.size()) << spec;
    EXPECT_EQ(spec["clusterIP"], spec["clusterIPs"][0]);
    for (size_t i = 0; i < families.size(); ++i) {
      std::string address = spec["clusterIPs"][i];
      EXPECT_EQ(address.starts_with("fd00:96::"), families[i] == "IPv6") << spec;
    }
  }
  static void ExpectRefused(const Json& answer, const std::string& text) {
    ASSERT_TRUE(answer.is_string()) << answer;
    EXPECT_NE(answer.get<std::string>().find(text), std::string::npos) << answer;
  }
};

TEST_F(ServiceFamiliesTest, ThePolicySaysHowMany) {
  Dual();
  ExpectFamilies(Create("plain", {}), "SingleStack", {"IPv4"});
  ExpectFamilies(Create("six", {{"ipFamilies", {"IPv6"}}}), "SingleStack", {"IPv6"});
  ExpectFamilies(Create("prefer", {{"ipFamilyPolicy", "PreferDualStack"}}), "PreferDualStack",
                 {"IPv4", "IPv6"});
  ExpectFamilies(
      Create("require", {{"ipFamilyPolicy", "RequireDualStack"}, {"ipFamilies", {"IPv6"}}}),
      "RequireDualStack", {"IPv6", "IPv4"});
  ExpectFamilies(Create("headless", {{"clusterIP", "None"},
                                     {"selector", {{"a", "b"}}},
                                     {"ipFamilyPolicy", "PreferDualStack"}}),
                 "PreferDualStack", {"IPv4", "IPv6"});
  ExpectFamilies(Create("handmade", {{"clusterIP", "None"}}), "RequireDualStack", {"IPv4", "IPv6"});
  Json name = Create("name", {{"type", "ExternalName"}, {"externalName", "example.org"}});
  EXPECT_FALSE(name.contains("ipFamilies") || name.contains("ipFamilyPolicy")) << name;
}

TEST_F(ServiceFamiliesTest, AddressesSayWhichFamilies) {
  Dual();
  ExpectFamilies(Create("six", {{"clusterIP", "fd00:96::66"}}), "SingleStack", {"IPv6"});
  ExpectFamilies(Create("both", {{"ipFamilyPolicy", "PreferDualStack"},
                                 {"clusterIP", "fd00:96::77"},
                                 {"clusterIPs", {"fd00:96::77", "10.96.7.7"}}}),
                 "PreferDualStack", {"IPv6", "IPv4"});
  ExpectRefused(Create("taken", {{"clusterIP", "fd00:96::0:77"}}),
                "failed to allocate IP fd00:96::0:77: provided IP is already allocated");
  ExpectRefused(Create("outside", {{"clusterIP", "fd00:97::1"}}), "is not in the valid range");
}

TEST_F(ServiceFamiliesTest, AClusterOfOneFamilyHasNoOther) {
  Single();
  ExpectFamilies(Create("prefer", {{"ipFamilyPolicy", "PreferDualStack"}}), "PreferDualStack",
                 {"IPv4"});
  ExpectRefused(Create("require", {{"ipFamilyPolicy", "RequireDualStack"}}),
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not "
                "configured for dual-stack services");
  ExpectRefused(Create("six", {{"ipFamilies", {"IPv6"}}}),
                "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster");
  ExpectRefused(Create("six", {{"clusterIP", "fd00:96::66"}}),
                "spec.clusterIPs[0]: Invalid value: [\"fd00:96::66\"]: IPv6 is not configured on "
                "this cluster");
  ExpectFamilies(Create("handmade", {{"clusterIP", "None"}}), "RequireDualStack", {"IPv4", "IPv6"});
}

TEST_F(ServiceFamiliesTest, AnIpv6ClusterHasOnlyThat) {
  // The first start of a cluster says what its primary family is.
  api_.reset();
  store_ = MakeMemoryStore(store_pool_);
  options_.advertise_address = "fd00::6";
  Configure({"fd00:96::/108"});
  ExpectFamilies(Create("plain", {}), "SingleStack", {"IPv6"});
  ExpectRefused(Create("four", {{"ipFamilies", {"IPv4"}}}), "not configured on this cluster");
  ExpectFamilies(Create("handmade", {{"clusterIP", "None"}}), "RequireDualStack", {"IPv6", "IPv4"});
  Json kubernetes = Ask("GET", std::string(kServices) + "/kubernetes").json()["spec"];
  EXPECT_EQ(kubernetes["clusterIP"], "fd00:96::1");
  Json slice =
      Ask("GET", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes").json();
  EXPECT_EQ(slice["addressType"], "IPv6");
  EXPECT_EQ(slice["endpoints"][0]["addresses"][0], "fd00::6");
}

TEST_F(ServiceFamiliesTest, WhatContradictsItselfIsRefused) {
  Dual();
  ExpectRefused(Create("a", {{"ipFamilies", {"IPv4", "IPv6"}}}),
                "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are "
                "specified");
  ExpectRefused(
      Create("a", {{"clusterIP", "10.96.7.7"}, {"clusterIPs", {"10.96.7.7", "fd00:96::7"}}}),
      "must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are "
      "specified");
  ExpectRefused(Create("a", {{"clusterIPs", {"10.96.7.7"}}}),
                "must be empty when `clusterIP` is not specified");
  ExpectRefused(Create("a", {{"clusterIP", "10.96.7.7"}, {"clusterIPs", {"10.96.7.8"}}}),
                "first value must match `clusterIP`");
  ExpectRefused(Create("a", {{"ipFamilyPolicy", "PreferDualStack"},
                             {"clusterIP", "10.96.7.7"},
                             {"clusterIPs", {"10.96.7.7", "10.96.7.8"}}}),
                "may specify no more than one IP for each IP family");
  ExpectRefused(Create("a", {{"clusterIP", "10.96.7.7"}, {"ipFamilies", {"IPv6"}}}),
                "expected an IPv6 value as indicated by `ipFamilies[0]`");
  ExpectRefused(Create("a", {{"ipFamilies", {"IPv4", "IPv4"}}}), "Duplicate value: \"IPv4\"");
  ExpectRefused(Create("a", {{"ipFamilyPolicy", "Both"}}), "Unsupported value: \"Both\"");
  ExpectRefused(
      Create("a",
             {{"type", "ExternalName"}, {"externalName", "example.org"}, {"ipFamilies", {"IPv4"}}}),
      "spec.ipFamilies: Forbidden: may not be set when `type` is 'ExternalName'");
}

TEST_F(ServiceFamiliesTest, APolicyTakesAServiceUpAndDown) {
  Dual();
  Json before = Create("web", {});
  Json up = PatchSpec("web", {{"ipFamilyPolicy", "PreferDualStack"}});
  ExpectFamilies(up, "PreferDualStack", {"IPv4", "IPv6"});
  EXPECT_EQ(up["clusterIP"], before["clusterIP"]);
  // A manifest that says nothing of it changes nothing.
  EXPECT_EQ(Replace("web", {})["clusterIPs"], up["clusterIPs"]);
  // Leaving out an address or a family is no way to say it.
  ExpectRefused(PatchSpec("web", {{"clusterIPs", Json::array({up["clusterIPs"][0]})}}),
                "must be 'SingleStack' to release the secondary cluster IP");
  ExpectRefused(PatchSpec("web", {{"ipFamilies", {"IPv4"}}}),
                "must be 'SingleStack' to release the secondary IP family");
  Json down = PatchSpec("web", {{"ipFamilyPolicy", "SingleStack"}});
  ExpectFamilies(down, "SingleStack", {"IPv4"});
  EXPECT_EQ(down["clusterIP"], before["clusterIP"]);
  // What was given back is free.
  ExpectFamilies(Create("next", {{"clusterIP", up["clusterIPs"][1]}}), "SingleStack", {"IPv6"});
  ExpectRefused(PatchSpec("web", {{"clusterIP", "10.96.9.9"}}), "may not change once set");
  ExpectRefused(PatchSpec("web", {{"ipFamilies", {"IPv6"}}}), "expected an IPv6 value");
}

TEST_F(ServiceFamiliesTest, ATypeWithoutAddressesGivesThemBack) {
  Dual();
  Json before = Create("web", {{"ipFamilyPolicy", "RequireDualStack"}});
  Json name = PatchSpec("web", {{"type", "ExternalName"}, {"externalName", "example.org"}});
  EXPECT_FALSE(name.contains("clusterIPs") || name.contains("ipFamilies")) << name;
  EXPECT_FALSE(name.contains("ipFamilyPolicy")) << name;
  ExpectFamilies(Create("next", {{"clusterIP", before["clusterIPs"][1]}}), "SingleStack", {"IPv6"});
  Json back = PatchSpec("web", {{"type", "ClusterIP"}, {"externalName", nullptr}});
  ExpectFamilies(back, "SingleStack", {"IPv4"});
}

TEST_F(ServiceFamiliesTest, AClusterGetsASecondFamilyLater) {
  Single();
  Json plain = Create("plain", {});
  Json prefer = Create("prefer", {{"ipFamilyPolicy", "PreferDualStack"}});
  Dual();
  // Nothing changes by itself, nor by an update that asks for nothing.
  EXPECT_EQ(Replace("plain", {})["clusterIPs"], plain["clusterIPs"]);
  EXPECT_EQ(PatchSpec("prefer", {{"sessionAffinity", "ClientIP"}})["clusterIPs"],
            prefer["clusterIPs"]);
  Json up = PatchSpec("prefer", {{"ipFamilyPolicy", "RequireDualStack"}});
  ExpectFamilies(up, "RequireDualStack", {"IPv4", "IPv6"});
  // The cluster's own DNS answers in both.
  Json dns = Ask("GET", "/api/v1/namespaces/kube-system/services/kube-dns").json()["spec"];
  EXPECT_EQ(dns["clusterIPs"], Json::array({"10.96.0.10", "fd00:96::a"}));
  Json kubernetes = Ask("GET", std::string(kServices) + "/kubernetes").json()["spec"];
  ExpectFamilies(kubernetes, "SingleStack", {"IPv4"});
  // And back: what is there stays, what is new has one family.
  Single();
  dns = Ask("GET", "/api/v1/namespaces/kube-system/services/kube-dns").json()["spec"];
  EXPECT_EQ(dns["clusterIPs"], Json::array({"10.96.0.10"}));
  Json still = Ask("GET", std::string(kServices) + "/prefer").json()["spec"];
  EXPECT_EQ(still["clusterIPs"], up["clusterIPs"]);
  ExpectFamilies(Create("later", {{"ipFamilyPolicy", "PreferDualStack"}}), "PreferDualStack",
                 {"IPv4"});
}

}  // namespace
}  // namespace skiff::cp
