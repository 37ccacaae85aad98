#include "runtime/oci/features.h"

#include <gtest/gtest.h>

namespace skiff::runtime {
namespace {

TEST(OciFeaturesTest, ReadsWhatRuntimesSay) {
  // As runc 1.2 has it, shortened.
  const auto all = ParseOciFeatures(
      R"({"ociVersionMin":"1.0.0","ociVersionMax":"1.2.0","mountOptions":["ro","rro"],
          "linux":{"namespaces":["cgroup","user"],"apparmor":{"enabled":true},
                   "mountExtensions":{"idmap":{"enabled":true}}}})");
  ASSERT_TRUE(all);
  EXPECT_TRUE(all->user_namespaces && all->recursive_readonly && all->apparmor);
  EXPECT_EQ(DescribeFeatures(*all), "user namespaces, recursive read-only mounts, AppArmor");
  // As runc 1.1 has it: user namespaces without mapped mounts are none.
  const auto some = ParseOciFeatures(
      R"({"ociVersionMax":"1.0.2-dev","mountOptions":["rro"],"linux":{"namespaces":["user"]}})");
  ASSERT_TRUE(some);
  EXPECT_FALSE(some->user_namespaces || some->apparmor);
  EXPECT_TRUE(some->recursive_readonly);
}

TEST(OciFeaturesTest, NonsenseIsNothing) {
  for (const char* text :
       {"", "unknown command features\n", "[]", "{}", "{\"ociVersionMax\":", "7"}) {
    EXPECT_FALSE(ParseOciFeatures(text)) << text;
  }
  EXPECT_FALSE(ParseOciFeatures(std::string(100'000, '[')));
  const auto odd = ParseOciFeatures(
      R"({"ociVersionMax":1,"mountOptions":{"rro":1},"linux":{"namespaces":"user",
          "apparmor":{"enabled":"yes"},"mountExtensions":[1]}})");
  ASSERT_TRUE(odd);
  EXPECT_FALSE(odd->user_namespaces || odd->recursive_readonly || odd->apparmor);
  EXPECT_EQ(DescribeFeatures(*odd), "none of what is asked for");
}

}  // namespace
}  // namespace skiff::runtime
