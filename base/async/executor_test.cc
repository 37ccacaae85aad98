#include "base/async/executor.h"

#include <gtest/gtest.h>

#include <future>
#include <vector>

namespace skiff {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(ManualExecutorTest, RunsTimersInOrderOfTime) {
  ManualExecutor executor;
  std::vector<int> order;
  executor.PostAfter(seconds(2), [&] { order.push_back(2); });
  executor.PostAfter(seconds(1), [&] {
    order.push_back(1);
    executor.PostAfter(milliseconds(500), [&] { order.push_back(15); });
  });
  auto cancelled = executor.PostAfter(seconds(1), [&] { order.push_back(-1); });
  EXPECT_TRUE(executor.Cancel(cancelled));
  executor.Advance(seconds(3));
  EXPECT_EQ(order, (std::vector<int>{1, 15, 2}));
  EXPECT_FALSE(executor.Cancel(cancelled));
}

TEST(StrandTest, KeepsOrderAndExclusionOnManyThreads) {
  ThreadPool pool("test", 4);
  Strand strand(pool);
  std::vector<int> seen;
  std::promise<void> done;
  for (int i = 0; i < 1000; ++i) {
    strand.Post([&, i] {
      EXPECT_TRUE(strand.IsCurrent());
      seen.push_back(i);
      if (i == 999) done.set_value();
    });
  }
  done.get_future().wait();
  ASSERT_EQ(seen.size(), 1000u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(seen[static_cast<size_t>(i)], i);
  EXPECT_FALSE(strand.IsCurrent());
}

TEST(ThreadPoolTest, TimersRunAndCanBeCancelled) {
  ThreadPool pool("test", 2);
  std::promise<void> ran;
  auto never =
      pool.PostAfter(std::chrono::hours(1), [] { ADD_FAILURE() << "cancelled timer ran"; });
  pool.PostAfter(milliseconds(1), [&] { ran.set_value(); });
  ran.get_future().wait();
  EXPECT_TRUE(pool.Cancel(never));
  EXPECT_FALSE(pool.Cancel(never));
}

TEST(ThreadPoolTest, StopDropsPendingWorkAndReleasesWhatItHolds) {
  auto held = std::make_shared<int>(1);
  ThreadPool pool("test", 1);
  pool.PostAfter(std::chrono::hours(1), [held] {});
  pool.Stop();
  EXPECT_EQ(held.use_count(), 1);
  pool.Post([] { ADD_FAILURE() << "ran after Stop"; });
}

}  // namespace
}  // namespace skiff
