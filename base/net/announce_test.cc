#include "base/net/announce.h"

#include <gtest/gtest.h>

namespace skiff::net {
namespace {

using namespace std::string_literals;

TEST(Announce, IsWrittenAsTheRfcsSay) {
  EXPECT_EQ(BuildAnnouncement("0a:58:00:ff:00:01", IpAddress::V4(192, 0, 2, 10)).value(),
            "\0\1\x08\0\6\4\0\1\x0a\x58\0\xff\0\1\xc0\0\2\x0a\0\0\0\0\0\0\xc0\0\2\x0a"s);
  EXPECT_EQ(BuildAnnouncement("0a:58:00:ff:00:01", IpAddress::Parse("2001:db8::a").value()).value(),
            "\x88\0\0\0\x20\0\0\0\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x0a\2\1\x0a\x58\0\xff\0\1"s);
}

TEST(Announce, RefusesWhatIsNoMac) {
  for (const char* bad : {"", "0a:58:00:ff:00", "0a:58:00:ff:00:0g", "0a-58-00-ff-00-01"}) {
    EXPECT_EQ(BuildAnnouncement(bad, IpAddress()).error().code(), Code::kInvalidArgument) << bad;
  }
}

}  // namespace
}  // namespace skiff::net
