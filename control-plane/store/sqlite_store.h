// The embedded store: one SQLite file in WAL mode.
//
// One writer thread commits the transactions waiting for it together (group commit: one fsync for
// all of them); readers take snapshots over connections of their own and never wait for it.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

#include "control-plane/store/store.h"

namespace skiff::cp {

struct SqliteStoreOptions {
  std::string path;  // of the database file; its directory must exist
  // Connections for reading; a further reader waits for one.
  int readers = 4;
  // Recent events kept in memory for watches; older ones are read from the file. What the watches
  // of a process that keeps up have not had yet is a few batches.
  size_t tail_events = 1024;
  size_t tail_bytes = 2 << 20;
  // Transactions that may wait for the writer.
  size_t max_waiting = 10'000;
};

// Opens the store, making the file when there is none. One process at a time: kFailedPrecondition
// when another has it open. kDataLoss when the file is not a store or damaged, kUnimplemented when
// a newer Skiff has written it.
Result<std::unique_ptr<Store>> OpenSqliteStore(SqliteStoreOptions options);

}  // namespace skiff::cp
