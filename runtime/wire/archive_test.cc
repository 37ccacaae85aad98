#include "runtime/wire/archive.h"

#include <gtest/gtest.h>

#include "runtime/wire/messages.h"
#include "runtime/wire/spec_archive.h"

namespace skiff::runtime {
namespace {

ContainerSpec Example() {
  ContainerSpec spec;
  spec.id = "web";
  spec.sandbox_id = "pod";
  spec.rootfs = {.lower_dirs = {"/a", "/b"}, .writable_dir = "/w", .readonly = true};
  spec.argv = {"sh", "-c", std::string("with\0nul", 8)};
  spec.mounts = {{.source = "/s", .target = "/t", .propagation = MountPropagation::kShared},
                 {.type = MountSpec::Type::kTmpfs, .target = "/tmp"}};
  spec.resources.cpu_shares = 7;
  spec.resources.cpu_quota_us = -1;
  spec.resources.unified = {{"memory.high", "1"}, {"io.max", "x"}};
  spec.oom_score_adj = -5;
  spec.user.additional_gids = {1, 2, 3};
  return spec;
}

TEST(Archive, RoundTrip) {
  std::string bytes = Encode(Example());
  auto copy = Decode<ContainerSpec>(bytes);
  ASSERT_TRUE(copy.ok());
  EXPECT_EQ(Encode(*copy), bytes);
  EXPECT_EQ(copy->argv[2].size(), 8U);
  EXPECT_EQ(copy->mounts[0].propagation, MountPropagation::kShared);
  EXPECT_EQ(copy->resources.cpu_quota_us, -1);
  EXPECT_FALSE(copy->resources.memory_limit_bytes.has_value());
  EXPECT_EQ(copy->resources.unified.at("io.max"), "x");
}

struct Old {
  uint32_t number = 1;
};
template <class A>
void Describe(A& archive, Old& o) {
  archive(o.number);
}
struct New {
  uint32_t number = 1;
  std::string text = "default";
  std::vector<Old> list;
};
template <class A>
void Describe(A& archive, New& n) {
  archive(n.number, n.text, n.list);
}

TEST(Archive, OlderAndNewerReadersUnderstandEachOther) {
  auto grown = Decode<New>(Encode(Old{.number = 5}));
  ASSERT_TRUE(grown.ok());
  EXPECT_EQ(grown->number, 5U);
  EXPECT_EQ(grown->text, "default");
  auto shrunk = Decode<Old>(Encode(New{.number = 6, .text = "new", .list = {Old{}, Old{}}}));
  ASSERT_TRUE(shrunk.ok());
  EXPECT_EQ(shrunk->number, 6U);
}

TEST(Archive, DamageIsDataLossNeverACrash) {
  const std::string bytes = Encode(Example());
  for (size_t length = 0; length < bytes.size(); ++length) {
    auto cut = Decode<ContainerSpec>(bytes.substr(0, length));
    ASSERT_FALSE(cut.ok()) << length;
    EXPECT_EQ(cut.error().code(), Code::kDataLoss);
  }
  for (size_t at = 0; at < bytes.size(); ++at) {
    std::string changed = bytes;
    changed[at] = '\xff';
    (void)Decode<ContainerSpec>(changed);  // any outcome but a crash; the sanitizers watch
  }
  EXPECT_FALSE(Decode<ContainerSpec>(bytes + "x").ok());
  // A list that claims four thousand million items.
  EXPECT_FALSE(Decode<New>(std::string("\x0c\0\0\0\1\0\0\0\0\0\0\0\xff\xff\xff\xff", 16)).ok());
}

TEST(Archive, EnumerationsAreBounded) {
  std::string bytes = Encode(LaunchFailure{.step = Step::kExec, .sys_errno = 2});
  ASSERT_TRUE(Decode<LaunchFailure>(bytes).ok());
  bytes[4] = 100;
  EXPECT_FALSE(Decode<LaunchFailure>(bytes).ok());
}

TEST(LaunchFailure, ReadsAsOneSentence) {
  Error error = LaunchError({.step = Step::kMount, .sys_errno = ENOENT, .subject = "open_tree /x"});
  EXPECT_EQ(error.message(), "mount open_tree /x: ENOENT (No such file or directory)");
  EXPECT_EQ(error.code(), Code::kNotFound);
}

}  // namespace
}  // namespace skiff::runtime
