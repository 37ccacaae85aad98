#include "control-plane/api/kind.h"

#include <gtest/gtest.h>

#include "control-plane/api/cidr.h"

namespace skiff::cp {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

TEST(HumanAgeTest, FollowsKubectl) {
  WallTime now(hours(24 * 365 * 30));
  auto age = [&](seconds ago) { return HumanAge(now - ago, now); };
  EXPECT_EQ(HumanAge(WallTime{}, now), "<unknown>");
  EXPECT_EQ(age(seconds(-5)), "<invalid>");
  EXPECT_EQ(age(seconds(0)), "0s");
  EXPECT_EQ(age(seconds(119)), "119s");
  EXPECT_EQ(age(minutes(2)), "2m");
  EXPECT_EQ(age(seconds(125)), "2m5s");
  EXPECT_EQ(age(minutes(179)), "179m");
  EXPECT_EQ(age(minutes(185)), "3h5m");
  EXPECT_EQ(age(hours(47)), "47h");
  EXPECT_EQ(age(hours(49)), "2d1h");
  EXPECT_EQ(age(hours(24 * 400)), "400d");
  EXPECT_EQ(age(hours(24 * 800)), "2y70d");
}

TEST(FieldErrorsTest, SpeaksAsUpstream) {
  FieldErrors errors;
  FieldPath containers = FieldPath("spec").Child("containers");
  errors.Required(containers.Index(0).Child("name"));
  errors.Invalid(FieldPath("spec").Child("replicas"), -1, "must be greater than or equal to 0");
  errors.NotSupported(FieldPath("spec").Child("type"), "a\"b", {"x", "y"});
  errors.Duplicate(FieldPath("data").Key("k"), "k");
  errors.TooMany(FieldPath("spec"), 5, 3);
  ASSERT_EQ(errors.errors().size(), 5u);
  EXPECT_EQ(errors.errors()[0].ToString(), "spec.containers[0].name: Required value");
  EXPECT_EQ(errors.errors()[1].ToString(),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0");
  EXPECT_EQ(errors.errors()[2].ToString(),
            R"(spec.type: Unsupported value: "a\"b": supported values: "x", "y")");
  EXPECT_EQ(errors.errors()[3].ToString(), R"(data[k]: Duplicate value: "k")");
  EXPECT_EQ(errors.errors()[4].message, "Too many: 5: must have at most 3 items");
  EXPECT_TRUE(errors.ToString().starts_with("[spec.containers[0].name: Required value, "));
}

TEST(CidrTest, DropsHostBits) {
  auto text = [](std::string_view cidr) {
    auto parsed = ParseCidr(cidr);
    return parsed ? parsed->ToString() : "none";
  };
  EXPECT_EQ(text("10.1.2.3/8"), "10.0.0.0/8");
  EXPECT_EQ(text("fd00::1/64"), "fd00::/64");
  EXPECT_EQ(text("0.0.0.0/0"), "0.0.0.0/0");
  for (const char* bad : {"", "/", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1",
                          "10.0.0.0/08", "10.0.0.0/8 ", "10.0.0/8", "::/129"}) {
    EXPECT_EQ(text(bad), "none") << bad;
  }
}

}  // namespace
}  // namespace skiff::cp
