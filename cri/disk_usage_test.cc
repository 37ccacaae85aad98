#include "cri/disk_usage.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/os/files.h"

namespace skiff::cri {
namespace {

class DiskUsageTest : public ::testing::Test {
 protected:
  void Put(const std::string& name, size_t bytes) {
    const std::string path = directory_.path() + "/" + name;
    ASSERT_TRUE(MakeDirectories(path.substr(0, path.rfind('/'))).ok());
    ASSERT_TRUE(WriteFileAtomic(path, std::string(bytes, 'x'), Durability::kNone).ok());
  }

  TempDir directory_ = *TempDir::Make();
  ManualExecutor background_;
  DiskUsage usage_{background_};
};

TEST_F(DiskUsageTest, MeasuresASmallTreeAtOnce) {
  Put("a", 10'000);
  Put("sub/b", 20'000);
  const DiskUsage::Figures figures = usage_.Read("id", directory_.path());
  EXPECT_GE(figures.bytes, 30'000U);
  EXPECT_LT(figures.bytes, 100'000U);
  EXPECT_EQ(figures.inodes, 3U);
}

TEST_F(DiskUsageTest, CountsWhatHasTwoNamesOnce) {
  Put("a", 50'000);
  const uint64_t before = usage_.Read("one", directory_.path()).bytes;
  ASSERT_EQ(link((directory_.path() + "/a").c_str(), (directory_.path() + "/b").c_str()), 0);
  EXPECT_EQ(usage_.Read("two", directory_.path()).bytes, before);
}

TEST_F(DiskUsageTest, FollowsNoSymlinks) {
  Put("a", 10);
  ASSERT_EQ(symlink("/usr", (directory_.path() + "/away").c_str()), 0);
  EXPECT_EQ(usage_.Read("id", directory_.path()).inodes, 2U);
}

TEST_F(DiskUsageTest, WalksALargeTreeBesideTheCall) {
  constexpr uint64_t kFiles = 3000;
  for (uint64_t i = 0; i < kFiles; ++i)
    Put("f" + std::to_string(i % 7) + "/" + std::to_string(i), 1);
  const DiskUsage::Figures first = usage_.Read("id", directory_.path());
  EXPECT_LT(first.inodes, kFiles);
  EXPECT_GT(first.inodes, 0U);
  EXPECT_EQ(usage_.Read("id", directory_.path()).inodes, first.inodes) << "still walking";
  background_.RunUntilIdle();
  EXPECT_EQ(usage_.Read("id", directory_.path()).inodes, kFiles + 7);
}

TEST_F(DiskUsageTest, ADeepTreeCostsNoDescriptors) {
  std::string path = directory_.path();
  for (int depth = 0; depth < 900; ++depth) path += "/d";
  ASSERT_TRUE(MakeDirectories(path).ok());
  EXPECT_EQ(usage_.Read("id", directory_.path()).inodes, 900U);
}

TEST_F(DiskUsageTest, AMissingTreeIsEmptyAndForgettingIsSafe) {
  EXPECT_EQ(usage_.Read("id", directory_.path() + "/absent").inodes, 0U);
  usage_.Forget("id");
  usage_.Forget("id");
}

}  // namespace
}  // namespace skiff::cri
