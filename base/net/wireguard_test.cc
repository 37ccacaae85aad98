#include "base/net/wireguard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/base64.h"

namespace skiff::net {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

constexpr int kFamily = 40;
// Alice's keys of RFC 7748, section 6.1.
constexpr const char* kAlicePrivate = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
constexpr const char* kAlicePublic = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

WireguardPeer PeerOf(int number) {
  WireguardPeer peer;
  peer.public_key = Base64Encode(std::string(32, static_cast<char>(number)));
  peer.endpoint = Endpoint{IpAddress::V4(10, 0, 0, static_cast<uint8_t>(number)), 51820};
  peer.allowed_ips = {IpPrefix::Of(IpAddress::V4(10, 244, static_cast<uint8_t>(number), 0), 24)};
  return peer;
}

TEST(WireguardKeyTest, APublicKeyFollowsFromAPrivateOne) {
  EXPECT_EQ(WireguardPublicKey(kAlicePrivate).value(), kAlicePublic);
}

TEST(WireguardKeyTest, KeysAreRandomAndClamped) {
  const std::string key = MakeWireguardKey();
  EXPECT_NE(key, MakeWireguardKey());
  ASSERT_TRUE(CheckWireguardKey(key).ok());
  const std::string bytes = Base64Decode(key).value();
  EXPECT_EQ(bytes.front() & 0x07, 0);
  EXPECT_EQ(bytes.back() & 0xc0, 0x40);
}

TEST(WireguardKeyTest, OtherTextsAreNoKeys) {
  for (const char* text : {"", "key", "AAAA", "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo"}) {
    EXPECT_EQ(CheckWireguardKey(text).error().code(), Code::kInvalidArgument) << text;
  }
}

TEST(WireguardPlanTest, ANewDeviceGetsItsKeyAndAllPeers) {
  WireguardDevice wanted{.private_key = kAlicePrivate, .listen_port = 51820};
  for (int i = 1; i <= 30; ++i) wanted.peers.push_back(PeerOf(i));
  // One for the device, and the peers in lots that fit.
  EXPECT_THAT(PlanWireguard(kFamily, "wg", {}, wanted), SizeIs(4));
}

TEST(WireguardPlanTest, WhatIsThereIsLeftAlone) {
  WireguardDevice wanted{.private_key = kAlicePrivate, .listen_port = 51820};
  wanted.peers = {PeerOf(1), PeerOf(2)};
  EXPECT_THAT(PlanWireguard(kFamily, "wg", wanted, wanted), IsEmpty());
  WireguardDevice present = wanted;
  present.peers.pop_back();
  EXPECT_THAT(PlanWireguard(kFamily, "wg", present, wanted), SizeIs(1));
  present = wanted;
  present.peers[0].endpoint->port = 1;
  EXPECT_THAT(PlanWireguard(kFamily, "wg", present, wanted), SizeIs(1));
  present = wanted;
  present.peers.push_back(PeerOf(3));
  EXPECT_THAT(PlanWireguard(kFamily, "wg", present, wanted), SizeIs(1));
  present = wanted;
  present.private_key.clear();
  EXPECT_THAT(PlanWireguard(kFamily, "wg", present, wanted), SizeIs(1));
}

}  // namespace
}  // namespace skiff::net
