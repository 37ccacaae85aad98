#include "control-plane/store/sqlite_store.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <thread>

#include "base/async/executor.h"
#include "base/log.h"
#include "base/os/files.h"
#include "control-plane/store/lease_table.h"
#include "control-plane/store/sqlite_reader.h"
#include "control-plane/store/sqlite_writer.h"
#include "control-plane/store/validate.h"
#include "control-plane/store/watch_hub.h"

namespace skiff::cp {
namespace {

// One commit takes at most this many transactions and about this many bytes.
constexpr size_t kBatchJobs = 512;
constexpr size_t kBatchBytes = 8 << 20;

// Keeps every other process out of the file for as long as it is held (flock(2)).
Result<UniqueFd> LockFile(const std::string& path) {
  UniqueFd fd = TRY(OpenFile(path, O_RDWR | O_CREAT, 0600));
  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) {
      return Error(Code::kFailedPrecondition, "another process has the store open: " + path);
    }
    return Error::Sys(errno, "flock", path);
  }
  return fd;
}

// A fixed set of readers that threads borrow.
class ReaderPool {
 public:
  static Result<std::unique_ptr<ReaderPool>> Open(const std::string& path, int readers) {
    auto pool = std::make_unique<ReaderPool>();
    for (int i = 0; i < std::max(readers, 1); ++i) {
      pool->idle_.push_back(
          std::make_unique<SqliteReader>(TRY(SqliteReader::Open(path).With("open reader"))));
    }
    return pool;
  }

  // Runs the function with a reader, waiting for one if need be.
  template <class Function>
  auto With(Function function) {
    std::unique_ptr<SqliteReader> reader;
    {
      std::unique_lock lock(mutex_);
      returned_.wait(lock, [this] { return !idle_.empty(); });
      reader = std::move(idle_.back());
      idle_.pop_back();
    }
    auto result = function(*reader);
    {
      std::lock_guard lock(mutex_);
      idle_.push_back(std::move(reader));
    }
    returned_.notify_one();
    return result;
  }

 private:
  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<std::unique_ptr<SqliteReader>> idle_;
};

// A change that waits for the writer: it runs inside a batch, and is done when that is durable.
struct Job {
  std::function<Result<TxnResult>(SqliteWriter&)> run;
  Store::TxnDone done;
  size_t bytes = 0;
};

class SqliteStore : public Store {
 public:
  SqliteStore(const SqliteStoreOptions& options, UniqueFd lock, SqliteWriter writer,
              std::unique_ptr<ReaderPool> readers)
      : max_waiting_(options.max_waiting),
        lock_(std::move(lock)),
        readers_(std::move(readers)),
        writer_(std::move(writer)),
        compacted_(writer_.compacted()),
        watch_pool_("store-watch", 1),
        hub_(watch_pool_, {.tail_events = options.tail_events, .tail_bytes = options.tail_bytes},
             writer_.revision(),
             [this](const std::string& prefix, Revision after, Revision until) {
               return readers_->With(
                   [&](SqliteReader& reader) { return reader.ReadHistory(prefix, after, until); });
             }),
        leases_(watch_pool_, [this](LeaseId lease) { Expire(lease); }) {}

  // The leases' time starts here, as nobody could keep them alive while the store was closed.
  void Start(const std::vector<std::pair<LeaseId, int64_t>>& leases) {
    for (const auto& [lease, ttl] : leases) leases_.Add(lease, std::chrono::seconds(ttl));
    thread_ = std::thread([this] { WriteLoop(); });
    pthread_setname_np(thread_.native_handle(), "store-writer");
  }

  ~SqliteStore() override {
    {
      std::lock_guard lock(mutex_);
      closing_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }

  Result<std::optional<KeyValue>> Get(const std::string& key, Revision revision) override {
    return readers_->With([&](SqliteReader& reader) { return reader.Get(key, revision); });
  }

  Result<RangeResult> Range(const RangeRequest& request) override {
    return readers_->With([&](SqliteReader& reader) { return reader.Range(request); });
  }

  void Commit(TxnRequest request, TxnDone done) override {
    if (Result<> valid = ValidateTxn(request); !valid.ok()) return done(valid.error());
    size_t bytes = 0;
    for (const Op& op : request.ops) bytes += op.key.size() + op.value.size();
    Submit({[request = std::move(request)](SqliteWriter& writer) { return writer.Apply(request); },
            std::move(done), bytes});
  }

  Result<std::unique_ptr<Watch>> StartWatch(WatchRequest request, WatchReceiver receiver) override {
    Revision compacted = CompactedRevision();
    if (request.after_revision < compacted) {
      return CompactedError(request.after_revision, compacted);
    }
    return hub_.Start(std::move(request), std::move(receiver));
  }

  Revision CurrentRevision() override { return hub_.revision(); }

  Result<> Compact(Revision revision) override {
    return RunJob([revision](SqliteWriter& writer) { return writer.Compact(revision); });
  }

  Revision CompactedRevision() override {
    std::lock_guard lock(mutex_);
    return compacted_;
  }

  Result<LeaseId> GrantLease(std::chrono::seconds ttl) override {
    if (ttl.count() <= 0) return Error(Code::kInvalidArgument, "a lease lives at least a second");
    LeaseId lease = NewLeaseId();
    TRY(RunJob([&](SqliteWriter& writer) { return writer.InsertLease(lease, ttl.count()); }));
    leases_.Add(lease, ttl);
    return lease;
  }

  Result<> KeepLeaseAlive(LeaseId lease) override {
    if (!leases_.KeepAlive(lease)) return Error(Code::kNotFound, "no such lease");
    return {};
  }

  Result<> RevokeLease(LeaseId lease) override {
    TRY(RunJob([lease](SqliteWriter& writer) { return writer.RevokeLease(lease); }));
    leases_.Erase(lease);
    return {};
  }

 private:
  void Submit(Job job) {
    std::optional<Error> refusal;
    {
      std::lock_guard lock(mutex_);
      if (closing_) {
        refusal = Error(Code::kCancelled, "the store is closing");
      } else if (waiting_.size() >= max_waiting_) {
        refusal = Error(Code::kResourceExhausted, "too many transactions wait for the disk");
      } else {
        waiting_.push_back(std::move(job));
      }
    }
    if (refusal) return job.done(*std::move(refusal));
    wake_.notify_one();
  }

  // Runs a change that is not a transaction, and waits for it.
  template <class Function>
  Result<> RunJob(Function function) {
    std::promise<Result<TxnResult>> promise;
    Submit({[&function](SqliteWriter& writer) -> Result<TxnResult> {
              TRY(function(writer));
              return TxnResult{};
            },
            [&promise](Result<TxnResult> result) { promise.set_value(std::move(result)); }});
    TRY(promise.get_future().get());
    return {};
  }

  void Expire(LeaseId lease) {
    Submit({[lease](SqliteWriter& writer) -> Result<TxnResult> {
              TRY(writer.RevokeLease(lease));
              return TxnResult{};
            },
            [this, lease](Result<TxnResult> result) {
              // Otherwise the table reports the lease again.
              if (result.ok() || result.error().code() == Code::kNotFound) leases_.Erase(lease);
            }});
  }

  void WriteLoop() {
    bool scavenge = writer_.scavenging();
    while (std::optional<std::vector<Job>> batch = NextBatch(scavenge)) {
      scavenge = WriteBatch(*batch) && writer_.scavenging();
    }
  }

  // What waits, up to the limits of a batch; with scavenging to do it does not wait for more.
  // Nothing when the store is closing.
  std::optional<std::vector<Job>> NextBatch(bool scavenge) {
    std::vector<Job> batch;
    std::deque<Job> cancelled;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return closing_ || scavenge || !waiting_.empty(); });
      if (closing_) {
        cancelled.swap(waiting_);
      } else {
        TakeWaiting(batch);
        return batch;
      }
    }
    for (Job& job : cancelled) job.done(Error(Code::kCancelled, "the store is closing"));
    return std::nullopt;
  }

  // With the mutex held.
  void TakeWaiting(std::vector<Job>& batch) {
    size_t bytes = 0;
    while (!waiting_.empty() && batch.size() < kBatchJobs && bytes < kBatchBytes) {
      bytes += waiting_.front().bytes;
      batch.push_back(std::move(waiting_.front()));
      waiting_.pop_front();
    }
  }

  // One transaction of the database for all jobs; false when it failed.
  bool WriteBatch(std::vector<Job>& batch) {
    std::vector<Result<TxnResult>> results = RunBatch(batch);
    if (writer_.failure()) {
      Error failure = *writer_.failure();
      log::Error("store: writing failed, nothing of the batch is acknowledged",
                 {{"transactions", batch.size()}, {"error", failure}});
      writer_.Rollback();
      for (Job& job : batch) job.done(failure);
      return false;
    }
    if (std::vector<EventPtr> events = writer_.TakeEvents(); !events.empty()) {
      hub_.Publish(std::move(events), writer_.revision());
    }
    {
      std::lock_guard lock(mutex_);
      compacted_ = writer_.compacted();
    }
    for (size_t i = 0; i < batch.size(); ++i) batch[i].done(std::move(results[i]));
    return true;
  }

  // The results are to be given away only if the writer has no failure().
  std::vector<Result<TxnResult>> RunBatch(std::vector<Job>& batch) {
    std::vector<Result<TxnResult>> results;
    if (!writer_.Begin().ok()) return results;
    for (Job& job : batch) {
      results.push_back(job.run(writer_));
      if (writer_.failure()) return results;
    }
    if (writer_.scavenging() && !writer_.Scavenge().ok()) return results;
    (void)writer_.Commit();  // kept in failure()
    return results;
  }

  const size_t max_waiting_;
  UniqueFd lock_;
  std::unique_ptr<ReaderPool> readers_;
  SqliteWriter writer_;  // of the writer thread

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> waiting_;
  bool closing_ = false;
  Revision compacted_;

  ThreadPool watch_pool_;
  WatchHub hub_;
  LeaseTable leases_;
  std::thread thread_;
};

}  // namespace

Result<std::unique_ptr<Store>> OpenSqliteStore(SqliteStoreOptions options) {
  UniqueFd lock = TRY(LockFile(options.path + ".lock"));
  // SQLite gives its further files the mode of this one; there are secrets in them.
  TRY(OpenFile(options.path, O_RDWR | O_CREAT, 0600));
  SqliteWriter writer = TRY(SqliteWriter::Open(options.path).With("open store " + options.path));
  auto leases = TRY(writer.ListLeases());
  auto readers = TRY(ReaderPool::Open(options.path, options.readers));
  auto store = std::make_unique<SqliteStore>(options, std::move(lock), std::move(writer),
                                             std::move(readers));
  store->Start(leases);
  return std::unique_ptr<Store>(std::move(store));
}

}  // namespace skiff::cp
