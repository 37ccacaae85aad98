#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cni/spec/config.h"
#include "cni/spec/document.h"
#include "cni/spec/error.h"
#include "cni/spec/result.h"
#include "cni/spec/version.h"

namespace skiff::cni {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string TroubleOf(std::string_view configuration) {
  auto parsed = ParseNetworkConfig(configuration);
  return parsed.ok() ? "" : parsed.error().message();
}

AddResult ReadResult(std::string_view text, const CniVersion& version = kCni100) {
  return ParseAddResult(ParseDocument(text).value(), version).value();
}

// SPEC.md, "Example configuration".
constexpr std::string_view kList = R"({
  "cniVersion": "1.1.0", "cniVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0", "9.0.0"],
  "name": "dbnet", "disableCheck": true,
  "plugins": [
    {"type": "bridge", "bridge": "cni0", "keyA": ["some more"], "ipam": {"type": "host-local"}},
    {"type": "tuning", "capabilities": {"mac": true, "ips": false}, "sysctl": {"a": "500"}},
    {"type": "portmap", "capabilities": {"portMappings": true}}]})";

TEST(CniVersionTest, ReadsAndOrders) {
  EXPECT_EQ(ParseCniVersion("0.3.1").value(), kCni031);
  EXPECT_LT(kCni040, kCni100);
  EXPECT_EQ(ToString(kCni110), "1.1.0");
  for (const char* text : {"", "1", "1.0", "1.0.0.0", "1.0.0-rc1", "a.b.c", "-1.0.0", "1..0",
                           "99999999999.0.0", " 1.0.0"}) {
    EXPECT_FALSE(ParseCniVersion(text).ok()) << text;
  }
}

TEST(NetworkConfigTest, AList) {
  NetworkConfig network = ParseNetworkConfig(kList).value();
  EXPECT_EQ(network.name, "dbnet");
  EXPECT_THAT(network.versions, ElementsAre(kCni031, kCni040, kCni100, kCni110));
  EXPECT_TRUE(network.disable_check);
  EXPECT_FALSE(network.disable_gc);
  ASSERT_EQ(network.plugins.size(), 3u);
  EXPECT_THAT(network.plugins[1].capabilities, ElementsAre("mac"));
  EXPECT_TRUE(network.Wants("portMappings"));
  EXPECT_FALSE(network.Wants("ips"));
  // What is kept in a record says the same.
  NetworkConfig again = ParseNetworkConfig(RenderNetworkConfig(network).dump()).value();
  EXPECT_EQ(RenderNetworkConfig(again), RenderNetworkConfig(network));
}

TEST(NetworkConfigTest, OnePlugin) {
  NetworkConfig network =
      ParseNetworkConfig(R"({"name": "old", "type": "bridge", "isGateway": true})").value();
  EXPECT_THAT(network.versions, ElementsAre(kCni010));
  ASSERT_EQ(network.plugins.size(), 1u);
  EXPECT_EQ(network.plugins[0].type, "bridge");
}

TEST(NetworkConfigTest, SaysWhatIsWrong) {
  EXPECT_THAT(TroubleOf(""), HasSubstr("no JSON"));
  EXPECT_THAT(TroubleOf("[]"), HasSubstr("no JSON object"));
  EXPECT_THAT(TroubleOf("{}"), HasSubstr("\"name\""));
  EXPECT_THAT(TroubleOf(R"({"name": "../x", "type": "a"})"), HasSubstr("\"name\""));
  EXPECT_THAT(TroubleOf(R"({"name": "x"})"), HasSubstr("\"type\""));
  EXPECT_THAT(TroubleOf(R"({"name": "x", "type": "../sh"})"), HasSubstr("no name of a program"));
  EXPECT_THAT(TroubleOf(R"({"name": "x", "plugins": [3]})"), HasSubstr("no object"));
  EXPECT_THAT(TroubleOf(R"({"name": "x", "plugins": {}})"), HasSubstr("not a list"));
  EXPECT_THAT(TroubleOf(R"({"name": "x", "type": "a", "cniVersion": "2.0.0"})"),
              HasSubstr("2.0.0 is none of those known here"));
  EXPECT_THAT(TroubleOf(R"({"name": 3, "type": "a"})"), HasSubstr("\"name\" is not a string"));
  std::string deep =
      R"({"name": "x", "type": "a", "x": )" + std::string(100, '[') + std::string(100, ']') + "}";
  EXPECT_THAT(TroubleOf(deep), HasSubstr("nested too deep"));
  EXPECT_THAT(TroubleOf(std::string(2 << 20, ' ')), HasSubstr("larger than"));
}

TEST(NetworkConfigTest, WhatAPluginIsGiven) {
  NetworkConfig network = ParseNetworkConfig(kList).value();
  Json arguments{{"mac", "00:11:22:33:44:66"}, {"portMappings", Json::array({1})}};
  EXPECT_EQ(RequestConfig(network, network.plugins[1], kCni100, arguments),
            Json::parse(R"({"type": "tuning", "sysctl": {"a": "500"}, "name": "dbnet",
                            "cniVersion": "1.0.0",
                            "runtimeConfig": {"mac": "00:11:22:33:44:66"}})"));
  Json first = RequestConfig(network, network.plugins[0], kCni100, arguments);
  EXPECT_FALSE(first.contains("runtimeConfig"));
  EXPECT_EQ(first["keyA"], Json::array({"some more"}));
}

TEST(NetworkConfigTest, Names) {
  EXPECT_TRUE(IsValidContainerId("a_b.c-d"));
  EXPECT_FALSE(IsValidContainerId("-a"));
  EXPECT_FALSE(IsValidContainerId("a/b"));
  EXPECT_TRUE(IsValidInterfaceName("eth0.100"));
  EXPECT_FALSE(IsValidInterfaceName("sixteen-letters-"));
  EXPECT_FALSE(IsValidInterfaceName(".."));
  EXPECT_FALSE(IsValidInterfaceName("a:b"));
}

TEST(AddResultTest, EveryVersionsForm) {
  AddResult result = ReadResult(R"({"cniVersion": "1.1.0",
    "interfaces": [{"name": "cni0", "mac": "00:11:22:33:44:55"},
                   {"name": "eth0", "mac": "99:88:77:66:55:44", "mtu": 1450, "sandbox": "/run/n"}],
    "ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 1},
            {"address": "fd00::5/64"}],
    "routes": [{"dst": "0.0.0.0/0", "priority": 100}, {"dst": "10.1.2.3/8", "gw": "10.1.0.9"}],
    "dns": {"nameservers": ["10.1.0.1"], "search": ["a.example"]}})");
  ASSERT_EQ(result.interfaces.size(), 2u);
  EXPECT_EQ(result.interfaces[1].mtu, 1450u);
  ASSERT_EQ(result.ips.size(), 2u);
  EXPECT_EQ(result.ips[0].address.ToString(), "10.1.0.5");
  EXPECT_EQ(result.ips[0].prefix_length, 16);
  EXPECT_EQ(result.ips[0].interface, 1u);
  EXPECT_EQ(result.routes[1].destination.ToString(), "10.0.0.0/8");
  EXPECT_EQ(result.dns.nameservers.front(), "10.1.0.1");
  EXPECT_EQ(ParseAddResult(RenderAddResult(result, kCni110), kCni010).value(), result);

  // Older ones say less, each what it can.
  Json v04 = RenderAddResult(result, kCni040);
  EXPECT_EQ(v04["ips"][0]["version"], "4");
  EXPECT_EQ(v04["ips"][1]["version"], "6");
  EXPECT_FALSE(v04["interfaces"][1].contains("mtu"));
  EXPECT_FALSE(RenderAddResult(result, kCni100)["ips"][0].contains("version"));
  Json v02 = RenderAddResult(result, kCni020);
  EXPECT_EQ(v02["ip4"]["ip"], "10.1.0.5/16");
  EXPECT_EQ(v02["ip4"]["routes"].size(), 2u);
  EXPECT_EQ(v02["ip6"]["ip"], "fd00::5/64");
  EXPECT_EQ(ParseAddResult(v02, kCni100).value().ips[0].gateway->ToString(), "10.1.0.1");
}

TEST(AddResultTest, SaysWhatIsWrong) {
  auto trouble = [](std::string_view text) {
    auto result = ParseAddResult(ParseDocument(text).value(), kCni100);
    return result.ok() ? "" : result.error().message();
  };
  EXPECT_THAT(trouble(R"({"ips": [{"address": "10.0.0.5"}]})"), HasSubstr("prefix length"));
  EXPECT_THAT(trouble(R"({"ips": [{"address": "10.0.0.5/33"}]})"), HasSubstr("prefix length"));
  EXPECT_THAT(trouble(R"({"ips": [{"address": "10.0.0.5/8", "interface": 0}]})"),
              HasSubstr("not in the list"));
  EXPECT_THAT(trouble(R"({"ips": 3})"), HasSubstr("\"ips\""));
  EXPECT_THAT(trouble(R"({"routes": [{"dst": "x"}]})"), HasSubstr("dst"));
  EXPECT_THAT(trouble(R"({"cniVersion": "7.0.0"})"), HasSubstr("7.0.0"));
  EXPECT_EQ(trouble(R"({"cniVersion": "1.0.0", "ips": null})"), "");
  EXPECT_EQ(trouble(R"({"ips": [{"address": "10.0.0.5/8", "interface": -1}]})"), "");
}

TEST(PluginErrorTest, ReadsAndWrites) {
  PluginError error{7, "Invalid Configuration", "too small"};
  auto read = ParsePluginError(RenderPluginError(error, kCni100));
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(read->ToString(), "code 7: Invalid Configuration: too small");
  EXPECT_FALSE(ParsePluginError("").has_value());
  EXPECT_FALSE(ParsePluginError("{}").has_value());
  EXPECT_FALSE(ParsePluginError("segmentation fault").has_value());
  EXPECT_EQ(ParsePluginError(R"({"msg": "x"})")->code, 0u);
  EXPECT_EQ(CodeOf({11, "", ""}), Code::kUnavailable);
  EXPECT_EQ(CodeOf({999, "", ""}), Code::kInternal);
}

}  // namespace
}  // namespace skiff::cni
