// Joining with tokens, and what a node is recognised by afterwards.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/pki/pki.h"
#include "control-plane/api/testing/fake_client.h"
#include "control-plane/rpc/join_token.h"
#include "control-plane/rpc/node_registry.h"
#include "control-plane/rpc/test_objects.h"
#include "proto/k8s/core/v1/config.pb.h"
#include "proto/k8s/core/v1/node.pb.h"

namespace skiff::cp {
namespace {

namespace core = k8s::core::v1;
using std::chrono::hours;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

constexpr const char* kToken = "abcdef.0123456789abcdef";

core::Secret TokenSecret(const Clock& clock, int max_uses = 1) {
  core::Secret secret;
  secret.mutable_metadata()->set_name("bootstrap-token-abcdef");
  secret.mutable_metadata()->set_namespace_("kube-system");
  secret.set_type("bootstrap.kubernetes.io/token");
  auto& data = *secret.mutable_data();
  data["token-id"] = "abcdef";
  data["token-secret"] = "0123456789abcdef";
  data["usage-bootstrap-authentication"] = "true";
  data["expiration"] = FormatTime(clock.WallNow() + hours(1));
  data["max-uses"] = std::to_string(max_uses);
  return secret;
}

class RegistryTest : public testing::Test {
 protected:
  ManualExecutor executor;
  FakeClient client{executor.clock()};
  Result<JoinOutcome> Join(const std::string& node, const std::string& node_key,
                           const std::string& token = kToken) {
    std::string csr = pki::MakeRequest(node_key, pki::NodeSubject(node)).value();
    return registry.Join(token, node, csr, [this](const std::string&) { return connected; });
  }
  pki::KeyPair ca = pki::MakeCa("test", executor.clock().WallNow()).value();
  NodeRegistry registry{client, ca, executor.clock()};
  std::string key = pki::MakeKey().value();
  bool connected = false;
};

TEST_F(RegistryTest, TokenGetsACertificateAndMakesTheNode) {
  ASSERT_TRUE(client.Create(TokenSecret(executor.clock())).ok());
  JoinOutcome joined = Join("n1", key).value();
  EXPECT_EQ(pki::ReadCertificate(joined.certificate_pem).value().subject, pki::NodeSubject("n1"));
  EXPECT_TRUE(client.Get<core::Node>({}, "n1").ok());
  EXPECT_EQ(registry.Authenticate(joined.certificate_pem).value(), "n1");
  // The answer was lost: the same machine asks again.
  EXPECT_TRUE(Join("n1", key).ok());
  Result<JoinOutcome> second = Join("n2", pki::MakeKey().value());
  EXPECT_EQ(second.error().code(), Code::kUnauthenticated);
  EXPECT_EQ(second.error().message(), "the join token has been used already, by node n1");
  EXPECT_FALSE(client.Get<core::Node>({}, "n2").ok());
}

TEST_F(RegistryTest, EveryBadTokenIsToldApart) {
  EXPECT_EQ(Join("n1", key, "nonsense").error().code(), Code::kInvalidArgument);
  EXPECT_THAT(Join("n1", key).error().message(), HasSubstr("is wrong or has been deleted"));
  ASSERT_TRUE(client.Create(TokenSecret(executor.clock())).ok());
  EXPECT_EQ(Join("n1", key, "abcdef.0123456789abcdeX").error().code(), Code::kInvalidArgument);
  Result<JoinOutcome> wrong = Join("n1", key, "abcdef.0000000000000000");
  EXPECT_EQ(wrong.error().code(), Code::kUnauthenticated);
  EXPECT_THAT(wrong.error().message(), HasSubstr("is wrong or has been deleted"));
  executor.Advance(hours(2));
  EXPECT_THAT(Join("n1", key).error().message(), HasSubstr("expired at"));
}

TEST_F(RegistryTest, TokenForOtherUsesDoesNotJoin) {
  core::Secret secret = TokenSecret(executor.clock());
  secret.mutable_data()->erase("usage-bootstrap-authentication");
  ASSERT_TRUE(client.Create(secret).ok());
  EXPECT_THAT(Join("n1", key).error().message(), HasSubstr("not for joining"));
}

TEST_F(RegistryTest, NameOfAConnectedNodeIsTaken) {
  ASSERT_TRUE(client.Create(TokenSecret(executor.clock(), 5)).ok());
  std::string first = Join("n1", key).value().certificate_pem;
  connected = true;
  std::string other = pki::MakeKey().value();
  EXPECT_EQ(Join("n1", other).error().code(), Code::kAlreadyExists);
  connected = false;
  // The machine was installed anew: its old key is worth nothing any more.
  std::string second = Join("n1", other).value().certificate_pem;
  EXPECT_EQ(registry.Authenticate(second).value(), "n1");
  EXPECT_EQ(registry.Authenticate(first).error().code(), Code::kPermissionDenied);
}

TEST_F(RegistryTest, DeletedNodeHasToJoinAgain) {
  ASSERT_TRUE(client.Create(TokenSecret(executor.clock())).ok());
  std::string certificate = Join("n1", key).value().certificate_pem;
  ASSERT_TRUE(client.Delete<core::Node>({}, "n1").ok());
  Result<std::string> refused = registry.Authenticate(certificate);
  EXPECT_EQ(refused.error().code(), Code::kPermissionDenied);
  EXPECT_THAT(refused.error().message(), HasSubstr("skiff token create"));
}

TEST_F(RegistryTest, BothKeysHoldUntilTheNewOneIsUsed) {
  ASSERT_TRUE(client.Create(TokenSecret(executor.clock())).ok());
  std::string before = Join("n1", key).value().certificate_pem;
  std::string request = pki::MakeRequest(pki::MakeKey().value(), pki::NodeSubject("n1")).value();
  std::string after = registry.Renew("n1", request).value().certificate_pem;
  EXPECT_TRUE(registry.Authenticate(before).ok());
  EXPECT_TRUE(registry.Authenticate(after).ok());
  ASSERT_TRUE(registry.Register("n1", after, MakeNode("n1")).ok());
  EXPECT_FALSE(registry.Authenticate(before).ok());
  EXPECT_TRUE(registry.Authenticate(after).ok());
}

TEST_F(RegistryTest, NodeSetsOnlyItsOwnLabels) {
  ASSERT_TRUE(client.Create(TokenSecret(executor.clock())).ok());
  std::string certificate = Join("n1", key).value().certificate_pem;
  core::Node said = MakeNode("n1");
  auto& labels = *said.mutable_metadata()->mutable_labels();
  labels["kubernetes.io/os"] = "linux";
  labels["disk"] = "fast";
  labels["kubernetes.io/hostname"] = "somebody-else";
  labels["node-role.kubernetes.io/control-plane"] = "";
  labels["x.node-restriction.kubernetes.io/tier"] = "a";
  said.mutable_status()->set_phase("Running");
  ASSERT_TRUE(registry.Register("n1", certificate, said).ok());
  auto stored = client.Get<core::Node>({}, "n1").value();
  std::map<std::string, std::string> kept(stored->metadata().labels().begin(),
                                          stored->metadata().labels().end());
  EXPECT_THAT(
      kept, UnorderedElementsAre(std::pair("kubernetes.io/os", "linux"), std::pair("disk", "fast"),
                                 std::pair("kubernetes.io/hostname", "n1")));
  EXPECT_EQ(stored->status().phase(), "Running");
}

TEST_F(RegistryTest, ClientsThatAreNoNodesAreRefused) {
  std::string admin =
      pki::MakeLeaf(ca, {.subject = {"admin", {"system:masters"}}}, executor.clock().WallNow())
          .value()
          .certificate_pem;
  EXPECT_EQ(registry.Authenticate(admin).error().code(), Code::kPermissionDenied);
  std::string impostor =
      pki::MakeLeaf(ca, {.subject = {"system:node:n1", {"users"}}}, executor.clock().WallNow())
          .value()
          .certificate_pem;
  EXPECT_EQ(registry.Authenticate(impostor).error().code(), Code::kPermissionDenied);
}

TEST(NodeNameTest, Rfc1123) {
  EXPECT_TRUE(IsNodeName("n1.example.com"));
  for (std::string name : {"", "N1", "-n", "n-", "a..b", ".a", "a.", "a_b", "a b"}) {
    EXPECT_FALSE(IsNodeName(name)) << name;
  }
  EXPECT_FALSE(IsNodeName(std::string(64, 'a')));
}

}  // namespace
}  // namespace skiff::cp
