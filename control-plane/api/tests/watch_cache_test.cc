#include "control-plane/api/cache/watch_cache.h"

#include <gtest/gtest.h>

#include "base/async/executor.h"
#include "control-plane/store/memory_store.h"
#include "proto/k8s/core/v1/config.pb.h"

namespace skiff::cp {
namespace {

class NoListener final : public CacheListener {
 public:
  void OnEvent(const CacheEventPtr&) override {}
  void OnLost() override {}
};

class WatchCacheTest : public testing::Test {
 protected:
  // Writes the object n times; the revision of each.
  std::vector<Revision> Write(int n) {
    k8s::core::v1::ConfigMap object;
    object.mutable_metadata()->set_name("a");
    std::vector<Revision> revisions;
    for (int i = 0; i < n; ++i) {
      (*object.mutable_data())["n"] = std::to_string(i);
      auto put = store_->Txn({{}, {Op::Put(StoragePrefix(kind_) + "ns/a", EncodeStored(object))}});
      revisions.push_back(put->revision);
    }
    EXPECT_TRUE(cache_->WaitFor(revisions.back(), std::chrono::seconds(30)));
    return revisions;
  }
  void Start(WatchCache::Options options) { cache_ = *WatchCache::Start(*store_, kinds_, options); }
  Result<WatchCache::Subscribed> After(Revision revision) {
    return cache_->SubscribeAfter(kind_, "", revision, std::make_shared<NoListener>());
  }

  ThreadPool pool_{"store", 1};
  std::unique_ptr<Store> store_ = MakeMemoryStore(pool_);
  const Kinds kinds_ = BuiltinKinds();
  const KindInfo& kind_ = *kinds_.FindResource("", "v1", "configmaps");
  std::unique_ptr<WatchCache> cache_;
};

TEST_F(WatchCacheTest, YoungEventsStayUpToTheMost) {
  Start({.min_events = 2, .max_events = 5});
  auto revisions = Write(9);
  EXPECT_EQ(After(revisions[2]).error().code(), Code::kExpired);
  EXPECT_EQ(After(revisions[3])->events.size(), 5u);
}

TEST_F(WatchCacheTest, OldEventsGoDownToTheLeast) {
  Start({.min_events = 2, .max_events = 5, .event_age = std::chrono::seconds(-1)});
  auto revisions = Write(9);
  EXPECT_EQ(After(revisions[5]).error().code(), Code::kExpired);
  EXPECT_EQ(After(revisions[6])->events.size(), 2u);
}

TEST_F(WatchCacheTest, EveryEventCanBeEncoded) {
  Start({.encoded_events = 1});
  auto revisions = Write(3);
  auto events = After(revisions[0])->events;
  ASSERT_EQ(events.size(), 2u);
  for (int round = 0; round < 2; ++round) {
    EXPECT_NE(events[0]->Json()->find(R"("n":"1")"), std::string::npos);
    EXPECT_NE(events[1]->Json()->find(R"("n":"2")"), std::string::npos);
    events[0]->ForgetJson();
  }
}

}  // namespace
}  // namespace skiff::cp
