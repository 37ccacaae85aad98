#include <gtest/gtest.h>
#include <unistd.h>

#include "base/os/files.h"
#include "runtime/linux/cgroup_internal.h"

namespace skiff::runtime {
namespace {

TEST(ParsePressure, TakesBothLinesOfTheFile) {
  auto pressure = ParsePressure(
      "some avg10=1.50 avg60=0.25 avg300=0.01 total=123456\n"
      "full avg10=0.00 avg60=12.00 avg300=0.00 total=42\n");
  ASSERT_TRUE(pressure);
  EXPECT_DOUBLE_EQ(pressure->some.avg10, 1.5);
  EXPECT_DOUBLE_EQ(pressure->some.avg300, 0.01);
  EXPECT_EQ(pressure->some.total_us, 123456U);
  EXPECT_DOUBLE_EQ(pressure->full.avg60, 12.0);
  EXPECT_EQ(pressure->full.total_us, 42U);
}

TEST(ParsePressure, IsNothingWhereTheKernelKeepsNone) {
  EXPECT_FALSE(ParsePressure(""));
  EXPECT_FALSE(ParsePressure("what is this\n"));
  EXPECT_FALSE(ReadPressure("/nonexistent/cpu.pressure"));
}

TEST(ParseIoStat, TakesDevicesWithFigures) {
  auto devices = ParseIoStat(
      "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n"
      "7:0 \n"
      "253:1 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n");
  ASSERT_EQ(devices.size(), 2U);
  EXPECT_EQ(devices[0].major, 8U);
  EXPECT_EQ(devices[0].minor, 16U);
  EXPECT_EQ(devices[0].read_bytes, 1459200U);
  EXPECT_EQ(devices[0].write_bytes, 314773504U);
  EXPECT_EQ(devices[0].reads, 192U);
  EXPECT_EQ(devices[0].writes, 353U);
  EXPECT_EQ(devices[1].major, 253U);
  EXPECT_EQ(devices[1].reads, 1U);
}

TEST(ReadHugepages, FindsEachSizeThatHasFiles) {
  TempDir directory = *TempDir::Make();
  auto write = [&](const std::string& name, std::string_view text) {
    ASSERT_TRUE(WriteFileAtomic(directory.path() + "/" + name, text, Durability::kNone).ok());
  };
  write("hugetlb.2MB.current", "4194304\n");
  write("hugetlb.2MB.max", "max\n");
  write("hugetlb.2MB.rsvd.current", "0\n");
  write("memory.current", "1\n");
  auto pages = ReadHugepages(directory.path(), "current", "max_usage");
  ASSERT_EQ(pages.size(), 1U);
  EXPECT_EQ(pages[0].page_size, "2MB");
  EXPECT_EQ(pages[0].usage_bytes, 4194304U);
  EXPECT_FALSE(pages[0].max_usage_bytes);
}

TEST(ReadProcessUsage, CountsOwnDescriptors) {
  TempDir directory = *TempDir::Make();
  const std::string members = directory.path() + "/cgroup.procs";
  ASSERT_TRUE(WriteFileAtomic(members, std::to_string(::getpid()) + "\n", Durability::kNone).ok());
  auto before = ReadProcessUsage(members);
  ASSERT_TRUE(before);
  EXPECT_EQ(before->processes, 1U);
  Pipe pipe = *MakePipe();
  auto after = ReadProcessUsage(members);
  EXPECT_EQ(after->file_descriptors, before->file_descriptors + 2);
  EXPECT_EQ(after->sockets, before->sockets);
}

}  // namespace
}  // namespace skiff::runtime
