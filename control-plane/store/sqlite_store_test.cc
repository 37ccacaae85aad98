// What is special to the file: what it refuses to open, group commit, giving space back.

#include "control-plane/store/sqlite_store.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <future>

#include "base/os/files.h"
#include "control-plane/store/sqlite_db.h"
#include "control-plane/store/sqlite_schema.h"

namespace skiff::cp {
namespace {

class SqliteStoreTest : public testing::Test {
 protected:
  Result<std::unique_ptr<Store>> Open() { return OpenSqliteStore({.path = path_}); }
  void Sql(const std::string& sql) {
    Database database = Database::Open(path_, Database::Mode::kReadWrite).value();
    ASSERT_TRUE(database.Execute(sql).ok());
  }
  int64_t Number(const std::string& sql) {
    return Database::Open(path_, Database::Mode::kReadOnly)->QueryInt(sql).value();
  }
  // Each commit ends with a frame that says how large the database is now, others say 0
  // (sqlite.org/fileformat2.html#walformat). The log must not have been restarted yet.
  int CommitsInLog() {
    std::string log = ReadFile(path_ + "-wal").value();
    const size_t frame_bytes = 24 + static_cast<size_t>(Number("PRAGMA page_size"));
    int commits = 0;
    for (size_t frame = 32; frame + frame_bytes <= log.size(); frame += frame_bytes) {
      if (log.substr(frame + 4, 4) != std::string(4, '\0')) ++commits;
    }
    return commits;
  }

  TempDir directory_ = TempDir::Make("sqlite").value();
  std::string path_ = directory_.path() + "/store.db";
};

TEST_F(SqliteStoreTest, FileIsPrivate) {
  auto store = Open().value();
  ASSERT_TRUE(store->Txn({.ops = {Op::Put("secret", "x")}}).ok());
  for (const char* suffix : {"", "-wal", "-shm"}) {
    struct stat info;
    ASSERT_EQ(stat((path_ + suffix).c_str(), &info), 0) << suffix;
    EXPECT_EQ(info.st_mode & 0777, 0600u) << suffix;
  }
}

TEST_F(SqliteStoreTest, RefusesANewerSchema) {
  ASSERT_TRUE(Open().ok());
  Sql("PRAGMA user_version = " + std::to_string(kSqliteSchemaVersion + 1));
  EXPECT_EQ(Open().error().code(), Code::kUnimplemented);
}

TEST_F(SqliteStoreTest, RefusesWhatIsNoStore) {
  ASSERT_TRUE(WriteFileAtomic(path_, std::string(5000, 'x')).ok());
  EXPECT_EQ(Open().error().code(), Code::kDataLoss);
  ASSERT_TRUE(RemoveFile(path_).ok());
  Sql("CREATE TABLE foreign_table (x)");
  EXPECT_EQ(Open().error().code(), Code::kDataLoss);
  EXPECT_EQ(OpenSqliteStore({.path = directory_.path() + "/no/store.db"}).error().code(),
            Code::kNotFound);
}

TEST_F(SqliteStoreTest, WaitingTransactionsShareACommit) {
  constexpr int kTransactions = 200;
  auto store = Open().value();
  // The first one's callback holds the writer until all others wait for it.
  std::promise<void> entered, go;
  store->Commit({.ops = {Op::Put("first", "")}}, [&](Result<TxnResult>) {
    entered.set_value();
    go.get_future().wait();
  });
  entered.get_future().wait();
  std::vector<std::promise<Revision>> promises(kTransactions);
  for (int i = 0; i < kTransactions; ++i) {
    store->Commit({.ops = {Op::Put("k" + std::to_string(i), "")}},
                  [&promises, i](Result<TxnResult> result) {
                    promises[static_cast<size_t>(i)].set_value(result.value().revision);
                  });
  }
  const int commits_before = CommitsInLog();
  go.set_value();
  for (int i = 0; i < kTransactions; ++i) {
    EXPECT_EQ(promises[static_cast<size_t>(i)].get_future().get(), 3 + i);  // in order
  }
  EXPECT_EQ(CommitsInLog(), commits_before + 1);
}

// A limit on the size of files stands for a full disk; files may not grow while it lives.
class FullDisk {
 public:
  explicit FullDisk(const std::string& path) {
    signal(SIGXFSZ, SIG_IGN);
    struct stat info;
    CHECK(stat(path.c_str(), &info) == 0 && getrlimit(RLIMIT_FSIZE, &before_) == 0);
    rlimit limit = before_;
    limit.rlim_cur = static_cast<rlim_t>(info.st_size);
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  }
  ~FullDisk() { CHECK(setrlimit(RLIMIT_FSIZE, &before_) == 0); }

 private:
  rlimit before_;
};

TEST_F(SqliteStoreTest, AFullDiskRefusesWritesAndLosesNothing) {
  auto store = Open().value();
  Revision before = store->Txn({.ops = {Op::Put("a", std::string(100'000, 'a'))}}).value().revision;
  {
    FullDisk full(path_ + "-wal");
    EXPECT_FALSE(store->Txn({.ops = {Op::Put("a", std::string(500'000, 'b'))}}).ok());
    EXPECT_FALSE(store->GrantLease(std::chrono::seconds(10)).ok());
    EXPECT_EQ(store->Get("a").value()->value, std::string(100'000, 'a'));
    EXPECT_EQ(store->CurrentRevision(), before);
  }
  EXPECT_EQ(store->Txn({.ops = {Op::Put("b", "")}}).value().revision, before + 1);
  store.reset();
  store = Open().value();
  EXPECT_EQ(store->Get("a").value()->value, std::string(100'000, 'a'));
  EXPECT_EQ(store->CurrentRevision(), before + 1);
}

TEST_F(SqliteStoreTest, TooManyWaitingIsAnError) {
  auto store = OpenSqliteStore({.path = path_, .max_waiting = 2}).value();
  std::promise<void> entered, go;
  store->Commit({.ops = {Op::Put("a", "")}}, [&](Result<TxnResult>) {
    entered.set_value();
    go.get_future().wait();
  });
  entered.get_future().wait();
  std::promise<Result<TxnResult>> second, third, fourth;
  store->Commit({}, [&](Result<TxnResult> result) { second.set_value(std::move(result)); });
  store->Commit({}, [&](Result<TxnResult> result) { third.set_value(std::move(result)); });
  store->Commit({}, [&](Result<TxnResult> result) { fourth.set_value(std::move(result)); });
  EXPECT_EQ(fourth.get_future().get().error().code(), Code::kResourceExhausted);
  go.set_value();
  EXPECT_TRUE(second.get_future().get().ok());
  EXPECT_TRUE(third.get_future().get().ok());
}

TEST_F(SqliteStoreTest, CompactionRemovesSupersededRows) {
  auto store = Open().value();
  Revision last = 0;
  for (int i = 0; i < 1000; ++i) {
    TxnRequest request{.ops = {Op::Put("k" + std::to_string(i % 10), std::to_string(i)),
                               Op::Put("gone" + std::to_string(i), "")}};
    if (i > 0) request.ops.push_back(Op::Delete("gone" + std::to_string(i - 1)));
    last = store->Txn(std::move(request)).value().revision;
  }
  ASSERT_TRUE(store->Compact(last).ok());
  store.reset();           // stops scavenging, wherever it is
  store = Open().value();  // which goes on
  // A chunk goes along with each write: these are more than enough.
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(store->Txn({.ops = {Op::Put("k0", "")}}).ok());
  EXPECT_EQ(Number("SELECT count(*) FROM version WHERE id < " + std::to_string(RowId::After(last))),
            11);
  EXPECT_EQ(store->Range({})->kvs.size(), 11u);
}

}  // namespace
}  // namespace skiff::cp
