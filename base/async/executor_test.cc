#include "base/async/executor.h"

#include <gtest/gtest.h>

#include <future>
#include <memory>
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

// Its closures keep it alive, as a strand's do; the executor's end must not leave it so for ever.
struct Actor : std::enable_shared_from_this<Actor> {
  explicit Actor(Executor& below) : strand(below) {}
  void Post() {
    strand.Post([self = shared_from_this()] { ++self->ran; });
  }
  Strand strand;
  int ran = 0;
};

TEST(StrandTest, ClosuresGoWithTheExecutorThatDropsThem) {
  std::weak_ptr<Actor> manual_owner;
  std::weak_ptr<Actor> pool_owner;
  {
    ManualExecutor manual;
    ThreadPool pool("test", 1);
    auto first = std::make_shared<Actor>(manual);
    auto second = std::make_shared<Actor>(pool);
    manual_owner = first;
    pool_owner = second;
    // Dropped before it ran, posted after the end, and posted by what goes then.
    first->Post();
    first->strand.Post(
        [last = std::shared_ptr<void>(nullptr, [first](void*) { first->Post(); })] {});
    pool.Stop();
    second->Post();
  }
  EXPECT_TRUE(manual_owner.expired());
  EXPECT_TRUE(pool_owner.expired());
}

TEST(StrandTest, GoesOnAfterItsExecutorDroppedATurn) {
  // Drops what it is told to.
  struct Lossy : ManualExecutor {
    void Post(Closure work) override {
      if (!lose) ManualExecutor::Post(std::move(work));
    }
    bool lose = true;
  } below;
  auto actor = std::make_shared<Actor>(below);
  actor->Post();
  below.lose = false;
  actor->Post();
  below.RunUntilIdle();
  EXPECT_EQ(actor->ran, 1);
  EXPECT_EQ(actor.use_count(), 1);
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
