#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/async/executor.h"
#include "control-plane/api/testing/fake_client.h"
#include "control-plane/controllers/framework/event_recorder.h"
#include "control-plane/controllers/framework/informer.h"
#include "control-plane/controllers/framework/objects.h"
#include "control-plane/controllers/framework/taints.h"
#include "control-plane/controllers/framework/work_queue.h"
#include "proto/k8s/apps/v1/apps.pb.h"
#include "proto/k8s/core/v1/config.pb.h"
#include "proto/k8s/core/v1/event.pb.h"
#include "proto/k8s/core/v1/placement.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"

namespace skiff::cp {
namespace {

using k8s::core::v1::ConfigMap;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;

TEST(WorkQueueTest, CoalescesAndWaitsForStart) {
  ManualExecutor executor;
  std::vector<std::string> processed;
  WorkQueue queue("test", executor, [&](const std::string& key) -> Result<> {
    processed.push_back(key);
    return {};
  });
  auto owner = std::make_shared<int>(0);
  queue.Add("a");
  queue.Add("b");
  queue.Add("a");
  executor.RunUntilIdle();
  EXPECT_THAT(processed, ElementsAre());
  queue.Start(owner);
  executor.RunUntilIdle();
  EXPECT_THAT(processed, ElementsAre("a", "b"));
  queue.Add("c");
  owner.reset();  // whoever owned the queue is gone
  executor.RunUntilIdle();
  EXPECT_THAT(processed, ElementsAre("a", "b"));
}

TEST(WorkQueueTest, FailuresBackOffAndSuccessForgets) {
  ManualExecutor executor;
  std::vector<SteadyTime> tries;
  int failures = 3;
  WorkQueue queue("test", executor, [&](const std::string&) -> Result<> {
    tries.push_back(executor.clock().Now());
    if (failures-- > 0) return Error(Code::kConflict, "again");
    return {};
  });
  auto owner = std::make_shared<int>(0);
  queue.Start(owner);
  queue.Add("a");
  executor.Advance(seconds(1));
  ASSERT_EQ(tries.size(), 4u);
  EXPECT_EQ(tries[1] - tries[0], milliseconds(5));
  EXPECT_EQ(tries[2] - tries[1], milliseconds(10));
  EXPECT_EQ(tries[3] - tries[2], milliseconds(20));
  failures = 1;
  queue.Add("a");
  executor.Advance(seconds(1));
  EXPECT_EQ(tries[5] - tries[4], milliseconds(5));
}

TEST(WorkQueueTest, TheEarlierDelayHolds) {
  ManualExecutor executor;
  int processed = 0;
  WorkQueue queue("test", executor, [&](const std::string&) -> Result<> {
    ++processed;
    return {};
  });
  auto owner = std::make_shared<int>(0);
  queue.Start(owner);
  queue.AddAfter("a", seconds(10));
  queue.AddAfter("a", seconds(5));
  queue.AddAfter("a", seconds(7));
  executor.Advance(seconds(5));
  EXPECT_EQ(processed, 1);
  executor.Advance(seconds(10));
  EXPECT_EQ(processed, 1);
}

class InformerTest : public testing::Test {
 protected:
  InformerTest() {
    by_app_ = informer_.AddIndex([](const ConfigMap& map) {
      auto app = map.metadata().labels().find("app");
      return app == map.metadata().labels().end() ? std::vector<std::string>()
                                                  : std::vector{app->second};
    });
    informer_.cache().Start(
        owner_,
        [this](const ObjectPtr& before, const ObjectPtr& now) {
          changes_.push_back(std::string(before ? "1" : "0") + (now ? "1" : "0"));
        },
        [this] { ++synced_; });
  }
  std::shared_ptr<const ConfigMap> Create(const std::string& name, const std::string& app) {
    ConfigMap map;
    map.mutable_metadata()->set_namespace_("ns");
    map.mutable_metadata()->set_name(name);
    (*map.mutable_metadata()->mutable_labels())["app"] = app;
    return client_.Create(map).value();
  }

  ManualExecutor executor_;
  FakeClient client_{executor_.clock()};
  std::shared_ptr<int> owner_ = std::make_shared<int>(0);
  Informer<ConfigMap> informer_{client_, executor_};
  int by_app_ = 0;
  int synced_ = 0;
  std::vector<std::string> changes_;
};

TEST_F(InformerTest, FollowsTheApiAndItsIndexes) {
  auto a = Create("a", "web");
  executor_.RunUntilIdle();
  EXPECT_EQ(synced_, 1);
  EXPECT_EQ(informer_.ByIndex(by_app_, "web").size(), 1u);
  ConfigMap changed = *a;
  (*changed.mutable_metadata()->mutable_labels())["app"] = "db";
  ASSERT_TRUE(client_.Update(changed).ok());
  executor_.RunUntilIdle();
  EXPECT_TRUE(informer_.ByIndex(by_app_, "web").empty());
  EXPECT_EQ(informer_.ByIndex(by_app_, "db").size(), 1u);
  ASSERT_TRUE(client_.Delete<ConfigMap>("ns", "a").ok());
  executor_.RunUntilIdle();
  EXPECT_EQ(informer_.Find("ns/a"), nullptr);
  EXPECT_TRUE(informer_.ByIndex(by_app_, "db").empty());
  EXPECT_THAT(changes_, ElementsAre("01", "11", "10"));
}

TEST_F(InformerTest, AssumedObjectsAreNotUndoneByOlderEvents) {
  executor_.RunUntilIdle();
  auto created = Create("a", "web");
  ConfigMap changed = *created;
  (*changed.mutable_data())["k"] = "v";
  auto stored = client_.Update(changed).value();
  informer_.Assume(stored);
  EXPECT_EQ(informer_.Find("ns/a")->data().at("k"), "v");
  executor_.RunUntilIdle();  // brings the creation, then the update
  EXPECT_EQ(informer_.Find("ns/a")->data().at("k"), "v");
}

TEST_F(InformerTest, AnObjectThatIsKnownIsNoChange) {
  auto created = Create("a", "web");
  executor_.RunUntilIdle();
  changes_.clear();
  informer_.Assume(created);
  EXPECT_THAT(changes_, testing::IsEmpty());
}

TEST_F(InformerTest, ResetForgetsWhatIsGoneButKeepsWhatIsNewer) {
  Create("a", "web");
  Create("b", "web");
  executor_.RunUntilIdle();
  client_.ResetWatches();  // the snapshot has a and b
  auto c = Create("c", "web");
  informer_.Assume(c);
  executor_.RunUntilIdle();
  EXPECT_EQ(informer_.size(), 3u);
  EXPECT_EQ(synced_, 2);
}

TEST(ObjectsTest, EqualIsWhatTheApiStoresAlike) {
  k8s::apps::v1::DeploymentStatus computed, stored;
  computed.set_replicas(0);
  EXPECT_TRUE(Equal(computed, stored));
  computed.set_replicas(1);
  EXPECT_FALSE(Equal(computed, stored));
}

TEST(EventRecorderTest, RepeatsRaiseTheCountAndFloodsAreCut) {
  ManualExecutor executor;
  FakeClient client(executor.clock());
  EventRecorder recorder(client, executor, "test-controller");
  k8s::core::v1::Pod pod;
  pod.mutable_metadata()->set_namespace_("ns");
  pod.mutable_metadata()->set_name("web");
  pod.mutable_metadata()->set_uid("u1");
  recorder.Warning(pod, "Failed", "no luck");
  executor.Advance(seconds(3));
  recorder.Warning(pod, "Failed", "no luck");
  executor.RunUntilIdle();
  auto events = client.List<k8s::core::v1::Event>().value().items;
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0]->count(), 2);
  EXPECT_EQ(events[0]->type(), "Warning");
  EXPECT_EQ(events[0]->involved_object().kind(), "Pod");
  EXPECT_EQ(events[0]->involved_object().api_version(), "v1");
  EXPECT_EQ(events[0]->source().component(), "test-controller");
  EXPECT_EQ(events[0]->last_timestamp().seconds() - events[0]->first_timestamp().seconds(), 3);
  for (int i = 0; i < 100; ++i) {
    executor.Advance(milliseconds(1));
    recorder.Normal(pod, "Flood", std::to_string(i));
  }
  executor.RunUntilIdle();
  EXPECT_EQ(client.List<k8s::core::v1::Event>().value().items.size(), 24u);  // 25 tokens, 2 used
}

struct TolerationCase {
  const char* key;
  const char* op;
  const char* value;
  const char* effect;
  bool tolerates;
};
class TolerationTest : public testing::TestWithParam<TolerationCase> {};
TEST_P(TolerationTest, AgainstKeyValueNoSchedule) {
  k8s::core::v1::Taint taint;
  taint.set_key("key");
  taint.set_value("value");
  taint.set_effect("NoSchedule");
  k8s::core::v1::Toleration toleration;
  toleration.set_key(GetParam().key);
  toleration.set_operator_(GetParam().op);
  toleration.set_value(GetParam().value);
  toleration.set_effect(GetParam().effect);
  EXPECT_EQ(Tolerates(toleration, taint), GetParam().tolerates);
}
INSTANTIATE_TEST_SUITE_P(
    Cases, TolerationTest,
    testing::Values(TolerationCase{"key", "Equal", "value", "NoSchedule", true},
                    TolerationCase{"key", "", "value", "", true},
                    TolerationCase{"key", "Equal", "other", "NoSchedule", false},
                    TolerationCase{"key", "Exists", "", "NoSchedule", true},
                    TolerationCase{"", "Exists", "", "", true},
                    TolerationCase{"", "Exists", "", "NoExecute", false},
                    TolerationCase{"", "Equal", "", "", false},
                    TolerationCase{"other", "Exists", "", "", false}));

}  // namespace
}  // namespace skiff::cp
