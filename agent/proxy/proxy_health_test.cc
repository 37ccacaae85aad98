#include "agent/proxy/proxy_health.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace skiff::agent::proxy {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const WallTime kNow{std::chrono::seconds(1'700'000'000)};
const WallTime kBefore = kNow - std::chrono::minutes(5);

http::Response Ask(std::string_view path, bool healthy, bool eligible) {
  return AnswerProxyHealth(path, {healthy, kBefore, eligible}, kNow);
}

TEST(ProxyHealthTest, LoadBalancersLeaveNodesThatGo) {
  EXPECT_EQ(Ask("/healthz", true, true).status, 200);
  EXPECT_EQ(Ask("/healthz", true, false).status, 503);
  EXPECT_EQ(Ask("/healthz", false, true).status, 503);
  EXPECT_THAT(Ask("/healthz", true, false).body, HasSubstr("\"nodeEligible\": false"));
}

TEST(ProxyHealthTest, SupervisorsDoNotCareAboutTheNode) {
  EXPECT_EQ(Ask("/livez", true, false).status, 200);
  EXPECT_EQ(Ask("/livez", false, true).status, 503);
  EXPECT_THAT(Ask("/livez", true, true).body, Not(HasSubstr("nodeEligible")));
}

TEST(ProxyHealthTest, SaysSinceWhen) {
  const std::string now = FormatTime(kNow), before = FormatTime(kBefore);
  http::Response good = Ask("/livez", true, true);
  EXPECT_EQ(good.body, "{\"lastUpdated\": \"" + now + "\",\"currentTime\": \"" + now + "\"}");
  http::Response bad = Ask("/livez", false, true);
  EXPECT_EQ(bad.body, "{\"lastUpdated\": \"" + before + "\",\"currentTime\": \"" + now + "\"}");
}

TEST(ProxyHealthTest, OtherPathsAreNotThere) {
  EXPECT_EQ(Ask("/", true, true).status, 404);
  EXPECT_EQ(Ask("/healthz/x", true, true).status, 404);
}

}  // namespace
}  // namespace skiff::agent::proxy
