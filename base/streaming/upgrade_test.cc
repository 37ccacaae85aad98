#include "base/streaming/upgrade.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace skiff::streaming {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Pair;

HeaderList Spdy(std::vector<std::string> protocols) {
  HeaderList headers = {{"connection", "Upgrade"}, {"upgrade", "SPDY/3.1"}};
  for (std::string& protocol : protocols) {
    headers.emplace_back("X-Stream-Protocol-Version", std::move(protocol));
  }
  return headers;
}

HeaderList WebSocket(std::string protocols) {
  return {{"Connection", "keep-alive, Upgrade"},
          {"Upgrade", "websocket"},
          {"Sec-WebSocket-Version", "13"},
          {"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="},
          {"Sec-WebSocket-Protocol", std::move(protocols)}};
}

TEST(UpgradeTest, SpdyTakesTheClientsFirstChoice) {
  Upgrade upgrade = NegotiateExec(Spdy({"v4.channel.k8s.io", "v3.channel.k8s.io"})).value();
  EXPECT_EQ(upgrade.transport, Transport::kSpdy);
  EXPECT_EQ(upgrade.version, 4);
  EXPECT_EQ(ResponseHead(upgrade),
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
            "X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n");
  EXPECT_EQ(NegotiateExec(Spdy({"v9.channel.k8s.io", "channel.k8s.io"})).value().version, 1);
  EXPECT_EQ(NegotiateExec(Spdy({})).value().version, 1);
}

TEST(UpgradeTest, UnknownProtocolsAreForbidden) {
  Result<Upgrade> refused = NegotiateExec(Spdy({"v9.channel.k8s.io"}));
  EXPECT_EQ(refused.error().code(), Code::kPermissionDenied);
  EXPECT_THAT(refused.error().message(), HasSubstr("client supports [v9.channel.k8s.io]"));
  EXPECT_EQ(NegotiatePortForward(Spdy({"v4.channel.k8s.io"})).error().code(),
            Code::kPermissionDenied);
}

TEST(UpgradeTest, WebSocket) {
  Upgrade upgrade = NegotiateExec(WebSocket("v5.channel.k8s.io, v4.channel.k8s.io")).value();
  EXPECT_EQ(upgrade.transport, Transport::kWebSocket);
  EXPECT_EQ(upgrade.version, 5);
  EXPECT_THAT(upgrade.response_headers,
              Contains(Pair("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
  EXPECT_TRUE(NegotiateExec(WebSocket("base64.channel.k8s.io")).value().base64);
  EXPECT_EQ(NegotiateExec(WebSocket("")).value().version, 1);
}

TEST(UpgradeTest, PortForward) {
  EXPECT_EQ(NegotiatePortForward(Spdy({"portforward.k8s.io"})).value().transport, Transport::kSpdy);
  EXPECT_EQ(NegotiatePortForward(WebSocket("SPDY/3.1+portforward.k8s.io")).value().transport,
            Transport::kSpdyOverWebSocket);
  EXPECT_EQ(NegotiatePortForward(WebSocket("v4.channel.k8s.io")).value().transport,
            Transport::kWebSocket);
}

TEST(UpgradeTest, BadHandshakesAreInvalid) {
  HeaderList old = WebSocket("v4.channel.k8s.io");
  old[2].second = "8";
  HeaderList key = WebSocket("v4.channel.k8s.io");
  key[3].second = "short";
  for (const HeaderList& headers :
       {HeaderList{}, HeaderList{{"Upgrade", "SPDY/3.1"}}, HeaderList{{"Connection", "Upgrade"}},
        HeaderList{{"Connection", "Upgrade"}, {"Upgrade", "h2c"}}, old, key}) {
    EXPECT_EQ(NegotiateExec(headers).error().code(), Code::kInvalidArgument);
  }
}

}  // namespace
}  // namespace skiff::streaming
