// SqliteWriter: changes a store's file, on the one connection that may.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "control-plane/store/sqlite_db.h"
#include "control-plane/store/store.h"

namespace skiff::cp {

// One thread at a time. Changes are made between Begin and Commit. There are two kinds of errors:
// a refusal (kInvalidArgument, kNotFound, kExpired) is the result of a single call and leaves no
// trace; an error of the file is kept in failure() and leaves nothing to do but Rollback.
class SqliteWriter {
 public:
  // Opens the file, making it a store when it is new.
  static Result<SqliteWriter> Open(const std::string& path);

  Result<> Begin();
  // What was changed since Begin is durable once this has returned. kUnknownOutcome when the disk
  // failed: what is on it will be known after the next start only.
  Result<> Commit();
  void Rollback();
  const std::optional<Error>& failure() const { return failure_; }

  Result<TxnResult> Apply(const TxnRequest& request);
  Result<> Compact(Revision revision);
  Result<> InsertLease(LeaseId lease, int64_t ttl_seconds);
  Result<> RevokeLease(LeaseId lease);
  // Removes some of what is superseded up to the compaction mark.
  Result<> Scavenge();
  bool scavenging() const { return now_.scavenged < compaction_end(); }

  // All leases: id and time to live in seconds.
  Result<std::vector<std::pair<LeaseId, int64_t>>> ListLeases();

  // With what is not committed yet.
  Revision revision() const { return now_.revision; }
  Revision compacted() const { return now_.compacted; }
  // The events since Begin.
  std::vector<EventPtr> TakeEvents() { return std::exchange(events_, {}); }

 private:
  explicit SqliteWriter(Database database) : database_(std::move(database)) {}
  Result<> Prepare();
  Result<> LoadMarks();

  // Keeps an error of the file.
  template <class T>
  Result<T> Keep(Result<T> result) {
    if (!result.ok() && !failure_) failure_ = result.error();
    return result;
  }
  int64_t compaction_end() const;
  Result<bool> HasLease(LeaseId lease);
  Result<std::optional<KeyValue>> Latest(const std::string& key);
  Result<std::vector<std::string>> KeysOfLease(LeaseId lease);
  Result<> SetMark(std::string_view name, int64_t value);
  // Gives the ops the next revision, if they change anything.
  Result<> Write(const std::vector<Op>& ops);
  Result<> InsertVersion(const Event& event, int64_t position);
  Result<> ScavengeChunk();

  struct Marks {
    Revision revision = 1;
    Revision compacted = 0;
    int64_t scavenged = 0;  // the last row looked at
  };

  Database database_;
  Statement latest_;
  Statement insert_;
  Statement has_lease_;
  Statement insert_lease_;
  Statement delete_lease_;
  Statement lease_keys_;
  Statement set_mark_;
  Statement to_scavenge_;
  Statement delete_older_;
  Statement delete_row_;
  Marks now_;
  Marks committed_;
  std::vector<EventPtr> events_;
  std::optional<Error> failure_;
};

}  // namespace skiff::cp
