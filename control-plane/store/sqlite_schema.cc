#include "control-plane/store/sqlite_schema.h"

#include <algorithm>
#include <string>

namespace skiff::cp {
namespace {

constexpr char kCreate[] = R"(
  CREATE TABLE version (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL,
    value BLOB,
    create_revision INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    lease INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX version_by_key ON version (key);
  CREATE INDEX version_by_lease ON version (lease) WHERE lease != 0;
  CREATE TABLE lease (id INTEGER PRIMARY KEY, ttl_seconds INTEGER NOT NULL) STRICT;
  CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
  INSERT INTO meta VALUES ('compacted', 0), ('scavenged', 0);
)";

}  // namespace

Result<> PrepareSchema(Database& database) {
  int64_t application = TRY(database.QueryInt("PRAGMA application_id"));
  int64_t schema = TRY(database.QueryInt("PRAGMA user_version"));
  int64_t objects = TRY(database.QueryInt("SELECT count(*) FROM sqlite_schema"));
  if (objects == 0 && application == 0) {
    TRY(database.Execute("BEGIN IMMEDIATE"));
    TRY(database.Execute(kCreate));
    TRY(database.Execute("PRAGMA application_id = " + std::to_string(kSqliteApplicationId)));
    TRY(database.Execute("PRAGMA user_version = " + std::to_string(kSqliteSchemaVersion)));
    return database.Execute("COMMIT");
  }
  if (application != kSqliteApplicationId) {
    return Error(Code::kDataLoss, "the file is an SQLite database, but not a store of Skiff");
  }
  if (schema != kSqliteSchemaVersion) {
    return Error(Code::kUnimplemented, "the store has schema version " + std::to_string(schema) +
                                           ", this build reads " +
                                           std::to_string(kSqliteSchemaVersion));
  }
  return {};
}

SqliteMarks ReadMarks(const Statement& row) {
  SqliteMarks marks;
  marks.compacted = row.Int(1);
  // An empty store is at revision 1; compaction may have removed the newest row, a deletion.
  marks.current = std::max({Revision{1}, RowId::RevisionOf(row.Int(0)), marks.compacted});
  return marks;
}

KeyValue ReadKeyValue(const Statement& row) {
  KeyValue kv;
  kv.mod_revision = RowId::RevisionOf(row.Int(0));
  kv.key = row.Blob(1);
  kv.value = row.Blob(2);
  kv.create_revision = row.Int(3);
  kv.version = row.Int(4);
  kv.lease = row.Int(5);
  return kv;
}

}  // namespace skiff::cp
