#include "control-plane/store/sqlite_writer.h"

#include <algorithm>

#include "control-plane/store/sqlite_schema.h"
#include "control-plane/store/transaction.h"
#include "control-plane/store/validate.h"

namespace skiff::cp {
namespace {

constexpr int64_t kScavengeRows = 256;

// SQLite answers a pragma that it cannot follow (no shared memory on this file system) by going on
// without.
Result<> CheckDurable(Database& database) {
  Statement mode = TRY(database.Prepare("PRAGMA journal_mode"));
  TRY(mode.Step());
  if (mode.Blob(0) != "wal" || TRY(database.QueryInt("PRAGMA synchronous")) != 2) {
    return Error(Code::kUnimplemented, "this file system cannot hold a database in WAL mode");
  }
  return {};
}

}  // namespace

Result<SqliteWriter> SqliteWriter::Open(const std::string& path) {
  SqliteWriter writer(TRY(Database::Open(path, Database::Mode::kReadWrite)));
  Database& db = writer.database_;
  // FULL: in WAL mode each commit syncs the log (sqlite.org/pragma.html#pragma_synchronous).
  TRY(
      db.Execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -4096;"
                 "PRAGMA journal_size_limit = 16777216"));
  TRY(CheckDurable(db));
  TRY(PrepareSchema(db));
  TRY(writer.Prepare());
  TRY(writer.LoadMarks());
  return writer;
}

Result<> SqliteWriter::Prepare() {
  const std::string columns = kVersionColumns;
  latest_ = TRY(database_.Prepare("SELECT " + columns +
                                  " FROM version WHERE key = ?1 ORDER BY id DESC LIMIT 1"));
  insert_ = TRY(
      database_.Prepare("INSERT INTO version (" + columns + ") VALUES (?1, ?2, ?3, ?4, ?5, ?6)"));
  has_lease_ = TRY(database_.Prepare("SELECT 1 FROM lease WHERE id = ?1"));
  insert_lease_ = TRY(database_.Prepare("INSERT INTO lease (id, ttl_seconds) VALUES (?1, ?2)"));
  delete_lease_ = TRY(database_.Prepare("DELETE FROM lease WHERE id = ?1"));
  // The second condition lets the planner use the partial index.
  lease_keys_ =
      TRY(database_.Prepare("SELECT DISTINCT key FROM version WHERE lease = ?1 AND lease != 0"));
  set_mark_ = TRY(database_.Prepare("UPDATE meta SET value = ?2 WHERE name = CAST(?1 AS TEXT)"));
  to_scavenge_ = TRY(database_.Prepare(
      "SELECT id, key FROM version WHERE id > ?1 AND id < ?2 ORDER BY id LIMIT ?3"));
  delete_older_ = TRY(database_.Prepare("DELETE FROM version WHERE key = ?1 AND id < ?2"));
  delete_row_ = TRY(database_.Prepare("DELETE FROM version WHERE id = ?1"));
  return {};
}

Result<> SqliteWriter::LoadMarks() {
  Statement marks = TRY(database_.Prepare(kMarksSql));
  TRY(marks.Step());
  committed_.revision = ReadMarks(marks).current;
  committed_.compacted = ReadMarks(marks).compacted;
  committed_.scavenged = TRY(database_.QueryInt("SELECT value FROM meta WHERE name = 'scavenged'"));
  now_ = committed_;
  return {};
}

Result<> SqliteWriter::Begin() { return Keep(database_.Execute("BEGIN IMMEDIATE")); }

Result<> SqliteWriter::Commit() {
  if (failure_) return *failure_;
  Result<> result = database_.Execute("COMMIT");
  if (!result.ok()) {
    failure_ = Error(Code::kUnknownOutcome, result.error().message()).With("commit");
    return *failure_;
  }
  committed_ = now_;
  return {};
}

void SqliteWriter::Rollback() {
  // SQLite has rolled back already after some errors. A rollback that fails leaves the transaction
  // open; the next Begin then fails and says so.
  if (database_.InTransaction()) (void)database_.Execute("ROLLBACK");
  now_ = committed_;
  events_.clear();
  failure_.reset();
}

int64_t SqliteWriter::compaction_end() const {
  return now_.compacted == 0 ? 0 : RowId::After(now_.compacted);
}

Result<bool> SqliteWriter::HasLease(LeaseId lease) {
  StatementScope scope(has_lease_);
  return has_lease_.Bind(1, lease).Step();
}

Result<std::optional<KeyValue>> SqliteWriter::Latest(const std::string& key) {
  StatementScope scope(latest_);
  if (!TRY(latest_.Bind(1, key).Step()) || RowId::Deleted(latest_.Int(0))) {
    return std::optional<KeyValue>();
  }
  return std::optional<KeyValue>(ReadKeyValue(latest_));
}

Result<TxnResult> SqliteWriter::Apply(const TxnRequest& request) {
  TRY(ValidateTxn(request));
  TxnResult result =
      TRY(Check(request.compares, [this](const std::string& key) { return Keep(Latest(key)); }));
  if (result.succeeded) {
    for (const Op& op : request.ops) {
      if (op.lease != 0 && !TRY(Keep(HasLease(op.lease)))) {
        return Error(Code::kNotFound, "no such lease");
      }
    }
    TRY(Keep(Write(request.ops)));
  }
  result.revision = now_.revision;
  return result;
}

Result<> SqliteWriter::Write(const std::vector<Op>& ops) {
  Revision revision = now_.revision + 1;
  int64_t position = 0;
  for (const Op& op : ops) {
    std::shared_ptr<Event> event = EventOf(op, TRY(Latest(op.key)), revision);
    if (event == nullptr) continue;
    TRY(InsertVersion(*event, position++));
    events_.push_back(std::move(event));
  }
  if (position > 0) now_.revision = revision;
  return {};
}

Result<> SqliteWriter::InsertVersion(const Event& event, int64_t position) {
  const KeyValue& kv = event.kv;
  bool deleted = event.type == Event::Type::kDelete;
  insert_.Bind(1, RowId::Make(kv.mod_revision, position, deleted)).Bind(2, kv.key);
  if (deleted) {
    insert_.BindNull(3);
  } else {
    insert_.Bind(3, kv.value);
  }
  return insert_.Bind(4, kv.create_revision).Bind(5, kv.version).Bind(6, kv.lease).Run();
}

Result<> SqliteWriter::Compact(Revision revision) {
  TRY(ValidateCompaction(revision, now_.compacted, now_.revision));
  TRY(Keep(SetMark("compacted", revision)));
  now_.compacted = revision;
  return {};
}

Result<> SqliteWriter::SetMark(std::string_view name, int64_t value) {
  return set_mark_.Bind(1, name).Bind(2, value).Run();
}

Result<> SqliteWriter::InsertLease(LeaseId lease, int64_t ttl_seconds) {
  return Keep(insert_lease_.Bind(1, lease).Bind(2, ttl_seconds).Run());
}

Result<std::vector<std::string>> SqliteWriter::KeysOfLease(LeaseId lease) {
  std::vector<std::string> keys;
  StatementScope scope(lease_keys_);
  lease_keys_.Bind(1, lease);
  while (TRY(lease_keys_.Step())) keys.push_back(lease_keys_.Blob(0));
  return keys;
}

Result<> SqliteWriter::RevokeLease(LeaseId lease) {
  if (!TRY(Keep(HasLease(lease)))) return Error(Code::kNotFound, "no such lease");
  TRY(Keep(delete_lease_.Bind(1, lease).Run()));
  std::vector<Op> ops;
  for (std::string& key : TRY(Keep(KeysOfLease(lease)))) {
    // A later put may have taken the key out of the lease.
    std::optional<KeyValue> kv = TRY(Keep(Latest(key)));
    if (kv && kv->lease == lease) ops.push_back(Op::Delete(std::move(key)));
    if (std::ssize(ops) == RowId::kMaxPosition) {
      TRY(Keep(Write(ops)));
      ops.clear();
    }
  }
  return Keep(Write(ops));
}

Result<std::vector<std::pair<LeaseId, int64_t>>> SqliteWriter::ListLeases() {
  std::vector<std::pair<LeaseId, int64_t>> leases;
  Statement list = TRY(database_.Prepare("SELECT id, ttl_seconds FROM lease"));
  while (TRY(list.Step())) leases.emplace_back(list.Int(0), list.Int(1));
  return leases;
}

Result<> SqliteWriter::Scavenge() { return Keep(ScavengeChunk()); }

// What a row at or before the mark supersedes is visible to no read that is still allowed, and so
// is a deletion itself.
Result<> SqliteWriter::ScavengeChunk() {
  std::vector<std::pair<int64_t, std::string>> rows;
  {
    StatementScope scope(to_scavenge_);
    to_scavenge_.Bind(1, now_.scavenged).Bind(2, compaction_end()).Bind(3, kScavengeRows);
    while (TRY(to_scavenge_.Step())) rows.emplace_back(to_scavenge_.Int(0), to_scavenge_.Blob(1));
  }
  for (const auto& [id, key] : rows) {
    TRY(delete_older_.Bind(1, key).Bind(2, id).Run());
    if (RowId::Deleted(id)) TRY(delete_row_.Bind(1, id).Run());
  }
  now_.scavenged = std::ssize(rows) < kScavengeRows ? compaction_end() : rows.back().first;
  return SetMark("scavenged", now_.scavenged);
}

}  // namespace skiff::cp
