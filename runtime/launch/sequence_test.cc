#include "runtime/launch/sequence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace skiff::runtime {
namespace {

using ::testing::ElementsAre;

TEST(Sequence, FailureUndoesBackwardsItsOwnStepIncluded) {
  std::vector<std::string> log;
  auto step = [&](const char* name, bool good) {
    return SequenceStep{name,
                        [&log, name, good]() -> Result<> {
                          log.push_back(std::string("do ") + name);
                          if (!good) return Error::Sys(EBUSY, "call");
                          return {};
                        },
                        [&log, name]() -> Result<> {
                          log.push_back(std::string("undo ") + name);
                          return {};
                        }};
  };
  Result<> done = RunSequence({step("a", true), step("b", false), step("c", true)});
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().sys_errno(), EBUSY);
  EXPECT_TRUE(done.error().message().starts_with("b: call"));
  EXPECT_THAT(log, ElementsAre("do a", "do b", "undo b", "undo a"));
  log.clear();
  EXPECT_TRUE(RunSequence({step("a", true), step("b", true)}).ok());
  EXPECT_THAT(log, ElementsAre("do a", "do b"));
}

TEST(Sequence, FailedUndoIsToldAndStopsNothing) {
  bool first_undone = false;
  Result<> done = RunSequence({
      {"first", [] { return Result<>(); },
       [&] {
         first_undone = true;
         return Result<>();
       }},
      {"second", [] { return Result<>(); },
       [] { return Result<>(Error(Code::kInternal, "stuck")); }},
      {"third", [] { return Result<>(Error(Code::kNotFound, "cause")); }, {}},
  });
  EXPECT_TRUE(first_undone);
  EXPECT_EQ(done.error().code(), Code::kNotFound);
  EXPECT_EQ(done.error().message(), "third (and to undo \"second\": stuck): cause");
}

}  // namespace
}  // namespace skiff::runtime
