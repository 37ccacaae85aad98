#include "base/result.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>

namespace skiff {
namespace {

Result<int> Half(int n) {
  if (n % 2 != 0) return Error(Code::kInvalidArgument, "odd");
  return n / 2;
}

Result<int> Quarter(int n) {
  int half = TRY(Half(n).With("first"));
  return TRY(Half(half).With("second"));
}

TEST(ResultTest, TryPassesValuesAndErrors) {
  EXPECT_EQ(*Quarter(8), 2);
  auto bad = Quarter(6);
  ASSERT_FALSE(bad.ok());
  EXPECT_EQ(bad.error().code(), Code::kInvalidArgument);
  EXPECT_EQ(bad.error().message(), "second: odd");
}

TEST(ResultTest, CarriesMoveOnlyValues) {
  auto make = []() -> Result<std::unique_ptr<int>> { return std::make_unique<int>(7); };
  auto use = [&]() -> Result<int> { return *TRY(make()); };
  EXPECT_EQ(*use(), 7);
}

TEST(ResultTest, SysErrorsKeepErrnoSubjectAndCode) {
  Error error = Error::Sys(ENOENT, "open", "/no/such").With("read record");
  EXPECT_EQ(error.code(), Code::kNotFound);
  EXPECT_EQ(error.sys_errno(), ENOENT);
  EXPECT_EQ(error.message(), "read record: open /no/such: ENOENT (No such file or directory)");
}

TEST(ResultDeathTest, ReadingTheValueOfAnErrorEndsTheProcess) {
  EXPECT_DEATH(Half(1).value(), "value\\(\\) of an error: InvalidArgument: odd");
}

}  // namespace
}  // namespace skiff
