#include "base/net/short_hash.h"

#include <gtest/gtest.h>

namespace skiff::net {
namespace {

TEST(ShortHash, IsTheBeginningOfTheSha256) {
  // sha256("abc") = ba7816bf 8f01cfea ... f20015ad (FIPS 180-2, appendix B.1).
  EXPECT_EQ(ShortHashHex("abc", 10), "ba7816bf8f");
  EXPECT_EQ(ShortHashHex("abc", 64),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(ShortHashBase32("abc", 52), "XJ4BNP4PAHH6UQKBIDPF3LRCEOYAGYNDSYLXVHFUCD7WD4QACWWQ");
  EXPECT_EQ(ShortHashBase32("abc", 16), "XJ4BNP4PAHH6UQKB");
}

}  // namespace
}  // namespace skiff::net
