#include "base/async/elastic_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <latch>

namespace skiff {
namespace {

TEST(ElasticPoolTest, BlockedWorkDoesNotHoldOtherWorkBack) {
  ThreadPool timers("test", 1);
  ElasticPool pool("elastic", 8, timers);
  // Passes only when all eight run at the same time.
  std::latch together(8);
  std::latch done(8);
  for (int i = 0; i < 8; ++i) {
    pool.Post([&] {
      together.arrive_and_wait();
      done.count_down();
    });
  }
  done.wait();
  EXPECT_LE(pool.threads(), 8);
}

TEST(ElasticPoolTest, NeverExceedsItsBound) {
  ThreadPool timers("test", 1);
  ElasticPool pool("elastic", 2, timers);
  std::atomic<int> running = 0;
  std::atomic<int> most = 0;
  std::latch done(64);
  for (int i = 0; i < 64; ++i) {
    pool.Post([&] {
      int now = ++running;
      int seen = most;
      while (now > seen && !most.compare_exchange_weak(seen, now)) {
      }
      --running;
      done.count_down();
    });
  }
  done.wait();
  EXPECT_LE(most, 2);
}

TEST(ElasticPoolTest, TimersRunOnThePool) {
  ThreadPool timers("test", 1);
  ElasticPool pool("elastic", 1, timers);
  std::promise<void> ran;
  pool.PostAfter(std::chrono::milliseconds(1), [&] { ran.set_value(); });
  ran.get_future().wait();
}

TEST(ElasticPoolTest, StopDropsLaterPostsAndReleasesWhatTheyHold) {
  ThreadPool timers("test", 1);
  auto held = std::make_shared<int>(1);
  ElasticPool pool("elastic", 1, timers);
  pool.Stop();
  pool.Post([held] { ADD_FAILURE() << "ran after Stop"; });
  EXPECT_EQ(held.use_count(), 1);
  EXPECT_EQ(pool.threads(), 0);
}

}  // namespace
}  // namespace skiff
