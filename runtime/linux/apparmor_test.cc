#include "runtime/linux/apparmor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/os/files.h"

namespace skiff::runtime {
namespace {

using Kind = AppArmorSpec::Kind;
using ::testing::HasSubstr;

class AppArmorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Write("/module/apparmor/parameters", "enabled", "Y\n");
    List("");
  }
  void Write(const std::string& folder, const std::string& name, const std::string& text) {
    ASSERT_TRUE(MakeDirectories(sys_.path() + folder).ok());
    ASSERT_TRUE(WriteFileAtomic(sys_.path() + folder + "/" + name, text).ok());
  }
  void List(const std::string& more) {
    Write("/kernel/security/apparmor", "profiles",
          "/usr/bin/man (enforce)\nmine (complain)\n" + more);
  }
  AppArmor Open() {
    return AppArmor(sys_.path(), [this](std::string_view source) -> Result<> {
      ++loads_;
      loaded_ = source;
      if (!broken_) List(std::string(AppArmor::kDefaultProfile) + " (enforce)\n");
      if (broken_) return Error(Code::kFailedPrecondition, "no parser");
      return {};
    });
  }

  TempDir sys_ = TempDir::Make("apparmor").value();
  int loads_ = 0;
  std::string loaded_;
  bool broken_ = false;
};

TEST_F(AppArmorTest, TheDefaultIsLoadedOnceAndWhenItIsNeeded) {
  AppArmor apparmor = Open();
  EXPECT_EQ(apparmor.ProfileFor({Kind::kUnconfined, ""}).value(), "");
  EXPECT_EQ(apparmor.ProfileFor({Kind::kProfile, "mine"}).value(), "mine");
  EXPECT_EQ(loads_, 0);
  EXPECT_EQ(apparmor.ProfileFor({Kind::kNodeDefault, ""}).value(), AppArmor::kDefaultProfile);
  EXPECT_EQ(apparmor.ProfileFor({Kind::kDefault, ""}).value(), AppArmor::kDefaultProfile);
  EXPECT_EQ(loads_, 1);
  EXPECT_THAT(loaded_, HasSubstr(std::string("profile ") + AppArmor::kDefaultProfile + " "));
  EXPECT_EQ(apparmor.Degradation(), "");
  List("");  // removed by others
  EXPECT_EQ(apparmor.ProfileFor({Kind::kDefault, ""}).value(), AppArmor::kDefaultProfile);
  EXPECT_EQ(loads_, 2);
}

TEST_F(AppArmorTest, AProfileThatIsNotLoadedIsNamed) {
  AppArmor apparmor = Open();
  for (const char* name : {"min", "mine (complain)", "other"}) {
    const auto profile = apparmor.ProfileFor({Kind::kProfile, name});
    EXPECT_EQ(profile.error().code(), Code::kInvalidArgument);
    EXPECT_THAT(profile.error().message(), HasSubstr(name));
  }
  EXPECT_EQ(apparmor.ProfileFor({Kind::kProfile, "/usr/bin/man"}).value(), "/usr/bin/man");
}

TEST_F(AppArmorTest, WithoutAParserWhoAsksForNothingGetsNothing) {
  broken_ = true;
  AppArmor apparmor = Open();
  EXPECT_EQ(apparmor.ProfileFor({Kind::kNodeDefault, ""}).value(), "");
  EXPECT_EQ(apparmor.ProfileFor({Kind::kDefault, ""}).error().code(), Code::kFailedPrecondition);
  EXPECT_THAT(apparmor.Degradation(), HasSubstr("no parser"));
  broken_ = false;  // it is installed after all
  EXPECT_EQ(apparmor.ProfileFor({Kind::kNodeDefault, ""}).value(), AppArmor::kDefaultProfile);
  EXPECT_EQ(apparmor.Degradation(), "");
}

TEST_F(AppArmorTest, AKernelWithoutItRefusesWhatItCannotDo) {
  Write("/module/apparmor/parameters", "enabled", "N\n");
  AppArmor apparmor = Open();
  EXPECT_FALSE(apparmor.enabled());
  EXPECT_EQ(apparmor.ProfileFor({Kind::kNodeDefault, ""}).value(), "");
  EXPECT_EQ(apparmor.ProfileFor({Kind::kUnconfined, ""}).value(), "");
  for (Kind kind : {Kind::kDefault, Kind::kProfile}) {
    EXPECT_EQ(apparmor.ProfileFor({kind, "mine"}).error().code(), Code::kInvalidArgument);
  }
  EXPECT_EQ(loads_, 0);
  EXPECT_EQ(apparmor.Degradation(), "");
  EXPECT_FALSE(AppArmor(sys_.path() + "/none").enabled());
}

}  // namespace
}  // namespace skiff::runtime
