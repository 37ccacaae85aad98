#include "control-plane/store/memory_store.h"

#include <algorithm>
#include <deque>
#include <map>
#include <mutex>

#include "control-plane/store/lease_table.h"
#include "control-plane/store/transaction.h"
#include "control-plane/store/validate.h"
#include "control-plane/store/watch_hub.h"

namespace skiff::cp {
namespace {

// Small, so that tests of others also meet the way through the history.
constexpr WatchHub::Options kHubOptions{.tail_events = 64, .tail_bytes = 1 << 20};
constexpr size_t kMemoryHistoryEvents = 256;

struct Version {
  KeyValue kv;
  bool deleted = false;
};

class MemoryStore : public Store {
 public:
  explicit MemoryStore(Executor& executor)
      : hub_(executor, kHubOptions, revision_,
             [this](const std::string& prefix, Revision after, Revision until) {
               return ReadHistory(prefix, after, until);
             }),
        leases_(executor, [this](LeaseId lease) { (void)RevokeLease(lease); }) {}

  Result<std::optional<KeyValue>> Get(const std::string& key, Revision revision) override {
    std::lock_guard lock(mutex_);
    if (revision == 0) revision = revision_;
    TRY(ValidateReadRevision(revision, compacted_, revision_));
    auto found = versions_.find(key);
    if (found == versions_.end()) return std::optional<KeyValue>();
    return LiveAt(found->second, revision);
  }

  Result<RangeResult> Range(const RangeRequest& request) override {
    std::lock_guard lock(mutex_);
    RangeResult result;
    result.revision = request.revision == 0 ? revision_ : request.revision;
    TRY(ValidateReadRevision(result.revision, compacted_, revision_));
    auto next = versions_.lower_bound(std::max(request.prefix, request.start_key));
    for (; next != versions_.end() && next->first.starts_with(request.prefix); ++next) {
      std::optional<KeyValue> kv = LiveAt(next->second, result.revision);
      if (!kv) continue;
      if (request.limit > 0 && std::ssize(result.kvs) >= request.limit) {
        ++result.remaining;
      } else {
        result.kvs.push_back(*std::move(kv));
      }
    }
    return result;
  }

  void Commit(TxnRequest request, TxnDone done) override { done(Apply(request)); }

  Result<std::unique_ptr<Watch>> StartWatch(WatchRequest request, WatchReceiver receiver) override {
    std::lock_guard lock(mutex_);
    if (request.after_revision < compacted_) {
      return CompactedError(request.after_revision, compacted_);
    }
    return hub_.Start(std::move(request), std::move(receiver));
  }

  Revision CurrentRevision() override {
    std::lock_guard lock(mutex_);
    return revision_;
  }

  Result<> Compact(Revision revision) override {
    std::lock_guard lock(mutex_);
    TRY(ValidateCompaction(revision, compacted_, revision_));
    compacted_ = revision;
    for (auto next = versions_.begin(); next != versions_.end();) {
      std::vector<Version>& versions = next->second;
      auto newer = std::find_if(versions.begin(), versions.end(), [&](const Version& version) {
        return version.kv.mod_revision > revision;
      });
      // The one before it is what is live at the revision; it goes only if it is a deletion.
      if (newer != versions.begin() && !std::prev(newer)->deleted) --newer;
      versions.erase(versions.begin(), newer);
      next = versions.empty() ? versions_.erase(next) : std::next(next);
    }
    while (!log_.empty() && log_.front()->revision() <= revision) log_.pop_front();
    return {};
  }

  Revision CompactedRevision() override {
    std::lock_guard lock(mutex_);
    return compacted_;
  }

  Result<LeaseId> GrantLease(std::chrono::seconds ttl) override {
    if (ttl.count() <= 0) return Error(Code::kInvalidArgument, "a lease lives at least a second");
    LeaseId lease = NewLeaseId();
    leases_.Add(lease, ttl);
    return lease;
  }

  Result<> KeepLeaseAlive(LeaseId lease) override {
    if (!leases_.KeepAlive(lease)) return Error(Code::kNotFound, "no such lease");
    return {};
  }

  Result<> RevokeLease(LeaseId lease) override {
    std::lock_guard lock(mutex_);
    if (!leases_.Contains(lease)) return Error(Code::kNotFound, "no such lease");
    leases_.Erase(lease);
    std::vector<Op> ops;
    for (const auto& [key, versions] : versions_) {
      if (!versions.back().deleted && versions.back().kv.lease == lease) {
        ops.push_back(Op::Delete(key));
      }
    }
    ApplyOps(ops);
    return {};
  }

 private:
  static std::optional<KeyValue> LiveAt(const std::vector<Version>& versions, Revision revision) {
    for (auto version = versions.rbegin(); version != versions.rend(); ++version) {
      if (version->kv.mod_revision > revision) continue;
      if (version->deleted) return std::nullopt;
      return version->kv;
    }
    return std::nullopt;
  }

  std::optional<KeyValue> Live(const std::string& key) const {
    auto found = versions_.find(key);
    return found == versions_.end() ? std::nullopt : LiveAt(found->second, revision_);
  }

  Result<TxnResult> Apply(const TxnRequest& request) {
    TRY(ValidateTxn(request));
    std::lock_guard lock(mutex_);
    TxnResult result =
        TRY(Check(request.compares, [this](const std::string& key) { return Live(key); }));
    if (result.succeeded) {
      for (const Op& op : request.ops) {
        if (op.lease != 0 && !leases_.Contains(op.lease)) {
          return Error(Code::kNotFound, "no such lease");
        }
      }
      ApplyOps(request.ops);
    }
    result.revision = revision_;
    return result;
  }

  void ApplyOps(const std::vector<Op>& ops) {
    Revision revision = revision_ + 1;
    std::vector<EventPtr> events;
    for (const Op& op : ops) {
      std::shared_ptr<Event> event = EventOf(op, Live(op.key), revision);
      if (event == nullptr) continue;
      versions_[op.key].push_back({event->kv, event->type == Event::Type::kDelete});
      events.push_back(std::move(event));
    }
    if (events.empty()) return;
    revision_ = revision;
    log_.insert(log_.end(), events.begin(), events.end());
    hub_.Publish(std::move(events), revision);
  }

  Result<WatchHub::History> ReadHistory(const std::string& prefix, Revision after, Revision until) {
    std::lock_guard lock(mutex_);
    if (after < compacted_) return CompactedError(after, compacted_);
    WatchHub::History history{.until = until};
    auto next = std::upper_bound(
        log_.begin(), log_.end(), after,
        [](Revision revision, const EventPtr& event) { return revision < event->revision(); });
    Revision last = after;
    for (; next != log_.end() && (*next)->revision() <= until; ++next) {
      if ((*next)->revision() != last && history.events.size() >= kMemoryHistoryEvents) {
        history.until = last;
        break;
      }
      last = (*next)->revision();
      if ((*next)->kv.key.starts_with(prefix)) history.events.push_back(*next);
    }
    return history;
  }

  std::mutex mutex_;
  Revision revision_ = 1;
  Revision compacted_ = 0;
  std::map<std::string, std::vector<Version>> versions_;  // oldest first, never empty
  std::deque<EventPtr> log_;                              // every event after compacted_
  WatchHub hub_;
  LeaseTable leases_;
};

}  // namespace

std::unique_ptr<Store> MakeMemoryStore(Executor& executor) {
  return std::make_unique<MemoryStore>(executor);
}

}  // namespace skiff::cp
