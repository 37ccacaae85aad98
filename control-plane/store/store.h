// The store: a sorted, versioned map of keys to opaque bytes under one cluster-wide revision.
//
// Every transaction that changes anything gets the next revision. Old versions stay readable until
// compacted, so that a list at a revision and a watch after it add up to the store without gap or
// duplicate. Backends: OpenSqliteStore (sqlite_store.h) and MakeMemoryStore (memory_store.h); each
// passes tests/conformance/store.
//
// Thread-safe. Calls block on the disk and belong on a thread made for that; only Commit and Watch
// return at once. What Commit or Txn has acknowledged survives kill -9 and power loss.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace skiff::cp {

// Counts the transactions that changed something. A new store is at revision 1, so 0 names none.
using Revision = int64_t;
// 0 names no lease.
using LeaseId = int64_t;

struct KeyValue {
  std::string key;
  std::string value;
  Revision create_revision = 0;  // of the put that made the key
  Revision mod_revision = 0;     // of the put that made this version
  int64_t version = 0;           // 1 for the first put after creation, then counting
  LeaseId lease = 0;             // the key goes when this lease does
  bool operator==(const KeyValue&) const = default;
};

struct RangeRequest {
  std::string prefix;     // keys beginning with this; empty: all
  std::string start_key;  // the first key wanted (inclusive); empty: the first with the prefix
  int64_t limit = 0;      // at most this many; 0: all
  Revision revision = 0;  // the state as of this revision; 0: the newest
};

struct RangeResult {
  std::vector<KeyValue> kvs;  // in the byte order of their keys
  Revision revision = 0;      // the state shown: that asked for, or the newest
  int64_t remaining = 0;      // matching keys beyond the limit
};

// Holds when the key's mod_revision is this; 0: when there is no such key.
struct Compare {
  std::string key;
  Revision mod_revision = 0;
};

struct Op {
  enum class Type { kPut, kDelete };
  Type type = Type::kPut;
  std::string key;
  std::string value;
  LeaseId lease = 0;

  static Op Put(std::string key, std::string value, LeaseId lease = 0) {
    return {Type::kPut, std::move(key), std::move(value), lease};
  }
  // Deleting what is not there changes nothing.
  static Op Delete(std::string key) { return {Type::kDelete, std::move(key), {}, 0}; }
};

// All ops if all compares hold, else none. A key may stand in one op only.
struct TxnRequest {
  std::vector<Compare> compares;
  std::vector<Op> ops;
};

struct TxnResult {
  bool succeeded = false;
  // The revision of the change; of the store where nothing changed.
  Revision revision = 0;
  // Not succeeded: the compared keys that exist, as they are now, in the order of the compares.
  std::vector<KeyValue> current;
};

struct Event {
  enum class Type { kPut, kDelete };
  Type type = Type::kPut;
  KeyValue kv;  // of a delete: key and mod_revision (the deletion's) only
  std::optional<KeyValue> prev_kv;
  Revision revision() const { return kv.mod_revision; }
  bool operator==(const Event&) const = default;
};
using EventPtr = std::shared_ptr<const Event>;

struct WatchBatch {
  // In the order of their revisions; the events of one revision are never split over batches.
  std::vector<EventPtr> events;
  // Progress: everything up to and including this revision has been delivered.
  Revision revision = 0;
  // Set on the last batch of a watch that cannot go on (kExpired: it fell behind a compaction).
  std::optional<Error> error;
};

struct WatchRequest {
  std::string prefix;
  // The first event delivered is the first one after this revision; a list's revision goes here.
  Revision after_revision = 0;
  // Also deliver batches without events, so that the receiver knows how far it is.
  bool progress = false;
};

// A running watch. Once the destructor has returned the receiver does not run any more (unless
// the destructor ran inside it). To be destroyed before its store.
class Watch {
 public:
  virtual ~Watch() = default;
};
// Runs on the store's watch thread, one call at a time for a watch. Must not block.
using WatchReceiver = std::function<void(const WatchBatch&)>;

// Limits of one transaction; beyond them it is refused with kInvalidArgument.
inline constexpr size_t kMaxTxnOps = 512;
inline constexpr size_t kMaxKeyBytes = 4 << 10;
inline constexpr size_t kMaxTxnBytes = 8 << 20;

class Store {
 public:
  virtual ~Store() = default;

  // The key's newest version (revision 0), or that of a revision. Nothing when it does not exist.
  // kExpired when the revision is compacted, kInvalidArgument when it is in the future.
  virtual Result<std::optional<KeyValue>> Get(const std::string& key, Revision revision = 0) = 0;
  // kExpired and kInvalidArgument as for Get.
  virtual Result<RangeResult> Range(const RangeRequest& request) = 0;

  // Starts the transaction. done runs exactly once, when the outcome is durable: on the store's
  // writer thread (it must not block), or inside this call. Errors: kInvalidArgument,
  // kResourceExhausted (too many waiting, or the disk is full), kNotFound (a put names no lease),
  // kUnknownOutcome (the disk failed while committing), kCancelled (the store is closing).
  using TxnDone = std::function<void(Result<TxnResult>)>;
  virtual void Commit(TxnRequest request, TxnDone done) = 0;
  // Commit, and wait for it.
  Result<TxnResult> Txn(TxnRequest request);

  // Delivers every event of the prefix after the revision, old ones included. kExpired when events
  // after that revision are compacted. A revision in the future is waited for.
  virtual Result<std::unique_ptr<Watch>> StartWatch(WatchRequest request,
                                                    WatchReceiver receiver) = 0;

  // The revision of the last durable change.
  virtual Revision CurrentRevision() = 0;
  // Forgets what was superseded at or before the revision. Afterwards reads below it and watches
  // after a revision below it are kExpired. Space is given back in the background.
  // kExpired when it is compacted already, kInvalidArgument when it is in the future.
  virtual Result<> Compact(Revision revision) = 0;
  // The last revision given to Compact, 0 at first.
  virtual Revision CompactedRevision() = 0;

  // Leases: keys put with one are deleted when it expires or is revoked. The time to live starts
  // again with each keepalive and when the store is opened.
  virtual Result<LeaseId> GrantLease(std::chrono::seconds ttl) = 0;
  // kNotFound when the lease is gone.
  virtual Result<> KeepLeaseAlive(LeaseId lease) = 0;
  // Deletes the lease and its keys. kNotFound when it is gone.
  virtual Result<> RevokeLease(LeaseId lease) = 0;
};

// The first key after all keys with the prefix; empty when there is none ("", or only 0xff bytes).
std::string PrefixEnd(std::string prefix);

}  // namespace skiff::cp
