// What is in the database file.
//
//   version   one row for each version of each key, also for its deletion
//     id               revision, position in the transaction and a deletion bit (RowId below), so
//                      that the table is in the order of events and an index over the key alone
//                      answers "which keys are live at a revision" without touching a value
//     key, value       opaque bytes
//     create_revision, generation (KeyValue::version), lease
//   lease     id, ttl_seconds
//   meta      name, value: "compacted" (reads below it are refused) and "scavenged" (superseded
//             rows up to it are gone)
//
// The file's application_id says that it is a Skiff store and its user_version is the version of
// this schema: a store of a newer one is refused, an older one is migrated (there is none yet).
#pragma once

#include <cstdint>

#include "control-plane/store/sqlite_db.h"
#include "control-plane/store/store.h"

namespace skiff::cp {

inline constexpr int64_t kSqliteApplicationId = 0x736b6966;  // "skif"
inline constexpr int64_t kSqliteSchemaVersion = 1;

// The primary key of a version.
struct RowId {
  static constexpr int kPositionBits = 16;
  static constexpr int64_t kMaxPosition = (int64_t{1} << kPositionBits) - 1;

  static int64_t Make(Revision revision, int64_t position, bool deleted) {
    return ((revision << kPositionBits | position) << 1) | (deleted ? 1 : 0);
  }
  // Greater than every id of the revision and smaller than those of the next one.
  static int64_t After(Revision revision) { return (revision + 1) << (kPositionBits + 1); }
  static Revision RevisionOf(int64_t id) { return id >> (kPositionBits + 1); }
  static bool Deleted(int64_t id) { return (id & 1) != 0; }
};

// Makes a new file a store, or checks that it is one this build can read. kDataLoss,
// kUnimplemented.
Result<> PrepareSchema(Database& database);

// The newest revision and the compaction mark, as this connection sees them now.
struct SqliteMarks {
  Revision current = 0;
  Revision compacted = 0;
};
inline constexpr char kMarksSql[] =
    "SELECT (SELECT max(id) FROM version), (SELECT value FROM meta WHERE name = 'compacted')";
// From a row of kMarksSql.
SqliteMarks ReadMarks(const Statement& row);

// Columns of the version table in the order that ReadKeyValue wants; the key is bound separately.
inline constexpr char kVersionColumns[] = "id, key, value, create_revision, generation, lease";
KeyValue ReadKeyValue(const Statement& row);

}  // namespace skiff::cp
