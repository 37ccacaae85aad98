#include "tests/conformance/store/store_suite.h"

#include <atomic>
#include <future>
#include <random>
#include <thread>

#include "tests/conformance/store/watch_log.h"

namespace skiff::cp {

StoreSuite::StoreSuite() : directory_(TempDir::Make("store").value()) {
  store_ = GetParam().open(directory_.path(), pool_).value();
}
StoreSuite::~StoreSuite() { store_.reset(); }

void StoreSuite::Reopen() {
  store_.reset();
  store_ = GetParam().open(directory_.path(), pool_).value();
}

Revision StoreSuite::Put(const std::string& key, const std::string& value, LeaseId lease) {
  TxnResult result = store_->Txn({.ops = {Op::Put(key, value, lease)}}).value();
  EXPECT_TRUE(result.succeeded);
  return result.revision;
}

Revision StoreSuite::Delete(const std::string& key) {
  return store_->Txn({.ops = {Op::Delete(key)}}).value().revision;
}

namespace {

std::vector<std::string> Keys(const RangeResult& range) {
  std::vector<std::string> keys;
  for (const KeyValue& kv : range.kvs) keys.push_back(kv.key);
  return keys;
}
using Strings = std::vector<std::string>;

TEST_P(StoreSuite, StartsEmptyAtRevisionOne) {
  EXPECT_EQ(store_->CurrentRevision(), 1);
  RangeResult range = store_->Range({}).value();
  EXPECT_EQ(range.revision, 1);
  EXPECT_TRUE(range.kvs.empty());
  EXPECT_EQ(store_->Get("a").value(), std::nullopt);
}

TEST_P(StoreSuite, VersionsAndRevisionsCount) {
  Revision first = Put("a", "1");
  EXPECT_EQ(first, 2);
  Revision second = Put("a", "2");
  EXPECT_EQ(second, 3);
  EXPECT_EQ(store_->Get("a").value(), (KeyValue{"a", "2", first, second, 2, 0}));
  EXPECT_EQ(store_->Get("a", first).value(), (KeyValue{"a", "1", first, first, 1, 0}));
  EXPECT_EQ(store_->Get("a", 1).value(), std::nullopt);
  Revision deleted = Delete("a");
  EXPECT_EQ(store_->Get("a").value(), std::nullopt);
  EXPECT_EQ(store_->Get("a", second).value()->value, "2");
  Revision again = Put("a", "3");
  EXPECT_EQ(again, deleted + 1);
  EXPECT_EQ(store_->Get("a").value(), (KeyValue{"a", "3", again, again, 1, 0}));
}

TEST_P(StoreSuite, KeysAndValuesAreBytes) {
  const std::string key("k\0\xff\x01", 4);
  const std::string value("\0\xfe\0", 3);
  Put(key, value);
  Put("k", "");
  EXPECT_EQ(store_->Get(key).value()->value, value);
  EXPECT_EQ(store_->Get("k").value()->value, "");
  EXPECT_EQ(Keys(*store_->Range({.prefix = "k"})), (Strings{"k", key}));
}

TEST_P(StoreSuite, NothingChangedMeansNoRevision) {
  Revision before = Put("a", "1");
  TxnResult result = store_->Txn({.ops = {Op::Delete("absent")}}).value();
  EXPECT_TRUE(result.succeeded);
  EXPECT_EQ(result.revision, before);
  EXPECT_EQ(store_->Txn({}).value().revision, before);
  EXPECT_EQ(store_->CurrentRevision(), before);
}

TEST_P(StoreSuite, RangePagesInByteOrderAndCountsTheRest) {
  for (const char* key : {"p/c", "p/a", "q", "p/b", "p", "o", "p/d"}) Put(key, key);
  RangeResult all = store_->Range({.prefix = "p/"}).value();
  EXPECT_EQ(Keys(all), (Strings{"p/a", "p/b", "p/c", "p/d"}));
  EXPECT_EQ(all.remaining, 0);
  EXPECT_EQ(Keys(*store_->Range({})), (Strings{"o", "p", "p/a", "p/b", "p/c", "p/d", "q"}));

  RangeResult page = store_->Range({.prefix = "p/", .limit = 2}).value();
  EXPECT_EQ(Keys(page), (Strings{"p/a", "p/b"}));
  EXPECT_EQ(page.remaining, 2);
  // A later page shows the same revision, whatever has happened since.
  Delete("p/c");
  Put("p/bb", "");
  RangeResult next = store_
                         ->Range({.prefix = "p/",
                                  .start_key = page.kvs.back().key + '\0',
                                  .limit = 5,
                                  .revision = page.revision})
                         .value();
  EXPECT_EQ(Keys(next), (Strings{"p/c", "p/d"}));
  EXPECT_EQ(next.revision, page.revision);
  EXPECT_EQ(next.remaining, 0);
  EXPECT_EQ(Keys(*store_->Range({.prefix = "p/"})), (Strings{"p/a", "p/b", "p/bb", "p/d"}));
  // A start before the prefix does not widen the range, one behind it leaves nothing.
  EXPECT_EQ(store_->Range({.prefix = "p/", .start_key = "a"})->kvs.size(), 4u);
  EXPECT_TRUE(store_->Range({.prefix = "p/", .start_key = "q"})->kvs.empty());
}

TEST_P(StoreSuite, PrefixOfHighBytesHasNoEnd) {
  Put("\xff\xff", "1");
  Put("\xff", "2");
  Put("a", "3");
  EXPECT_EQ(Keys(*store_->Range({.prefix = "\xff"})), (Strings{"\xff", "\xff\xff"}));
}

TEST_P(StoreSuite, FutureRevisionIsRefused) {
  EXPECT_EQ(store_->Get("a", 100).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(store_->Range({.revision = 100}).error().code(), Code::kInvalidArgument);
}

TEST_P(StoreSuite, CompareAndSwap) {
  Revision a = Put("a", "1");
  TxnResult lost =
      store_->Txn({.compares = {{"a", a - 1}, {"none", 0}}, .ops = {Op::Put("a", "lost")}}).value();
  EXPECT_FALSE(lost.succeeded);
  EXPECT_EQ(lost.revision, a);
  ASSERT_EQ(lost.current.size(), 1u);
  EXPECT_EQ(lost.current[0], (KeyValue{"a", "1", a, a, 1, 0}));

  TxnResult won = store_
                      ->Txn({.compares = {{"a", a}, {"b", 0}},
                             .ops = {Op::Put("a", "2"), Op::Put("b", "1"), Op::Delete("c")}})
                      .value();
  EXPECT_TRUE(won.succeeded);
  EXPECT_EQ(won.revision, a + 1);
  EXPECT_TRUE(won.current.empty());
  EXPECT_EQ(store_->Get("a").value()->mod_revision, won.revision);
  EXPECT_EQ(store_->Get("b").value()->mod_revision, won.revision);
  // A creation of what exists.
  EXPECT_FALSE(store_->Txn({.compares = {{"b", 0}}, .ops = {Op::Put("b", "2")}})->succeeded);
  EXPECT_EQ(store_->Get("b").value()->value, "1");
  // A deletion compares like a change; a deleted key has revision 0.
  EXPECT_TRUE(
      store_->Txn({.compares = {{"b", won.revision}}, .ops = {Op::Delete("b")}})->succeeded);
  EXPECT_TRUE(store_->Txn({.compares = {{"b", 0}}, .ops = {Op::Put("b", "3")}})->succeeded);
}

TEST_P(StoreSuite, RefusesWhatIsBeyondTheLimits) {
  auto code = [&](TxnRequest request) {
    Result<TxnResult> result = store_->Txn(std::move(request));
    return result.ok() ? std::optional<Code>() : result.error().code();
  };
  EXPECT_EQ(code({.ops = {Op::Put("", "x")}}), Code::kInvalidArgument);
  EXPECT_EQ(code({.compares = {{"", 0}}}), Code::kInvalidArgument);
  EXPECT_EQ(code({.ops = {Op::Put("a", "1"), Op::Delete("a")}}), Code::kInvalidArgument);
  EXPECT_EQ(code({.ops = {Op::Put(std::string(kMaxKeyBytes + 1, 'k'), "")}}),
            Code::kInvalidArgument);
  EXPECT_EQ(code({.ops = {Op::Put("a", std::string(kMaxTxnBytes, 'v'))}}), Code::kInvalidArgument);
  EXPECT_EQ(code({.ops = {Op::Put("a", "1", 4711)}}), Code::kNotFound);
  TxnRequest many;
  for (size_t i = 0; i <= kMaxTxnOps; ++i) many.ops.push_back(Op::Put(std::to_string(i), ""));
  EXPECT_EQ(code(many), Code::kInvalidArgument);
  EXPECT_EQ(store_->CurrentRevision(), 1);
  many.ops.pop_back();
  many.ops.back().key = std::string(kMaxKeyBytes, '\xff');
  EXPECT_EQ(code(many), std::nullopt);
  EXPECT_EQ(store_->Range({})->kvs.size(), kMaxTxnOps);
}

TEST_P(StoreSuite, ConcurrentIncrementsLoseNothing) {
  constexpr int kThreads = 8, kEach = 25;
  Put("counter", "0");
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int done = 0; done < kEach;) {
        KeyValue kv = *store_->Get("counter").value();
        TxnRequest request{.compares = {{"counter", kv.mod_revision}},
                           .ops = {Op::Put("counter", std::to_string(std::stoi(kv.value) + 1))}};
        if (store_->Txn(request)->succeeded) ++done;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  KeyValue kv = *store_->Get("counter").value();
  EXPECT_EQ(kv.value, std::to_string(kThreads * kEach));
  EXPECT_EQ(kv.version, kThreads * kEach + 1);
  EXPECT_EQ(store_->CurrentRevision(), kThreads * kEach + 2);
}

TEST_P(StoreSuite, AcknowledgedMeansVisible) {
  for (int i = 0; i < 20; ++i) {
    Revision revision = Put("a", std::to_string(i));
    EXPECT_EQ(store_->Get("a").value()->value, std::to_string(i));
    EXPECT_GE(store_->Range({})->revision, revision);
    EXPECT_GE(store_->CurrentRevision(), revision);
  }
}

TEST_P(StoreSuite, WatchDeliversInOrderWithWhatWasBefore) {
  Put("w/a", "0");
  RangeResult list = store_->Range({.prefix = "w/"}).value();
  WatchLog log(*store_, {.prefix = "w/", .after_revision = list.revision}, StateOf(list));
  Put("w/a", "1");
  Put("x", "not watched");
  store_->Txn({.ops = {Op::Put("w/b", "1"), Op::Delete("w/a"), Op::Put("y", "")}}).value();
  Revision last = Put("w/c", "1");
  ASSERT_TRUE(log.WaitEvents(4));
  std::vector<EventPtr> events = log.events();
  EXPECT_EQ(events[0]->kv.value, "1");
  EXPECT_EQ(events[0]->prev_kv->value, "0");
  EXPECT_EQ(events[1]->revision(), events[2]->revision());
  EXPECT_EQ(events[2]->type, Event::Type::kDelete);
  EXPECT_EQ(events[2]->kv, (KeyValue{.key = "w/a", .mod_revision = events[1]->revision()}));
  EXPECT_EQ(events[3]->revision(), last);
  EXPECT_EQ(log.violations(), Strings{});
}

TEST_P(StoreSuite, WatchFromThePastGivesEveryEvent) {
  constexpr int kEvents = 1500;  // more than one batch, and more than a small tail keeps
  for (int i = 0; i < kEvents; i += 3) {
    store_
        ->Txn({.ops = {Op::Put("w/" + std::to_string(i % 7), std::to_string(i)),
                       Op::Put("w/x" + std::to_string(i % 11), ""),
                       Op::Put("w/y" + std::to_string(i % 13), "")}})
        .value();
  }
  WatchLog log(*store_, {.prefix = "w/", .after_revision = 1});
  ASSERT_TRUE(log.WaitEvents(kEvents));
  EXPECT_TRUE(log.WaitRevision(store_->CurrentRevision()));
  EXPECT_EQ(log.events().size(), static_cast<size_t>(kEvents));
  EXPECT_EQ(log.violations(), Strings{});
  EXPECT_EQ(log.state(), StateOf(*store_->Range({.prefix = "w/"})));
}

TEST_P(StoreSuite, WatchWaitsForAFutureRevision) {
  WatchLog log(*store_, {.after_revision = 3});
  Put("a", "2");
  Put("a", "3");
  Put("a", "4");
  ASSERT_TRUE(log.WaitEvents(1));
  EXPECT_EQ(log.events()[0]->kv.value, "4");
}

TEST_P(StoreSuite, ProgressReachesAnIdleWatch) {
  Revision start = Put("other", "1");
  WatchLog log(*store_, {.prefix = "w/", .after_revision = start, .progress = true});
  WatchLog silent(*store_, {.prefix = "w/", .after_revision = start});
  EXPECT_TRUE(log.WaitRevision(start));
  Revision later = Put("other", "2");
  EXPECT_TRUE(log.WaitRevision(later));
  EXPECT_TRUE(log.events().empty());
  EXPECT_EQ(silent.batches(), 0u);
}

TEST_P(StoreSuite, EndedWatchIsSilent) {
  WatchLog log(*store_, {.after_revision = 1});
  Put("a", "1");
  ASSERT_TRUE(log.WaitEvents(1));
  log.Stop();
  WatchLog other(*store_, {.after_revision = 1});
  Put("a", "2");
  ASSERT_TRUE(other.WaitEvents(2));
  EXPECT_EQ(log.events().size(), 1u);
}

TEST_P(StoreSuite, WatchMayEndItselfInItsReceiver) {
  std::unique_ptr<Watch> watch;
  std::mutex mutex;
  std::promise<void> received;
  std::atomic<int> calls = 0;
  {
    std::lock_guard lock(mutex);  // the receiver waits until the watch is there
    watch = store_
                ->StartWatch({.after_revision = 1},
                             [&](const WatchBatch&) {
                               std::lock_guard receiver_lock(mutex);
                               watch.reset();
                               if (++calls == 1) received.set_value();
                             })
                .value();
  }
  Put("a", "1");
  received.get_future().wait();
  Put("a", "2");
  WatchLog log(*store_, {.after_revision = 1});
  ASSERT_TRUE(log.WaitEvents(2));
  EXPECT_EQ(calls, 1);
}

TEST_P(StoreSuite, CompactionForgetsTheSupersededOnly) {
  Put("a", "1");
  Put("b", "1");
  Revision a2 = Put("a", "2");
  Revision gone = Delete("b");
  Put("c", "1");
  Revision a3 = Put("a", "3");
  ASSERT_TRUE(store_->Compact(gone).ok());
  EXPECT_EQ(store_->CompactedRevision(), gone);
  EXPECT_EQ(store_->Get("a", a2).error().code(), Code::kExpired);
  EXPECT_EQ(store_->Range({.revision = a2}).error().code(), Code::kExpired);
  EXPECT_EQ(store_->Get("a", gone).value()->value, "2");
  EXPECT_EQ(Keys(*store_->Range({.revision = gone})), (Strings{"a"}));
  EXPECT_EQ(store_->Get("a").value()->mod_revision, a3);
  EXPECT_EQ(Keys(*store_->Range({})), (Strings{"a", "c"}));
  EXPECT_EQ(store_->CurrentRevision(), a3);

  EXPECT_EQ(store_->Compact(gone).error().code(), Code::kExpired);
  EXPECT_EQ(store_->Compact(a3 + 1).error().code(), Code::kInvalidArgument);

  // A watch needs what is after its revision, no more.
  WatchLog expired(*store_, {.after_revision = gone - 1});
  EXPECT_EQ(expired.error()->code(), Code::kExpired);
  RangeResult list = store_->Range({.revision = gone}).value();
  WatchLog log(*store_, {.after_revision = gone}, StateOf(list));
  ASSERT_TRUE(log.WaitEvents(2));
  EXPECT_EQ(log.violations(), Strings{});
  EXPECT_EQ(log.state(), StateOf(*store_->Range({})));
}

TEST_P(StoreSuite, CompactingADeletionKeepsTheRevision) {
  Put("a", "1");
  Revision gone = Delete("a");
  ASSERT_TRUE(store_->Compact(gone).ok());
  EXPECT_EQ(store_->CurrentRevision(), gone);
  EXPECT_TRUE(store_->Range({})->kvs.empty());
  EXPECT_EQ(Put("a", "2"), gone + 1);
  EXPECT_EQ(store_->Get("a").value()->version, 1);
}

TEST_P(StoreSuite, ListAndWatchEqualTheStoreUnderLoad) {
  constexpr int kWriters = 3, kEach = 120;
  std::atomic<bool> writing = true;
  std::vector<std::thread> writers;
  for (int w = 0; w < kWriters; ++w) {
    writers.emplace_back([&, w] {
      std::minstd_rand random(static_cast<unsigned>(w + 1));
      for (int i = 0; i < kEach; ++i) {
        std::string key = "k/" + std::to_string(random() % 20);
        if (random() % 4 == 0) {
          (void)store_->Txn({.ops = {Op::Delete(key)}}).value();
        } else {
          (void)store_->Txn({.ops = {Op::Put(key, std::to_string(w * kEach + i))}}).value();
        }
      }
    });
  }
  // Watches begin in the middle of it, and the past is compacted away below them.
  std::vector<std::unique_ptr<WatchLog>> logs;
  std::thread compactor([&] {
    while (writing) {
      Revision revision = store_->CurrentRevision() - 50;
      if (revision > store_->CompactedRevision()) (void)store_->Compact(revision);
      std::this_thread::yield();
    }
  });
  for (int i = 0; i < 10; ++i) {
    RangeResult list = store_->Range({.prefix = "k/"}).value();
    logs.push_back(std::make_unique<WatchLog>(
        *store_, WatchRequest{.prefix = "k/", .after_revision = list.revision}, StateOf(list)));
    (void)store_->Txn({.ops = {Op::Put("k/extra", std::to_string(i))}}).value();
  }
  for (std::thread& writer : writers) writer.join();
  writing = false;
  compactor.join();
  Put("k/end", "");
  RangeResult end = store_->Range({.prefix = "k/"}).value();
  for (const auto& log : logs) {
    const bool complete = log->WaitRevision(end.revision);
    if (log->error()) {  // fell behind a compaction, and was told so
      EXPECT_EQ(log->error()->code(), Code::kExpired);
      continue;
    }
    ASSERT_TRUE(complete);
    EXPECT_EQ(log->violations(), Strings{});
    EXPECT_EQ(log->state(), StateOf(end));
  }
}

TEST_P(StoreSuite, LeasesTakeTheirKeysAlong) {
  LeaseId lease = store_->GrantLease(std::chrono::seconds(600)).value();
  ASSERT_NE(lease, 0);
  Put("l/a", "1", lease);
  Put("l/b", "1", lease);
  Put("l/c", "1", lease);
  Revision kept = Put("l/b", "2");  // the later put took it out of the lease
  EXPECT_EQ(store_->Get("l/a").value()->lease, lease);
  EXPECT_TRUE(store_->KeepLeaseAlive(lease).ok());
  ASSERT_TRUE(store_->RevokeLease(lease).ok());
  EXPECT_EQ(Keys(*store_->Range({.prefix = "l/"})), (Strings{"l/b"}));
  EXPECT_EQ(store_->CurrentRevision(), kept + 1);  // both in one revision
  EXPECT_EQ(store_->RevokeLease(lease).error().code(), Code::kNotFound);
  EXPECT_EQ(store_->KeepLeaseAlive(lease).error().code(), Code::kNotFound);
  EXPECT_EQ(store_->GrantLease(std::chrono::seconds(0)).error().code(), Code::kInvalidArgument);
}

TEST_P(StoreSuite, LeasesExpire) {
  LeaseId lease = store_->GrantLease(std::chrono::seconds(1)).value();
  Revision put = Put("l/a", "1", lease);
  WatchLog log(*store_, {.prefix = "l/", .after_revision = put - 1});
  ASSERT_TRUE(log.WaitEvents(2));
  EXPECT_EQ(log.events()[1]->type, Event::Type::kDelete);
  EXPECT_EQ(store_->Get("l/a").value(), std::nullopt);
}

TEST_P(StoreSuite, OpenedAgainItIsTheSame) {
  if (!GetParam().durable) return;
  LeaseId lease = store_->GrantLease(std::chrono::seconds(600)).value();
  Revision a1 = Put("a", "1");
  Put("a", "2", lease);
  Put("b", "1");
  Delete("b");
  ASSERT_TRUE(store_->Compact(a1).ok());
  RangeResult before = store_->Range({}).value();
  Reopen();
  RangeResult after = store_->Range({}).value();
  EXPECT_EQ(after.revision, before.revision);
  EXPECT_EQ(after.kvs, before.kvs);
  EXPECT_EQ(store_->CurrentRevision(), before.revision);
  EXPECT_EQ(store_->CompactedRevision(), a1);
  RangeResult list = store_->Range({.revision = a1}).value();
  WatchLog log(*store_, {.after_revision = a1}, StateOf(list));
  ASSERT_TRUE(log.WaitEvents(3));
  EXPECT_EQ(log.violations(), Strings{});
  ASSERT_TRUE(store_->RevokeLease(lease).ok());
  EXPECT_TRUE(store_->Range({})->kvs.empty());
}

}  // namespace

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(StoreSuite);

}  // namespace skiff::cp
