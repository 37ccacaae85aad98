#include "control-plane/store/sqlite_reader.h"

#include <algorithm>

#include "control-plane/store/sqlite_schema.h"
#include "control-plane/store/validate.h"

namespace skiff::cp {
namespace {

// Events of one history read, rounded up to whole revisions.
constexpr size_t kHistoryEvents = 512;

// The bytes after every key with the prefix.
std::string SpanEnd(const std::string& prefix) {
  std::string end = PrefixEnd(prefix);
  return end.empty() ? std::string(kMaxKeyBytes + 1, '\xff') : end;
}

}  // namespace

// A read transaction, and what the store was when it began.
class SqliteReader::Snapshot {
 public:
  static Result<Snapshot> Begin(SqliteReader& reader) {
    TRY(reader.begin_.Run());
    Snapshot snapshot(reader);
    // The first read is what fixes the snapshot.
    StatementScope scope(reader.marks_);
    TRY(reader.marks_.Step());
    snapshot.marks_ = ReadMarks(reader.marks_);
    return snapshot;
  }
  Snapshot(Snapshot&& other) noexcept
      : reader_(std::exchange(other.reader_, nullptr)), marks_(other.marks_) {}
  ~Snapshot() {
    // Ending a read transaction changes nothing that could be lost.
    if (reader_ != nullptr) (void)reader_->end_.Run();
  }
  const SqliteMarks& marks() const { return marks_; }

 private:
  explicit Snapshot(SqliteReader& reader) : reader_(&reader) {}
  SqliteReader* reader_;
  SqliteMarks marks_;
};

Result<SqliteReader> SqliteReader::Open(const std::string& path) {
  const std::string select = std::string("SELECT ") + kVersionColumns + " FROM version ";
  SqliteReader reader(TRY(Database::Open(path, Database::Mode::kReadOnly)));
  Database& db = reader.database_;
  TRY(db.Execute("PRAGMA cache_size = -1024"));
  reader.begin_ = TRY(db.Prepare("BEGIN"));
  reader.end_ = TRY(db.Prepare("COMMIT"));
  reader.marks_ = TRY(db.Prepare(kMarksSql));
  reader.get_ = TRY(db.Prepare(select + "WHERE key = ?1 AND id < ?2 ORDER BY id DESC LIMIT 1"));
  // Answered by the index alone; values are fetched for the keys that are live only.
  reader.list_ =
      TRY(db.Prepare("SELECT max(id) FROM version INDEXED BY version_by_key"
                     " WHERE key >= ?1 AND key < ?2 AND id < ?3 GROUP BY key"));
  reader.row_ = TRY(db.Prepare(select + "WHERE id = ?1"));
  // The unary plus keeps the planner on the primary key: what is asked for is the recent past.
  reader.history_ =
      TRY(db.Prepare(select + "WHERE id >= ?1 AND id < ?2 AND +key >= ?3 AND +key < ?4"
                              " ORDER BY id"));
  return reader;
}

Result<std::optional<KeyValue>> SqliteReader::Get(const std::string& key, Revision revision) {
  Snapshot snapshot = TRY(Snapshot::Begin(*this));
  if (revision == 0) revision = snapshot.marks().current;
  TRY(ValidateReadRevision(revision, snapshot.marks().compacted, snapshot.marks().current));
  StatementScope scope(get_);
  get_.Bind(1, key).Bind(2, RowId::After(revision));
  if (!TRY(get_.Step()) || RowId::Deleted(get_.Int(0))) return std::optional<KeyValue>();
  return std::optional<KeyValue>(ReadKeyValue(get_));
}

Result<RangeResult> SqliteReader::Range(const RangeRequest& request) {
  Snapshot snapshot = TRY(Snapshot::Begin(*this));
  RangeResult result;
  result.revision = request.revision == 0 ? snapshot.marks().current : request.revision;
  TRY(ValidateReadRevision(result.revision, snapshot.marks().compacted, snapshot.marks().current));
  const std::string begin = std::max(request.prefix, request.start_key);
  const std::string end = SpanEnd(request.prefix);
  StatementScope scope(list_);
  list_.Bind(1, begin).Bind(2, end).Bind(3, RowId::After(result.revision));
  while (TRY(list_.Step())) {
    int64_t id = list_.Int(0);
    if (RowId::Deleted(id)) continue;
    if (request.limit > 0 && std::ssize(result.kvs) >= request.limit) {
      ++result.remaining;
      continue;
    }
    StatementScope row_scope(row_);
    if (!TRY(row_.Bind(1, id).Step())) {
      return Error(Code::kDataLoss, "a version is in the index only");
    }
    result.kvs.push_back(ReadKeyValue(row_));
  }
  return result;
}

Result<WatchHub::History> SqliteReader::ReadHistory(const std::string& prefix, Revision after,
                                                    Revision until) {
  Snapshot snapshot = TRY(Snapshot::Begin(*this));
  if (after < snapshot.marks().compacted) {
    return CompactedError(after, snapshot.marks().compacted);
  }
  WatchHub::History history{.until = until};
  const std::string end = SpanEnd(prefix);
  StatementScope scope(history_);
  history_.Bind(1, RowId::After(after)).Bind(2, RowId::After(until)).Bind(3, prefix).Bind(4, end);
  Revision last = after;
  while (TRY(history_.Step())) {
    auto event = std::make_shared<Event>();
    int64_t id = history_.Int(0);
    event->kv = ReadKeyValue(history_);
    if (event->revision() != last && history.events.size() >= kHistoryEvents) {
      history.until = last;
      break;
    }
    last = event->revision();
    if (RowId::Deleted(id)) {
      event->type = Event::Type::kDelete;
      event->kv = {.key = std::move(event->kv.key), .mod_revision = last};
    }
    StatementScope get_scope(get_);
    get_.Bind(1, event->kv.key).Bind(2, id & ~int64_t{1});
    if (TRY(get_.Step()) && !RowId::Deleted(get_.Int(0))) event->prev_kv = ReadKeyValue(get_);
    history.events.push_back(std::move(event));
  }
  return history;
}

}  // namespace skiff::cp
