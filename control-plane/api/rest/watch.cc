#include "control-plane/api/rest/watch.h"

#include <google/protobuf/message.h>

#include <algorithm>
#include <deque>
#include <mutex>
#include <utility>

#include "base/random.h"
#include "control-plane/api/rest/list.h"
#include "proto/codec/json.h"
#include "proto/codec/meta.h"
#include "proto/codec/wire.h"
#include "proto/k8s/meta/v1/object.pb.h"
#include "proto/k8s/meta/v1/status.pb.h"

namespace skiff::cp {
namespace {

constexpr std::chrono::seconds kBookmarkEvery{60};
// Without timeoutSeconds, between one and two of these: so that clients spread when they come back.
constexpr int64_t kDefaultTimeoutSeconds = 1800;
// Events that wait for a worker; a client this far behind lists anew.
constexpr size_t kMaxPending = 10'000;
// Bytes on their way to the client before we wait for it to read: where ResponseStream::OnDrained
// begins.
constexpr size_t kMaxQueuedBytes = http::Limits().max_queued_bytes / 2;

class WatchSession final : public CacheListener, public std::enable_shared_from_this<WatchSession> {
 public:
  explicit WatchSession(WatchStart start)
      : registry_(start.registry),
        workers_(start.workers),
        view_(std::move(start.view)),
        stored_(*start.stored),
        ns_(std::move(start.ns)),
        parameters_(std::move(start.parameters)),
        strand_(start.workers) {}

  void Begin(std::shared_ptr<http::ResponseWriter> writer) {
    http::Headers headers{{"Content-Type", ContentType(view_.accepted.format, true)},
                          {"Cache-Control", "no-cache, private"}};
    stream_ = writer->Stream(200, std::move(headers));
    stream_->OnClosed([self = weak_from_this()] {
      if (auto alive = self.lock()) alive->strand_.Post([alive] { alive->Finish(); });
    });
    strand_.Post([self = shared_from_this()] { self->Subscribe(); });
  }

  // ---- CacheListener: on the cache's thread ----
  void OnEvent(const CacheEventPtr& event) override {
    std::lock_guard lock(mutex_);
    if (pending_.size() >= kMaxPending) lost_ = true;
    if (!lost_) pending_.push_back(event);
    Schedule();
  }
  void OnLost() override {
    std::lock_guard lock(mutex_);
    lost_ = true;
    Schedule();
  }

 private:
  // Under the mutex.
  void Schedule() {
    if (std::exchange(scheduled_, true)) return;
    strand_.Post([self = shared_from_this()] { self->Pump(); });
  }

  void Subscribe() {
    WatchCache& cache = registry_.deps().cache;
    const Revision wanted = parameters_.revision.value_or(0);
    const bool initial = parameters_.send_initial_events.value_or(wanted == 0);
    // The newest state, or one at least as new as asked for.
    Revision at_least = parameters_.revision ? wanted : registry_.deps().store.CurrentRevision();
    if (!cache.WaitFor(at_least, kRevisionWait)) {
      SendError(ApiError::RevisionTooLarge(at_least, cache.revision()));
      return Finish();
    }
    if (initial || wanted == 0) {
      auto subscribed = cache.SubscribeFromNow(stored_, ns_, shared_from_this());
      registration_ = std::move(subscribed.registration);
      revision_ = subscribed.revision;
      if (initial) initial_ = std::move(subscribed.snapshot.objects);
      mark_initial_end_ = parameters_.send_initial_events == true && parameters_.bookmarks;
    } else {
      auto subscribed = cache.SubscribeAfter(stored_, ns_, wanted, shared_from_this());
      if (!subscribed.ok()) {
        SendError(ApiError::Expired(subscribed.error().message()));
        return Finish();
      }
      registration_ = std::move(subscribed->registration);
      revision_ = wanted;
      outgoing_.assign(subscribed->events.begin(), subscribed->events.end());
    }
    StartTimers();
    Pump();
  }

  // Sends what there is: first the initial objects, then the events, as fast as the client reads.
  void Pump() {
    bool lost = false;
    {
      std::lock_guard lock(mutex_);
      scheduled_ = false;
      lost = lost_;
    }
    if (lost) return Finish();  // the client comes back, and is told 410 if it must list
    while (!finished_ && HasMore()) {
      if (stream_->queued_bytes() > kMaxQueuedBytes) {
        return stream_->OnDrained([self = weak_from_this()] {
          if (auto alive = self.lock()) alive->strand_.Post([alive] { alive->Pump(); });
        });
      }
      SendNext();
    }
  }

  // Events are taken from the cache's side, where their number is bounded, only when they can go.
  bool HasMore() {
    if (initial_sent_ < initial_.size() || mark_initial_end_ || !outgoing_.empty()) return true;
    std::lock_guard lock(mutex_);
    outgoing_.assign(pending_.begin(), pending_.end());
    pending_.clear();
    return !outgoing_.empty();
  }

  void SendNext() {
    if (initial_sent_ < initial_.size()) {
      SendInitial(std::exchange(initial_[initial_sent_++], nullptr)->object);
      return;
    }
    initial_ = {};
    initial_sent_ = 0;
    if (std::exchange(mark_initial_end_, false)) return SendBookmark(revision_, true);
    CacheEventPtr event = std::move(outgoing_.front());
    outgoing_.pop_front();
    Send(*event);
  }

  void StartTimers() {
    int64_t seconds = parameters_.timeout_seconds.value_or(0);
    if (seconds <= 0) {
      auto spread = static_cast<unsigned char>(RandomBytes(1)[0]);
      seconds = kDefaultTimeoutSeconds + kDefaultTimeoutSeconds * spread / 256;
    }
    deadline_ = workers_.clock().Now() + std::chrono::seconds(seconds);
    SetTimer();
  }

  // One timer for the end and, until then, the bookmarks.
  void SetTimer() {
    if (finished_) return;
    auto left = std::max(deadline_ - workers_.clock().Now(), SteadyTime::duration::zero());
    if (parameters_.bookmarks) left = std::min<SteadyTime::duration>(left, kBookmarkEvery);
    timer_ = strand_.PostAfter(left, [self = weak_from_this()] {
      auto alive = self.lock();
      if (!alive || alive->finished_) return;
      if (alive->workers_.clock().Now() >= alive->deadline_) return alive->Finish();
      alive->SendProgress();
      alive->SetTimer();
    });
  }

  bool Wanted(const Message& object) const {
    return parameters_.filter.Matches(*view_.kind, object);
  }

  bool InNamespace(const std::string& key) const {
    return ns_.empty() ||
           (key.size() > ns_.size() && key.starts_with(ns_) && key[ns_.size()] == '/');
  }

  void SendInitial(const ObjectPtr& stored) {
    ObjectPtr object = Show(*view_.kind, stored);
    if (Wanted(*object)) SendObject("ADDED", *object, nullptr);
  }

  // An object that begins or ceases to match the selectors is added or deleted for this client.
  void Send(const CacheEvent& event) {
    revision_ = event.revision;
    if (!InNamespace(event.object->key)) return;
    ObjectPtr now = Show(*view_.kind, event.object->object);
    bool matches = !event.deleted && Wanted(*now);
    bool matched = event.previous && Wanted(*Show(*view_.kind, event.previous->object));
    const CacheEvent* shared = view_.kind->view ? nullptr : &event;
    if (matches) return SendObject(matched ? "MODIFIED" : "ADDED", *now, shared);
    if (!matched) return;
    if (event.deleted) return SendObject("DELETED", *now, shared);
    // Its last matching state, under the version at which it ceased to match.
    ObjectPtr last = Show(*view_.kind, WithRevision(*event.previous->object, event.revision));
    SendObject("DELETED", *last, nullptr);
  }

  // event: whose encoding can be shared, or null.
  void SendObject(std::string_view type, const Message& object, const CacheEvent* event) {
    const Accepted& accepted = view_.accepted;
    if (accepted.shape == Shape::kObject && accepted.format == Format::kJson && event != nullptr) {
      return SendJson(type, *event->Json());
    }
    view_.now = registry_.deps().clock.WallNow();
    std::string encoded = EncodeShaped(view_, object, !std::exchange(columns_sent_, true));
    if (accepted.format == Format::kProtobuf) {
      return Write(codec::EncodeWatchFrame(type, encoded));
    }
    if (encoded.ends_with('\n')) encoded.pop_back();
    SendJson(type, encoded);
  }

  void SendJson(std::string_view type, const std::string& object) {
    std::string line;
    line.reserve(object.size() + 40);
    line.append(R"({"type":")").append(type).append(R"(","object":)").append(object).append("}\n");
    Write(std::move(line));
  }

  // Everything up to here has been sent, whether or not the last events were of this kind.
  void SendProgress() {
    Revision revision = registry_.deps().cache.revision();  // before looking at what is pending
    {
      std::lock_guard lock(mutex_);
      if (!pending_.empty()) revision = 0;
    }
    if (outgoing_.empty() && initial_.empty()) SendBookmark(std::max(revision, revision_), false);
  }

  // An object of the kind with nothing but the version: "you have seen everything up to here".
  void SendBookmark(Revision revision, bool initial_events_end) {
    std::unique_ptr<Message> mark(view_.kind->prototype->New());
    auto* meta = codec::MutableMetaOf(mark.get());
    meta->set_resource_version(std::to_string(revision));
    if (initial_events_end) (*meta->mutable_annotations())["k8s.io/initial-events-end"] = "true";
    SendObject("BOOKMARK", *mark, nullptr);
  }

  void SendError(const ApiError& error) {
    std::string status = EncodeMessage(error.ToStatus(), view_.accepted.format);
    if (view_.accepted.format == Format::kProtobuf) {
      return Write(codec::EncodeWatchFrame("ERROR", status));
    }
    status.pop_back();
    SendJson("ERROR", status);
  }

  void Write(std::string bytes) {
    if (!finished_ && !stream_->Write(std::move(bytes))) Finish();
  }

  void Finish() {
    if (std::exchange(finished_, true)) return;
    registration_.reset();
    strand_.Cancel(timer_);
    stream_->End();
  }

  Registry& registry_;
  Executor& workers_;
  View view_;
  const KindInfo& stored_;
  const std::string ns_;
  const ListParameters parameters_;
  Strand strand_;
  std::shared_ptr<http::ResponseStream> stream_;
  // On the strand:
  std::unique_ptr<WatchCache::Registration> registration_;
  SteadyTime deadline_;
  Executor::TimerId timer_ = 0;
  Revision revision_ = 0;  // everything up to here has been sent
  std::vector<StoredPtr> initial_;
  size_t initial_sent_ = 0;
  bool mark_initial_end_ = false;
  std::deque<CacheEventPtr> outgoing_;
  bool columns_sent_ = false;
  bool finished_ = false;
  // From the cache's thread:
  std::mutex mutex_;
  std::vector<CacheEventPtr> pending_;
  bool scheduled_ = false;
  bool lost_ = false;
};

}  // namespace

ApiResult<void> StartWatch(WatchStart start, std::shared_ptr<http::ResponseWriter> writer) {
  std::make_shared<WatchSession>(std::move(start))->Begin(std::move(writer));
  return {};
}

}  // namespace skiff::cp
