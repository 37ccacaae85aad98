#include "base/async/write_loop.h"

#include <gtest/gtest.h>

#include <vector>

namespace skiff {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class WriteLoopTest : public ::testing::Test {
 protected:
  struct Owner {
    Owner(Executor& below, WriteLoop::Timing timing) : loop(below, timing) {}
    WriteLoop loop;
  };
  void SetUp() override {
    owner_ = std::make_shared<Owner>(executor_, WriteLoop::Timing{.shortest_batch = milliseconds(3),
                                                                  .first_retry = seconds(1),
                                                                  .longest_retry = seconds(3),
                                                                  .look = seconds(30)});
    owner_->loop.Start(owner_, {.write = [this]() -> Result<> {
                                  ++writes_;
                                  if (fails_) return Error(Code::kUnavailable, "busy");
                                  return {};
                                },
                                .written =
                                    [this](const Result<>& result) {
                                      told_.push_back(result.ok());
                                      if (ends_) owner_.reset();
                                    },
                                .damaged = [this] { return std::exchange(damaged_, false); }});
  }
  void Soon() {
    owner_->loop.Post([this] { owner_->loop.WriteSoon(); });
  }
  void Now() {
    owner_->loop.Post([this] { owner_->loop.WriteNow(); });
  }

  ManualExecutor executor_;
  std::shared_ptr<Owner> owner_;
  int writes_ = 0;
  std::vector<bool> told_;
  bool fails_ = false, damaged_ = false, ends_ = false;
};

TEST_F(WriteLoopTest, ChangesThatComeTogetherAreWrittenTogether) {
  for (int i = 0; i < 5; ++i) Soon();
  executor_.Advance(milliseconds(2));
  EXPECT_EQ(writes_, 0);
  executor_.Advance(milliseconds(1));
  EXPECT_EQ(writes_, 1);
  Soon();
  Now();
  Now();
  executor_.RunUntilIdle();
  EXPECT_EQ(writes_, 2) << "at once";
  executor_.Advance(seconds(10));
  EXPECT_EQ(writes_, 2) << "and not once more";
  EXPECT_EQ(owner_->loop.GetStatus().writes, 2u);
}

TEST_F(WriteLoopTest, AFailureIsTriedAgainEverMoreRarely) {
  fails_ = true;
  Soon();
  executor_.Advance(milliseconds(3));
  EXPECT_EQ(writes_, 1);
  Soon();  // does not make it earlier
  executor_.Advance(milliseconds(999));
  EXPECT_EQ(writes_, 1);
  executor_.Advance(milliseconds(1));
  EXPECT_EQ(writes_, 2);
  executor_.Advance(milliseconds(1999));
  EXPECT_EQ(writes_, 2);
  executor_.Advance(milliseconds(1));
  EXPECT_EQ(writes_, 3);
  executor_.Advance(seconds(6));
  EXPECT_EQ(writes_, 5) << "every three seconds";
  Now();
  executor_.RunUntilIdle();
  EXPECT_EQ(writes_, 6) << "but this does";
  EXPECT_EQ(owner_->loop.GetStatus().failures, 6u);
  EXPECT_EQ(owner_->loop.GetStatus().last_error->code(), Code::kUnavailable);
  fails_ = false;
  executor_.Advance(seconds(3));
  EXPECT_FALSE(owner_->loop.GetStatus().last_error);
  EXPECT_EQ(told_, (std::vector<bool>{false, false, false, false, false, false, true}));
  executor_.Advance(seconds(20));
  EXPECT_EQ(writes_, 7);
}

TEST_F(WriteLoopTest, DamageIsRepaired) {
  damaged_ = true;
  executor_.Advance(seconds(29));
  EXPECT_EQ(writes_, 0);
  executor_.Advance(seconds(1));
  EXPECT_EQ(writes_, 1);
  damaged_ = true;
  owner_->loop.LookSoon();
  owner_->loop.LookSoon();
  executor_.RunUntilIdle();
  EXPECT_EQ(writes_, 2);
  EXPECT_EQ(owner_->loop.GetStatus().repairs, 2u);
  owner_->loop.LookSoon();
  executor_.RunUntilIdle();
  EXPECT_EQ(writes_, 2) << "nothing was damaged";
}

TEST_F(WriteLoopTest, NothingRunsOnceItIsStoppedOrItsOwnerIsGone) {
  Soon();
  executor_.RunUntilIdle();
  owner_->loop.Stop();
  damaged_ = true;
  Now();
  executor_.Advance(seconds(60));
  EXPECT_EQ(writes_, 0);
  owner_.reset();
  executor_.Advance(seconds(60));
}

TEST_F(WriteLoopTest, WhoWaitsMayEndTheOwner) {
  ends_ = true;
  Now();
  executor_.Advance(seconds(60));
  EXPECT_EQ(writes_, 1);
  EXPECT_EQ(owner_, nullptr);
}

}  // namespace
}  // namespace skiff
