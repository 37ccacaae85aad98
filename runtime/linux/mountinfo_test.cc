#include "runtime/linux/mountinfo.h"

#include <gtest/gtest.h>

namespace skiff::runtime {
namespace {

constexpr std::string_view kMounts =
    "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
    "30 22 0:25 / /private rw - tmpfs tmpfs rw\n"
    "31 22 0:26 / /slave rw master:5 - tmpfs tmpfs rw\n"
    "32 22 0:27 / /with\\040blank rw shared:9 master:2 - tmpfs tmpfs rw\n"
    "33 30 0:28 / /private rw shared:10 - tmpfs tmpfs rw\n"
    "34 33 0:29 / /private/below rw - tmpfs tmpfs rw\n";

bool Good(const std::string& source, MountPropagation propagation) {
  return CheckPropagationIn(kMounts, source, propagation).ok();
}

TEST(CheckPropagation, GoesByTheMountThatHoldsThePath) {
  EXPECT_TRUE(Good("/var/lib", MountPropagation::kShared));
  EXPECT_TRUE(Good("/privateer", MountPropagation::kShared));  // no part of /private
  EXPECT_TRUE(Good("/slave/x", MountPropagation::kSlave));
  EXPECT_FALSE(Good("/slave/x", MountPropagation::kShared));
  EXPECT_TRUE(Good("/with blank", MountPropagation::kShared));
  EXPECT_TRUE(Good("/private/x", MountPropagation::kShared));  // the upper of two counts
  EXPECT_FALSE(Good("/private/below/x", MountPropagation::kSlave));
  EXPECT_TRUE(Good("/private/below/x", MountPropagation::kPrivate));
  EXPECT_EQ(
      CheckPropagationIn(kMounts, "/private/below/x", MountPropagation::kShared).error().message(),
      "path \"/private/below/x\" is mounted on \"/private/below\" but it is not a shared mount");
}

TEST(CheckPropagation, OddLinesDoNoHarm) {
  EXPECT_FALSE(CheckPropagationIn("", "/x", MountPropagation::kShared).ok());
  EXPECT_FALSE(CheckPropagationIn("\n\n - \nx\n1 2 3 4 \\04", "/x", MountPropagation::kSlave).ok());
}

}  // namespace
}  // namespace skiff::runtime
