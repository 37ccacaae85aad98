// kill -9 in the middle of writing: what was acknowledged is there, and the revisions add up.
//
// The test starts itself again as a writer that acknowledges over a pipe, and kills it at random.

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <cstring>
#include <random>
#include <thread>

#include "base/os/files.h"
#include "base/os/spawn.h"
#include "control-plane/store/sqlite_store.h"
#include "tests/conformance/store/watch_log.h"

namespace skiff::cp {
namespace {

constexpr int kRounds = 20;
constexpr int kThreads = 4;
constexpr int kAckFd = 3;

// One acknowledged put; written in one write(2) below PIPE_BUF, so never torn.
struct Ack {
  int64_t thread;
  int64_t count;
  Revision revision;
};

std::string KeyOf(int64_t thread, int64_t count) {
  return "t" + std::to_string(thread) + "/" + std::to_string(count);
}

// What a value must be, so that a torn one shows.
std::string ValueOf(int64_t thread, int64_t count) {
  std::string value;
  while (value.size() < 300) value += KeyOf(thread, count) + ";";
  return value;
}

// Puts for ever: each thread a new key of its own with a shared one, and now and then compacts.
int RunWriter(const std::string& path, int64_t first) {
  auto store = OpenSqliteStore({.path = path});
  if (!store.ok()) return 2;
  std::vector<std::thread> threads;
  for (int64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&store, t, first] {
      for (int64_t i = first;; ++i) {
        auto result = (*store)->Txn({.ops = {Op::Put(KeyOf(t, i), ValueOf(t, i)),
                                             Op::Put("last/" + std::to_string(t), KeyOf(t, i))}});
        if (!result.ok()) _exit(3);
        Ack ack{t, i, result->revision};
        if (write(kAckFd, &ack, sizeof(ack)) != sizeof(ack)) _exit(4);
        if (t == 0 && i % 16 == 0) (void)(*store)->Compact(result->revision - 8);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return 0;
}

// Starts a writer, kills it after a while and returns what it had acknowledged.
std::vector<Ack> WriteAndKill(const std::string& path, int64_t first,
                              std::chrono::microseconds after) {
  Pipe pipe = MakePipe().value();
  PidRef writer = Spawn({.path = "/proc/self/exe",
                         .argv = {"store_kill_test", "--writer", path, std::to_string(first)},
                         .fds = {{pipe.write_end.get(), kAckFd}, {2, 2}}})
                      .value();
  pipe.write_end.Reset();
  std::vector<Ack> acks;
  std::thread killer;
  Ack ack;
  while (read(pipe.read_end.get(), &ack, sizeof(ack)) == sizeof(ack)) {
    acks.push_back(ack);
    if (acks.size() == 1) {
      killer = std::thread([&writer, after] {
        (void)writer.WaitEnd(std::chrono::duration_cast<std::chrono::milliseconds>(after));
        (void)writer.Signal(SIGKILL);
      });
    }
  }
  if (killer.joinable()) killer.join();
  ExitStatus status = writer.Reap().value();
  EXPECT_EQ(status.signal, SIGKILL) << "the writer ended by itself with " << status.code;
  return acks;
}

TEST(StoreKillTest, NothingAcknowledgedIsLost) {
  TempDir directory = TempDir::Make("store-kill").value();
  const std::string path = directory.path() + "/store.db";
  std::minstd_rand random(std::random_device{}());
  std::vector<Ack> acknowledged;
  Revision before = 1;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<Ack> acks = WriteAndKill(path, int64_t{round} * 1'000'000,
                                         std::chrono::microseconds(random() % 60'000));
    ASSERT_FALSE(acks.empty());
    acknowledged.insert(acknowledged.end(), acks.begin(), acks.end());

    auto store = OpenSqliteStore({.path = path}).value();
    RangeResult all = store->Range({}).value();
    std::map<std::string, KeyValue> state = StateOf(all);
    for (const Ack& ack : acknowledged) {
      auto found = state.find(KeyOf(ack.thread, ack.count));
      ASSERT_NE(found, state.end()) << "lost in round " << round;
      EXPECT_EQ(found->second.value, ValueOf(ack.thread, ack.count));
      EXPECT_EQ(found->second.mod_revision, ack.revision);
      EXPECT_LE(ack.revision, all.revision);
    }
    // A transaction is whole: the shared key names the newest of the thread's keys.
    std::map<Revision, int> keys_of_revision;
    for (const auto& [key, kv] : state) ++keys_of_revision[kv.mod_revision];
    for (int t = 0; t < kThreads; ++t) {
      auto last = state.find("last/" + std::to_string(t));
      if (last == state.end()) continue;
      EXPECT_EQ(state.at(last->second.value).mod_revision, last->second.mod_revision);
    }
    // One put each, so each revision made this key or is superseded in "last/": none is skipped.
    for (Revision revision = before + 1; revision <= all.revision; ++revision) {
      EXPECT_GE(keys_of_revision[revision], 1) << "no trace of revision " << revision;
    }
    before = all.revision;
    // The history that is left leads to the same state.
    Revision compacted = store->CompactedRevision();
    WatchLog log(*store, {.after_revision = compacted},
                 compacted == 0 ? std::map<std::string, KeyValue>()
                                : StateOf(*store->Range({.revision = compacted})));
    ASSERT_TRUE(log.WaitRevision(all.revision));
    EXPECT_EQ(log.violations(), std::vector<std::string>{});
    EXPECT_EQ(log.state(), state);
  }
  RecordProperty("acknowledged", static_cast<int>(acknowledged.size()));
}

TEST(StoreKillTest, OneProcessAtATime) {
  TempDir directory = TempDir::Make("store-lock").value();
  const std::string path = directory.path() + "/store.db";
  auto store = OpenSqliteStore({.path = path}).value();
  EXPECT_EQ(OpenSqliteStore({.path = path}).error().code(), Code::kFailedPrecondition);
  store.reset();
  EXPECT_TRUE(OpenSqliteStore({.path = path}).ok());
}

}  // namespace
}  // namespace skiff::cp

int main(int argc, char** argv) {
  if (argc == 4 && std::strcmp(argv[1], "--writer") == 0) {
    int64_t first = 0;
    std::from_chars(argv[3], argv[3] + std::strlen(argv[3]), first);
    return skiff::cp::RunWriter(argv[2], first);
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
