#include "cni/plugin/request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "cni/plugin/commands.h"

namespace skiff::cni {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Variables = std::map<std::string, std::string>;

const Variables kAddVariables = {{"CNI_COMMAND", "ADD"},
                                 {"CNI_CONTAINERID", "c1"},
                                 {"CNI_NETNS", "/run/netns/a"},
                                 {"CNI_IFNAME", "eth0"}};

RequestOrError ReadRequest(const Variables& variables, const std::string& input) {
  return ReadPluginRequest(
      [&](const char* name) {
        auto found = variables.find(name);
        return found == variables.end() ? std::string() : found->second;
      },
      input);
}

Variables With(Variables variables, const std::string& name, const std::string& value) {
  variables[name] = value;
  return variables;
}

std::string Config(const std::string& more = "", const std::string& version = "1.0.0") {
  return R"({"cniVersion": ")" + version +
         R"(", "name": "net", "type": "skiff-cni", "podCidrs": ["10.1.0.0/16", "fd00::/64"])" +
         more + "}";
}

TEST(PluginRequestTest, Add) {
  auto read =
      ReadRequest(With(kAddVariables, "CNI_ARGS",
                       "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=u"),
                  Config(R"(, "bridge": "br1", "mtu": 1400, "ipMasq": false, "dns": {"domain": "x"},
                "clusterCidrs": ["10.0.0.0/8"], "unknown": {"a": 1},
                "runtimeConfig": {"portMappings": [
                   {"hostPort": 8080, "containerPort": 80, "protocol": "TCP", "hostIP": "10.9.9.9"},
                   {"HostPort": 53, "ContainerPort": 53, "Protocol": "udp", "HostIP": ""}],
                   "ips": ["10.1.0.9/16"], "mac": "0a:00:00:00:00:01"})"));
  ASSERT_TRUE(read.request.has_value()) << read.error.ToString();
  const PluginRequest& request = *read.request;
  EXPECT_EQ(request.command, PluginCommand::kAdd);
  EXPECT_EQ(request.version, kCni100);
  EXPECT_EQ(request.settings.bridge, "br1");
  EXPECT_EQ(request.settings.mtu, 1400u);
  EXPECT_FALSE(request.settings.masquerade);
  EXPECT_EQ(request.settings.dns.domain, "x");
  EXPECT_EQ(request.settings.pod_cidrs.size(), 2u);
  EXPECT_EQ(request.attach.sandbox_id, "c1@eth0");
  EXPECT_EQ(request.attach.pod_name, "web");
  EXPECT_EQ(request.attach.pod_uid, "u");
  EXPECT_EQ(request.attach.mac, "0a:00:00:00:00:01");
  ASSERT_EQ(request.attach.ports.size(), 2u);
  EXPECT_EQ(request.attach.ports[0].host_ip->ToString(), "10.9.9.9");
  EXPECT_EQ(request.attach.ports[1].protocol, Protocol::kUdp);
  EXPECT_EQ(request.attach.requested_addresses.front().ToString(), "10.1.0.9");
}

TEST(PluginRequestTest, AddressesAreAskedForInThreeWays) {
  auto addresses = [](const Variables& variables, const std::string& more) {
    std::vector<std::string> texts;
    const RequestOrError read = ReadRequest(variables, Config(more));
    for (const auto& address : read.request.value().attach.requested_addresses) {
      texts.push_back(address.ToString());
    }
    return texts;
  };
  Variables by_argument = With(kAddVariables, "CNI_ARGS", "IP=10.1.0.3;X=y");
  const std::string by_args = R"(, "args": {"cni": {"ips": ["10.1.0.2"]}})";
  EXPECT_THAT(addresses(by_argument, ""), ElementsAre("10.1.0.3"));
  EXPECT_THAT(addresses(by_argument, by_args), ElementsAre("10.1.0.2"));
  EXPECT_THAT(addresses(by_argument, by_args + R"(, "runtimeConfig": {"ips": ["fd00::9"]})"),
              ElementsAre("fd00::9"));
}

TEST(PluginRequestTest, RangesComeFromTheRuntimeToo) {
  auto read = ReadRequest(kAddVariables, R"({"cniVersion": "0.4.0", "name": "net", "runtimeConfig":
                         {"ipRanges": [[{"subnet": "10.7.0.0/24"}], [{"subnet": "fd07::/64"}]]}})");
  ASSERT_TRUE(read.request.has_value()) << read.error.ToString();
  EXPECT_EQ(read.request->settings.pod_cidrs[1].ToString(), "fd07::/64");
  EXPECT_THAT(read.request->settings.bridge, HasSubstr("skiff-"));
  EXPECT_LE(read.request->settings.bridge.size(), 15u);
}

TEST(PluginRequestTest, VersionNeedsNothingElse) {
  auto read = ReadRequest({{"CNI_COMMAND", "VERSION"}}, R"({"cniVersion": "0.4.0"})");
  ASSERT_TRUE(read.request.has_value());
  PluginReply reply = RunPluginRequest(*read.request);
  EXPECT_EQ(reply.exit_code, 0);
  Json answer = Json::parse(reply.output);
  EXPECT_EQ(answer["cniVersion"], "0.4.0");
  EXPECT_EQ(answer["supportedVersions"],
            Json::array({"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}));
}

TEST(PluginRequestTest, DelSucceedsWithLittle) {
  Variables del = With(With(kAddVariables, "CNI_COMMAND", "DEL"), "CNI_NETNS", "");
  EXPECT_TRUE(ReadRequest(del, Config()).request.has_value());
  EXPECT_TRUE(ReadRequest(del, Config(R"(, "prevResult": {"ips": 3})")).request.has_value());
}

TEST(PluginRequestTest, GcNamesWhatIsValid) {
  Variables gc = {{"CNI_COMMAND", "GC"}};
  auto read = ReadRequest(gc, Config(R"(, "cni.dev/valid-attachments":
      [{"containerID": "a", "ifname": "eth0"}])",
                                     "1.1.0"));
  ASSERT_TRUE(read.request.has_value()) << read.error.ToString();
  EXPECT_THAT(read.request->valid, ElementsAre("a@eth0"));
  EXPECT_EQ(ReadRequest(gc, Config("", "1.1.0")).error.code, 7u);
}

TEST(PluginRequestTest, SaysWhatIsWrongInCniCodes) {
  auto code = [](const Variables& variables, const std::string& input) {
    auto read = ReadRequest(variables, input);
    EXPECT_FALSE(read.request.has_value());
    EXPECT_EQ(RefusePluginRequest(read).exit_code, 1);
    EXPECT_TRUE(ParsePluginError(RefusePluginRequest(read).output).has_value());
    return read.error.code;
  };
  EXPECT_EQ(code({}, Config()), 4u);
  EXPECT_EQ(code(With(kAddVariables, "CNI_COMMAND", "HELLO"), Config()), 4u);
  EXPECT_EQ(code(With(kAddVariables, "CNI_CONTAINERID", "../x"), Config()), 4u);
  EXPECT_EQ(code(With(kAddVariables, "CNI_NETNS", ""), Config()), 4u);
  EXPECT_EQ(code(With(kAddVariables, "CNI_IFNAME", "a/b"), Config()), 4u);
  EXPECT_EQ(code(With(kAddVariables, "CNI_CONTAINERID", std::string(200, 'a')), Config()), 4u);
  EXPECT_EQ(code(kAddVariables, "not JSON"), 6u);
  EXPECT_EQ(code(kAddVariables, Config("", "seven")), 6u);
  EXPECT_EQ(code(kAddVariables, Config("", "0.2.0")), 1u);
  EXPECT_EQ(code(kAddVariables, Config("", "1.2.0")), 1u);
  EXPECT_EQ(code(With(kAddVariables, "CNI_COMMAND", "CHECK"), Config("", "0.3.1")), 1u);
  EXPECT_EQ(code({{"CNI_COMMAND", "STATUS"}}, Config("", "1.0.0")), 1u);
  EXPECT_EQ(code(kAddVariables, R"({"cniVersion": "1.0.0", "name": "x"})"), 7u);
  EXPECT_EQ(code(kAddVariables, Config(R"(, "mtu": "big")")), 7u);
  EXPECT_EQ(code(kAddVariables, Config(R"(, "bridge": "a-name-that-is-too-long")")), 7u);
  EXPECT_EQ(code(kAddVariables, Config(R"(, "runtimeConfig": {"mac": "01:00:5e:00:00:01"})")), 7u);
  EXPECT_EQ(code(kAddVariables, Config(R"(, "runtimeConfig": {"portMappings":
                 [{"hostPort": 70000, "containerPort": 80}]})")),
            7u);
}

}  // namespace
}  // namespace skiff::cni
