#include "base/clock.h"

#include <gtest/gtest.h>

namespace skiff {
namespace {

TEST(ClockTest, FormatsWithZeroesAsKubernetesDoes) {
  WallTime time = ParseTime("2026-01-02T03:04:05.000006007Z").value();
  EXPECT_EQ(FormatTime(time), "2026-01-02T03:04:05Z");
  EXPECT_EQ(FormatMicroTime(time), "2026-01-02T03:04:05.000006Z");
  EXPECT_EQ(FormatNanoTime(time), "2026-01-02T03:04:05.000006007Z");
}

TEST(ClockTest, ParsesOffsets) {
  EXPECT_EQ(ParseTime("2026-01-02T03:04:05+02:30").value(),
            ParseTime("2026-01-02T00:34:05Z").value());
  EXPECT_EQ(FormatTime(ParseTime("1969-12-31T23:59:59.5Z").value()), "1969-12-31T23:59:59Z");
}

TEST(ClockTest, RefusesWhatIsNotATime) {
  for (const char* text : {"", "2026", "2026-13-01T00:00:00Z", "2026-01-01 00:00:00Z",
                           "2026-01-01T00:00:00", "2026-01-01T00:00:00.Z", "-026-01-01T00:00:00Z",
                           "2026-01-01T00:00:00Zx", "2026-01-01T00:00:00+99:00"}) {
    EXPECT_EQ(ParseTime(text).error().code(), Code::kInvalidArgument) << text;
  }
}

}  // namespace
}  // namespace skiff
