#include "runtime/init/user.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace skiff::runtime {
namespace {

using ::testing::ElementsAre;

constexpr std::string_view kPasswd =
    "root:x:0:0:root:/root:/bin/sh\n"
    "# a comment\n"
    "broken line\n"
    "overflow:x:4294967296:1::/:/bin/sh\n"
    "www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n"
    "homeless:x:40:41::";
constexpr std::string_view kGroup =
    "root:x:0:\n"
    "staff:x:50:root,www-data\n"
    "www-data:x:33:\n"
    "video:x:44:someone,www-data";

TEST(FindUser, EmptyIsRootWithItsHome) {
  auto found = FindUser({}, kPasswd, kGroup);
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->ids.uid, 0U);
  EXPECT_EQ(found->home, "/root");
  EXPECT_THAT(found->ids.groups, ElementsAre(0, 50));
}

TEST(FindUser, NameGivesIdsGroupsAndHome) {
  auto found = FindUser({.user = "www-data", .additional_gids = {50, 1234}}, kPasswd, kGroup);
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->ids.uid, 33U);
  EXPECT_EQ(found->ids.gid, 33U);
  EXPECT_EQ(found->home, "/var/www");
  EXPECT_THAT(found->ids.groups, ElementsAre(33, 50, 44, 1234));
}

TEST(FindUser, StrictPolicyIgnoresTheImage) {
  auto found = FindUser({.user = "www-data", .additional_gids = {1234}, .groups_from_image = false},
                        kPasswd, kGroup);
  ASSERT_TRUE(found.ok());
  EXPECT_THAT(found->ids.groups, ElementsAre(33, 1234));
}

TEST(FindUser, NumberNeedsNoEntry) {
  auto found = FindUser({.user = "4000:5000"}, kPasswd, kGroup);
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->ids.uid, 4000U);
  EXPECT_EQ(found->ids.gid, 5000U);
  EXPECT_EQ(found->home, "/");
}

TEST(FindUser, GroupOfTheSpecWinsOverTheUsers) {
  auto found = FindUser({.user = "33:root", .group = "staff"}, kPasswd, kGroup);
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->ids.gid, 50U);
}

TEST(FindUser, LastLineWithoutNewlineAndHome) {
  auto found = FindUser({.user = "homeless"}, kPasswd, kGroup);
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->ids.gid, 41U);
  EXPECT_EQ(found->home, "/");
}

TEST(FindUser, UnknownNamesAreErrors) {
  EXPECT_EQ(FindUser({.user = "nobody"}, kPasswd, kGroup).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(FindUser({.user = "0:nobody"}, kPasswd, kGroup).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(FindUser({.user = "overflow"}, kPasswd, kGroup).error().code(), Code::kInvalidArgument);
  // -1 as uid would leave the process root.
  EXPECT_FALSE(FindUser({.user = "4294967295"}, kPasswd, kGroup).ok());
  EXPECT_FALSE(FindUser({.user = "-1"}, "", "").ok());
}

}  // namespace
}  // namespace skiff::runtime
