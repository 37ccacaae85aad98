#include "agent/pods/id_ranges.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/os/files.h"

namespace skiff::agent {
namespace {

using ::testing::ElementsAre;

class IdRangesTest : public ::testing::Test {
 protected:
  Result<uint32_t> Acquire(const std::string& uid) { return ranges_.Acquire(dir_.path(), uid); }

  TempDir dir_ = TempDir::Make("id-ranges").value();
  IdRanges ranges_{{}};
};

TEST_F(IdRangesTest, EachPodHasItsOwnAndKeepsIt) {
  EXPECT_EQ(Acquire("a").value(), 65536u);
  EXPECT_EQ(Acquire("b").value(), 131072u);
  EXPECT_EQ(Acquire("a").value(), 65536u);
  // Another process knows as much.
  IdRanges later({});
  EXPECT_EQ(later.Acquire(dir_.path(), "b").value(), 131072u);
  EXPECT_EQ(later.Acquire(dir_.path(), "c").value(), 196608u);
}

TEST_F(IdRangesTest, ARangeIsFreeWhenThePodsDirectoryIsGone) {
  ASSERT_TRUE(Acquire("a").ok() && Acquire("b").ok());
  ASSERT_TRUE(RemoveTree(dir_.path() + "/a").ok());
  EXPECT_EQ(Acquire("c").value(), 65536u);
  EXPECT_EQ(Acquire("b").value(), 131072u);
}

TEST_F(IdRangesTest, OthersIdsAreLeftAlone) {
  IdRanges beside({{100'000, 65536}, {262'144, 1}});
  EXPECT_EQ(beside.Acquire(dir_.path(), "a").value(), 196608u);
  EXPECT_EQ(beside.Acquire(dir_.path(), "b").value(), 327680u);
  IdRanges nothing({{0, uint64_t{1} << 32}});
  EXPECT_EQ(nothing.Acquire(dir_.path(), "c").error().code(), Code::kResourceExhausted);
}

TEST_F(IdRangesTest, ADamagedRecordIsToldAndGivesNothingAway) {
  for (const char* text : {"", "x\n", "0\n", "65537\n", "65536 2\n", "99999999999\n"}) {
    ASSERT_TRUE(MakeDirectories(dir_.path() + "/a").ok());
    ASSERT_TRUE(WriteFileAtomic(dir_.path() + "/a/user-namespace", text).ok());
    EXPECT_EQ(Acquire("a").error().code(), Code::kDataLoss) << text;
    EXPECT_EQ(Acquire("b").error().code(), Code::kDataLoss) << text;
  }
}

TEST(SubordinateIdsTest, LinesThatAreNoneAreLeftOut) {
  EXPECT_THAT(ParseSubordinateIds("ann:100000:65536\n\n# x\nbob:1:\n:7:8\nc:1:0\nd:4294967296:1\n"
                                  "1000:231072:5"),
              ElementsAre(IdSpan{100'000, 65536}, IdSpan{7, 8}, IdSpan{231'072, 5}));
}

}  // namespace
}  // namespace skiff::agent
