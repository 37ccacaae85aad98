#include "runtime/image/registry_client.h"

#include <gtest/gtest.h>

#include "runtime/image/testing/fake_registry.h"

namespace skiff::runtime {
namespace {

using testing::FakeRegistry;

class RegistryClientTest : public ::testing::Test {
 protected:
  RegistryClientTest() { registry_.Add("app", "v1", image_); }

  RegistryClient Client(RegistrySettings settings = {}) {
    RegistryClient::Options options;
    options.settings = std::move(settings);
    options.retry_delay = std::chrono::milliseconds(1);
    return RegistryClient(std::move(options));
  }
  RegistrySession Session(const std::string& host = "") const {
    return {
        *ImageReference::Parse((host.empty() ? registry_.host() : host) + "/app:v1"), {}, nullptr};
  }
  Descriptor Layer() const { return ParseManifest(image_.manifest)->layers[0]; }
  Result<std::string> Fetch(RegistryClient& client, const RegistrySession& session) {
    std::string bytes;
    TRY(client.FetchBlob(session, Layer(), [&](std::string_view more) -> Result<> {
      bytes += more;
      return {};
    }));
    return bytes;
  }

  testing::BuiltImage image_ =
      testing::BuildImage({std::string(300'000, 'l')}, testing::Packing::kPlain);
  FakeRegistry registry_;
};

TEST_F(RegistryClientTest, FetchesManifestAndBlob) {
  auto client = Client();
  const auto manifest = client.FetchManifest(Session(), "v1");
  ASSERT_TRUE(manifest.ok()) << manifest.error().message();
  EXPECT_EQ(manifest->digest, image_.manifest_digest);
  EXPECT_EQ(*client.ResolveTag(Session()), image_.manifest_digest);
  EXPECT_EQ(*Fetch(client, Session()), image_.blobs[0]);
}

TEST_F(RegistryClientTest, TellsErrorsApart) {
  auto client = Client();
  EXPECT_EQ(client.FetchManifest(Session(), "v2").error().code(), Code::kNotFound);
  registry_.SetFaults({.status = 403});
  EXPECT_EQ(client.FetchManifest(Session(), "v1").error().code(), Code::kPermissionDenied);
  registry_.SetFaults({.unavailable = 1000});
  EXPECT_EQ(client.FetchManifest(Session(), "v1").error().code(), Code::kUnavailable);
  EXPECT_EQ(client.FetchManifest(Session("127.0.0.1:1"), "v1").error().code(), Code::kUnavailable);
  registry_.SetFaults({});
  registry_.SetTag("app", "moved", "{}");
  // A registry that answers with other bytes than the digest's.
  EXPECT_EQ(client.FetchManifest(Session(), Digest::OfBytes("?").text()).error().code(),
            Code::kNotFound);
}

TEST_F(RegistryClientTest, TriesAgain) {
  auto client = Client();
  registry_.SetFaults({.unavailable = 2});
  EXPECT_TRUE(client.FetchManifest(Session(), "v1").ok());
}

TEST_F(RegistryClientTest, ResumesABrokenBlob) {
  auto client = Client();
  registry_.SetFaults({.cut_blobs = 3});
  EXPECT_EQ(*Fetch(client, Session()), image_.blobs[0]);
  EXPECT_EQ(registry_.CountRequests("GET /v2/app/blobs/"), 4u);
  registry_.SetFaults({.cut_blobs = 2, .ignore_range = true});
  EXPECT_EQ(*Fetch(client, Session()), image_.blobs[0]);
}

TEST_F(RegistryClientTest, LogsIn) {
  for (const auto auth : {FakeRegistry::Auth::kBasic, FakeRegistry::Auth::kBearer}) {
    registry_.RequireAuth(auth);
    auto client = Client();
    EXPECT_EQ(client.FetchManifest(Session(), "v1").error().code(), Code::kUnauthenticated);
    RegistrySession session = Session();
    session.credentials.username = "user";
    session.credentials.password = "wrong";
    EXPECT_EQ(client.FetchManifest(session, "v1").error().code(), Code::kUnauthenticated);
    session.credentials.password = "password";
    const auto manifest = client.FetchManifest(session, "v1");
    EXPECT_TRUE(manifest.ok()) << manifest.error().message();
    // The token serves the requests that follow.
    const size_t before = registry_.requests().size();
    EXPECT_TRUE(Fetch(client, session).ok());
    EXPECT_EQ(registry_.requests().size(), before + 1);
  }
}

TEST_F(RegistryClientTest, UsesMirrorsInOrderThenTheHost) {
  FakeRegistry mirror;
  RegistrySettings settings;
  settings.hosts[registry_.host()].mirrors = {"http://127.0.0.1:1", "http://" + mirror.host()};
  auto client = Client(settings);
  // The mirror does not have it: the host does.
  EXPECT_TRUE(client.FetchManifest(Session(), "v1").ok());
  mirror.Add("app", "v1", image_);
  const size_t before = registry_.requests().size();
  EXPECT_EQ(*Fetch(client, Session()), image_.blobs[0]);
  EXPECT_EQ(registry_.requests().size(), before);
  EXPECT_EQ(mirror.CountRequests("GET /v2/app/blobs/"), 1u);
  // What both say counts more than what a dead one does not.
  EXPECT_EQ(client.FetchManifest(Session(), "v9").error().code(), Code::kNotFound);
}

TEST_F(RegistryClientTest, StopsWhenCancelled) {
  auto client = Client();
  registry_.SetFaults({.unavailable = 1000});
  const std::atomic<bool> cancelled = true;
  RegistrySession session = Session();
  session.cancelled = &cancelled;
  EXPECT_EQ(client.FetchManifest(session, "v1").error().code(), Code::kCancelled);
}

TEST(Challenges, AreParsed) {
  const auto challenges = ParseChallenges(
      R"(Bearer realm="https://auth.example/token?a=b,c",service="reg \"x\"",scope="repository:a:pull,push", Basic realm="x")");
  ASSERT_EQ(challenges.size(), 2u);
  EXPECT_EQ(challenges[0].scheme, "bearer");
  EXPECT_EQ(challenges[0].parameters.at("realm"), "https://auth.example/token?a=b,c");
  EXPECT_EQ(challenges[0].parameters.at("service"), "reg \"x\"");
  EXPECT_EQ(challenges[0].parameters.at("scope"), "repository:a:pull,push");
  EXPECT_EQ(challenges[1].scheme, "basic");
  EXPECT_TRUE(ParseChallenges("").empty());
  EXPECT_TRUE(ParseChallenges("=\"").empty());
  EXPECT_EQ(ParseChallenges("Bearer realm=\"").size(), 1u);
}

TEST(RegistrySettings, ChecksAndDecodes) {
  RegistrySettings settings;
  settings.hosts["a"].mirrors = {"ftp://x"};
  EXPECT_FALSE(settings.Check().ok());
  settings.hosts["a"].mirrors = {"http://x"};
  EXPECT_TRUE(settings.Check().ok());
  settings.hosts["a"].tls.cert_file = "/c";
  EXPECT_FALSE(settings.Check().ok());
  const auto credentials = CredentialsFromBasicAuth("dXNlcjpwYTpzcw==");
  ASSERT_TRUE(credentials.ok());
  EXPECT_EQ(credentials->username, "user");
  EXPECT_EQ(credentials->password, "pa:ss");
  EXPECT_FALSE(CredentialsFromBasicAuth("dXNlcg==").ok());
  EXPECT_FALSE(CredentialsFromBasicAuth("?").ok());
}

}  // namespace
}  // namespace skiff::runtime
