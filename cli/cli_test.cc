#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "base/base64.h"
#include "base/os/files.h"
#include "cli/commands.h"
#include "cli/config_file.h"
#include "cli/kubeconfig.h"
#include "cli/tokens.h"

namespace skiff::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

const WallTime kNow{std::chrono::seconds(1'800'000'000)};

TEST(TokensTest, SecretIsABootstrapToken) {
  auto secret = nlohmann::json::parse(TokenSecretJson(
      "abcdef", "0123456789abcdef",
      {.ttl = std::chrono::hours(1), .max_uses = 2, .description = "rack 4"}, kNow));
  EXPECT_EQ(secret["metadata"]["name"], "bootstrap-token-abcdef");
  EXPECT_EQ(secret["type"], "bootstrap.kubernetes.io/token");
  EXPECT_EQ(secret["stringData"]["expiration"], "2027-01-15T09:00:00Z");
  EXPECT_EQ(secret["stringData"]["max-uses"], "2");
  auto endless = nlohmann::json::parse(
      TokenSecretJson("abcdef", "0123456789abcdef", {.ttl = std::chrono::seconds(0)}, kNow));
  EXPECT_FALSE(endless["stringData"].contains("expiration"));
}

TEST(TokensTest, ListShowsWhatIsStored) {
  nlohmann::json secret = {{"type", "bootstrap.kubernetes.io/token"},
                           {"data",
                            {{"token-id", Base64Encode("abcdef")},
                             {"token-secret", Base64Encode("0123456789abcdef")},
                             {"expiration", Base64Encode("2027-01-15T09:30:00Z")},
                             {"max-uses", Base64Encode("2")},
                             {"used-by", Base64Encode("n1 sha256:00\n")}}}};
  nlohmann::json list = {{"items", {secret, {{"type", "Opaque"}}}}};
  std::vector<TokenInfo> tokens = ParseTokenList(list.dump()).value();
  ASSERT_EQ(tokens.size(), 1u);
  std::string table = TokenTable(tokens, kNow);
  EXPECT_THAT(table, HasSubstr("abcdef   1h30m   2027-01-15T09:30:00Z   1/2"));
  EXPECT_THAT(table, HasSubstr("n1"));
  EXPECT_THAT(table, Not(HasSubstr("0123456789abcdef")));
  EXPECT_FALSE(ParseTokenList("{}").ok());
  EXPECT_FALSE(ParseTokenList("nonsense").ok());
}

TEST(TokensTest, Ttl) {
  EXPECT_EQ(ParseTtl("90s").value().count(), 90);
  EXPECT_EQ(ParseTtl("24h").value().count(), 86400);
  EXPECT_EQ(ParseTtl("7d").value().count(), 7 * 86400);
  EXPECT_EQ(ParseTtl("0").value().count(), 0);
  for (const char* text : {"", "h", "-1h", "1", "1y", "99999999d", "1h2"}) {
    EXPECT_FALSE(ParseTtl(text).ok()) << text;
  }
}

TEST(JoinTest, EveryMistakeHasItsLine) {
  JoinOptions good{.server = "10.0.0.1:6444",
                   .token = "abcdef.0123456789abcdef",
                   .ca_hash = "sha256:" + std::string(64, 'a')};
  EXPECT_TRUE(CheckJoinOptions(good).ok());
  auto message = [&](auto change) {
    JoinOptions options = good;
    change(options);
    Result<> checked = CheckJoinOptions(options);
    return checked.ok() ? std::string("accepted") : checked.error().message();
  };
  EXPECT_THAT(message([](JoinOptions& o) { o.token = "abcdef"; }), HasSubstr("the token is not"));
  EXPECT_THAT(message([](JoinOptions& o) { o.token = "ABCDEF.0123456789abcdef"; }),
              HasSubstr("the token is not"));
  EXPECT_THAT(message([](JoinOptions& o) { o.ca_hash = "md5:1"; }), HasSubstr("the CA hash"));
  EXPECT_THAT(message([](JoinOptions& o) { o.server = "10.0.0.1"; }), HasSubstr("not HOST:PORT"));
  EXPECT_THAT(message([](JoinOptions& o) { o.server = "h:1\"x"; }), HasSubstr("not HOST:PORT"));
  EXPECT_THAT(message([](JoinOptions& o) { o.node_name = "Node_1"; }), HasSubstr("node name"));
}

TEST(JoinTest, ConfigurationKeepsItsComments) {
  std::string text =
      "# The node's name.\n#nodeName: \"\"\n\n#server: \"\"\nlogLevel: debug\n#token: \"\"\n";
  std::string changed =
      WithSettings(text, {{"server", "h:1"}, {"token", "a.b"}, {"caHash", "sha256:\"x\\"}});
  EXPECT_EQ(changed,
            "# The node's name.\n#nodeName: \"\"\n\nserver: \"h:1\"\nlogLevel: debug\n"
            "token: \"a.b\"\ncaHash: \"sha256:\\\"x\\\\\"\n");
  // Again with another value: in the same place.
  EXPECT_THAT(WithSettings(changed, {{"server", "h:2"}}), HasSubstr("\nserver: \"h:2\"\nlog"));
  EXPECT_EQ(SettingOf(changed, "logLevel"), "debug");
  EXPECT_EQ(SettingOf(changed, "server"), "h:1");
  EXPECT_EQ(SettingOf(changed, "nodeName"), "");
}

TEST(JoinTest, ConfigurationIsPrivate) {
  TempDir directory = TempDir::Make().value();
  std::string path = directory.path() + "/etc/agent.yaml";
  ASSERT_TRUE(RunJoin({.server = "h:1",
                       .token = "abcdef.0123456789abcdef",
                       .ca_hash = "sha256:" + std::string(64, 'a'),
                       .node_name = "n1",
                       .config = path,
                       .start = false})
                  .ok());
  struct stat status;
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  EXPECT_THAT(ReadFile(path).value(), HasSubstr("nodeName: \"n1\"\n"));
}

TEST(JoinTest, NewTokenIsANewIdentity) {
  TempDir directory = TempDir::Make().value();
  std::string config = directory.path() + "/agent.yaml", state = directory.path() + "/state";
  std::string certificate = state + "/pki/node.crt";
  ASSERT_TRUE(MakeDirectories(state + "/pki").ok());
  ASSERT_TRUE(WriteFileAtomic(config, "stateDir: " + state + "\ntoken: abcdef.0123456789abcdef\n",
                              Durability::kNone)
                  .ok());
  ASSERT_TRUE(WriteFileAtomic(certificate, "old", Durability::kNone).ok());
  JoinOptions options{.server = "h:1",
                      .token = "abcdef.0123456789abcdef",
                      .ca_hash = "sha256:" + std::string(64, 'a'),
                      .config = config,
                      .start = false};
  ASSERT_TRUE(RunJoin(options).ok());
  EXPECT_TRUE(PathExists(certificate));  // the same command again changes nothing
  options.token = "zzzzzz.0123456789abcdef";
  ASSERT_TRUE(RunJoin(options).ok());
  EXPECT_FALSE(PathExists(certificate));
}

TEST(TokenCreateTest, NodeLinkAddress) {
  EXPECT_EQ(NodeLinkAddress("https://10.0.0.1:6443", ""), "10.0.0.1:6444");
  EXPECT_EQ(NodeLinkAddress("https://10.0.0.1:6443", "nodeLinkAddress: 0.0.0.0:7444\n"),
            "10.0.0.1:7444");
  EXPECT_EQ(NodeLinkAddress("https://127.0.0.1:6443", "advertiseAddress: \"fd00::1\"\n"),
            "[fd00::1]:6444");
  EXPECT_EQ(HostOfUrl("https://[fd00::1]:6443/x"), "fd00::1");
}

constexpr const char* kKubeconfig = R"(
apiVersion: v1
kind: Config
current-context: b
contexts:
- {name: a, context: {cluster: c1, user: u1}}
- {name: b, context: {cluster: c2, user: u2}}
clusters:
- {name: c1, cluster: {server: "https://one:1"}}
- {name: c2, cluster: {server: "https://two:2", certificate-authority-data: "Y2E="}}
users:
- {name: u2, user: {client-certificate-data: "Y3J0", client-key-data: "a2V5"}}
)";

TEST(KubeconfigTest, CurrentContext) {
  Kubeconfig config = ParseKubeconfig(kKubeconfig, "/").value();
  EXPECT_EQ(config.server, "https://two:2");
  EXPECT_EQ(config.ca_pem, "ca");
  EXPECT_EQ(config.certificate_pem, "crt");
  EXPECT_EQ(config.key_pem, "key");
}

TEST(KubeconfigTest, ErrorsSayWhat) {
  EXPECT_THAT(ParseKubeconfig("a: [", "/").error().message(), HasSubstr("not valid YAML"));
  EXPECT_THAT(ParseKubeconfig("just text", "/").error().message(), HasSubstr("mapping"));
  EXPECT_THAT(ParseKubeconfig("current-context: x", "/").error().message(),
              HasSubstr("no entry \"x\" in contexts"));
  EXPECT_THAT(LoadKubeconfig("/nonexistent/k").error().message(), HasSubstr("--kubeconfig"));
}

}  // namespace
}  // namespace skiff::cli
