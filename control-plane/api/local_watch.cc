#include "control-plane/api/local_watch.h"

#include <deque>
#include <mutex>
#include <utility>

#include "control-plane/api/rest/present.h"

namespace skiff::cp {
namespace {

// A subscriber this far behind starts again from a snapshot.
constexpr size_t kMaxPendingLocal = 100'000;
constexpr std::chrono::seconds kCatchUpTime{3};

class Feed final : public CacheListener, public std::enable_shared_from_this<Feed> {
 public:
  Feed(WatchCache& cache, const KindInfo& kind, const KindInfo& stored, std::string_view ns,
       Executor& executor, Client::WatchCallback callback)
      : cache_(cache),
        kind_(kind),
        stored_(stored),
        ns_(ns),
        executor_(executor),
        callback_(std::move(callback)) {}

  void Begin() {
    executor_.Post([self = shared_from_this()] { self->Run(); });
  }

  // From the destructor of the subscription.
  void Stop() {
    std::unique_ptr<WatchCache::Registration> registration;
    {
      std::lock_guard lock(mutex_);
      stopped_ = true;
      pending_.clear();
      registration = std::move(registration_);
    }
  }

  void OnEvent(const CacheEventPtr& event) override {
    std::lock_guard lock(mutex_);
    if (stopped_ || lost_) return;
    if (pending_.size() >= kMaxPendingLocal) {
      lost_ = true;
      pending_.clear();
    } else {
      pending_.push_back(event);
    }
    Schedule();
  }
  void OnLost() override {
    std::lock_guard lock(mutex_);
    lost_ = true;
    pending_.clear();
    Schedule();
  }

 private:
  // Under the mutex.
  void Schedule() {
    if (stopped_ || std::exchange(scheduled_, true)) return;
    executor_.Post([self = shared_from_this()] { self->Run(); });
  }

  // On the executor; the mutex is not held while the callback runs.
  void Run() {
    std::unique_lock lock(mutex_);
    while (!stopped_) {
      if (std::exchange(lost_, false)) {
        lock.unlock();
        StartAgain();
        lock.lock();
      } else if (!pending_.empty()) {
        CacheEventPtr event = std::move(pending_.front());
        pending_.pop_front();
        lock.unlock();
        Deliver(*event);
        lock.lock();
      } else {
        scheduled_ = false;
        return;
      }
    }
  }

  void StartAgain() {
    // A registration is destroyed outside our mutex: the cache calls us with its own held.
    std::unique_ptr<WatchCache::Registration> old;
    {
      std::lock_guard lock(mutex_);
      old.swap(registration_);
    }
    old.reset();
    // What was acknowledged before the watch is in its snapshot. A cache that is late all the same
    // delivers the rest as events.
    (void)cache_.CatchUp(kCatchUpTime);
    auto subscribed = cache_.SubscribeFromNow(stored_, ns_, shared_from_this());
    {
      std::lock_guard lock(mutex_);
      if (!stopped_) registration_.swap(subscribed.registration);
    }
    if (!std::exchange(first_, false)) Call({WatchEvent::Type::kReset, nullptr, 0});
    for (const auto& object : subscribed.snapshot.objects) {
      Call({WatchEvent::Type::kAdded, Show(kind_, object->object), object->revision});
    }
    Call({WatchEvent::Type::kSynced, nullptr, subscribed.revision});
  }

  void Deliver(const CacheEvent& event) {
    const std::string& key = event.object->key;
    if (!ns_.empty() && !key.starts_with(ns_ + "/")) return;
    auto type = WatchEvent::Type::kModified;
    if (event.deleted) type = WatchEvent::Type::kDeleted;
    if (!event.previous) type = WatchEvent::Type::kAdded;
    Call({type, Show(kind_, event.object->object), event.revision});
  }

  void Call(const WatchEvent& event) {
    {
      std::lock_guard lock(mutex_);
      if (stopped_) return;
    }
    callback_(event);
  }

  WatchCache& cache_;
  const KindInfo& kind_;
  const KindInfo& stored_;
  const std::string ns_;
  Executor& executor_;
  const Client::WatchCallback callback_;
  bool first_ = true;  // on the executor
  std::mutex mutex_;
  std::unique_ptr<WatchCache::Registration> registration_;
  std::deque<CacheEventPtr> pending_;
  bool scheduled_ = true;  // by Begin
  bool lost_ = true;       // the first snapshot is taken like a new one
  bool stopped_ = false;
};

class LocalSubscription final : public Subscription {
 public:
  explicit LocalSubscription(std::shared_ptr<Feed> feed) : feed_(std::move(feed)) {}
  ~LocalSubscription() override { feed_->Stop(); }

 private:
  const std::shared_ptr<Feed> feed_;
};

}  // namespace

std::unique_ptr<Subscription> SubscribeLocally(WatchCache& cache, const KindInfo& kind,
                                               const KindInfo& stored, std::string_view ns,
                                               Executor& executor, Client::WatchCallback callback) {
  auto feed = std::make_shared<Feed>(cache, kind, stored, ns, executor, std::move(callback));
  feed->Begin();
  return std::make_unique<LocalSubscription>(std::move(feed));
}

}  // namespace skiff::cp
