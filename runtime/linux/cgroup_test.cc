#include "runtime/linux/cgroup.h"

#include <gtest/gtest.h>

namespace skiff::runtime {
namespace {

TEST(WeightFromShares, KeepsEndsAndDefault) {
  EXPECT_EQ(WeightFromShares(0), 1U);
  EXPECT_EQ(WeightFromShares(2), 1U);
  EXPECT_EQ(WeightFromShares(1024), 100U);
  EXPECT_EQ(WeightFromShares(262144), 10000U);
  EXPECT_EQ(WeightFromShares(1 << 30), 10000U);
  uint64_t last = 0;
  for (uint64_t shares = 2; shares <= 262144; shares += 61) {
    uint64_t weight = WeightFromShares(shares);
    EXPECT_GE(weight, last);
    EXPECT_LE(weight, 10000U);
    last = weight;
  }
}

TEST(CheckCgroupPath, RefusesWaysOut) {
  for (const char* good : {"/a", "/kubepods/burstable/pod-1", "/a.slice/b..c"}) {
    EXPECT_TRUE(CheckCgroupPath(good).ok()) << good;
  }
  for (const char* bad :
       {"", "/", "a", "//a", "/a/", "/a//b", "/../a", "/a/..", "/a/./b", "/a\nb"}) {
    EXPECT_FALSE(CheckCgroupPath(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace skiff::runtime
