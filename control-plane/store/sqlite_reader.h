// SqliteReader: reads a store's file in snapshots, on a connection of its own.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "control-plane/store/sqlite_db.h"
#include "control-plane/store/store.h"
#include "control-plane/store/watch_hub.h"

namespace skiff::cp {

// One thread at a time. Every call is one read transaction.
class SqliteReader {
 public:
  static Result<SqliteReader> Open(const std::string& path);

  // As Store::Get and Store::Range.
  Result<std::optional<KeyValue>> Get(const std::string& key, Revision revision);
  Result<RangeResult> Range(const RangeRequest& request);
  // As WatchHub::ReadHistory.
  Result<WatchHub::History> ReadHistory(const std::string& prefix, Revision after, Revision until);

 private:
  explicit SqliteReader(Database database) : database_(std::move(database)) {}

  class Snapshot;

  Database database_;
  Statement begin_;
  Statement end_;
  Statement marks_;
  Statement get_;      // the newest version of a key before an id
  Statement list_;     // for each key of a span its newest id before an id
  Statement row_;      // a version by its id
  Statement history_;  // the versions of a span between two ids
};

}  // namespace skiff::cp
