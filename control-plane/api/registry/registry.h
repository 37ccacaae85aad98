// Registry: reading and changing objects with all of the API's rules, below REST and the in-process
// client. Every write is one transaction of the store, compared with the version it was made from.
//
// Kinds given to it are stored ones; views (KindInfo::view) are translated by the callers.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "control-plane/api/cache/watch_cache.h"
#include "control-plane/api/kind.h"
#include "control-plane/api/object.h"
#include "control-plane/api/registry/event_leases.h"
#include "control-plane/api/registry/key_locks.h"
#include "control-plane/api/registry/service_allocator.h"
#include "control-plane/api/status.h"
#include "control-plane/store/store.h"

namespace skiff::cp {

using MessagePtr = std::unique_ptr<Message>;

struct WriteOptions {
  bool dry_run = false;
  std::vector<std::string>* warnings = nullptr;  // the kind's advice is added
};

struct DeletionOptions {
  std::optional<int64_t> grace_period_seconds;
  std::string uid;               // precondition, when not empty
  std::string resource_version;  // precondition, when not empty
  std::string propagation;       // "", "Background", "Foreground", "Orphan"
};

// Thread-safe; calls block on the store.
class Registry {
 public:
  struct Deps {
    Store& store;
    const Kinds& kinds;
    WatchCache& cache;
    ServiceAllocator& services;
    const Clock& clock;
  };
  explicit Registry(Deps deps) : deps_(deps), event_leases_(deps.store, deps.clock) {}

  // The newest version.
  ApiResult<StoredPtr> Get(const KindInfo& kind, std::string_view ns, std::string_view name);

  // Name (or generateName) and namespace are in metadata.
  ApiResult<StoredPtr> Create(const KindInfo& kind, MessagePtr object, const WriteOptions& options);

  enum class Part {
    kMain,
    kStatus,
    kFinalize,  // namespaces: spec.finalizers only
  };
  // Makes the new object from the current one; called again when another write came between. Where
  // the result has a resourceVersion, it must be the current one's.
  using Change = std::function<ApiResult<MessagePtr>(const Message& current)>;
  struct Updated {
    StoredPtr stored;
    bool created = false;
  };
  // create_missing: what to create where there is nothing (PUT on kinds that allow it), or null.
  ApiResult<Updated> Update(const KindInfo& kind, std::string_view ns, std::string_view name,
                            Part part, const Change& change, const WriteOptions& options,
                            std::function<MessagePtr()> create_missing = nullptr);

  struct Deleted {
    StoredPtr stored;   // as it is now, or as it was last
    bool gone = false;  // false: waits for its grace period or finalizers
  };
  ApiResult<Deleted> Delete(const KindInfo& kind, std::string_view ns, std::string_view name,
                            const DeletionOptions& deletion, const WriteOptions& options);

  // pods/binding.
  ApiResult<void> Bind(std::string_view ns, std::string_view pod, std::string_view uid,
                       std::string_view node, const WriteOptions& options);

  const Deps& deps() const { return deps_; }
  // A list that shows everything acknowledged before the call.
  ApiResult<CacheSnapshot> List(const KindInfo& kind, std::string_view ns);

 private:
  // One attempt's outcome: nothing when another write came between.
  template <class T>
  using Attempt = ApiResult<std::optional<T>>;

  Attempt<StoredPtr> TryCreate(const KindInfo& kind, Message& object, bool last,
                               const WriteOptions& options);
  Attempt<Updated> TryUpdate(const KindInfo& kind, std::string_view ns, std::string_view name,
                             const StoredObject& current, Part part, const Change& change,
                             const WriteOptions& options);
  Attempt<Deleted> TryDelete(const KindInfo& kind, const StoredObject& current,
                             const DeletionOptions& deletion, const WriteOptions& options);
  Attempt<Deleted> Remove(const KindInfo& kind, const StoredObject& current,
                          const WriteOptions& options);
  // Writes the object in the place of the version; 0: of nothing.
  Attempt<StoredPtr> Put(const KindInfo& kind, const std::string& key, const Message& object,
                         Revision replaces, TxnRequest txn, const WriteOptions& options);
  // The namespace must take new objects; it is compared in the transaction.
  ApiResult<void> CheckNamespace(const KindInfo& kind, const Message& object, TxnRequest& txn);
  // The class that a pod names; null for what names none. Forbidden where it is not there.
  ApiResult<StoredPtr> RuntimeClassOf(const KindInfo& kind, const Message& object);
  ApiResult<ServiceAllocator::Plan> Allocate(const KindInfo& kind, Message& object,
                                             const Message* old);

  const Deps deps_;
  KeyLocks locks_;
  EventLeases event_leases_;
};

// How often a write is tried anew when other writes come between.
inline constexpr int kMaxAttempts = 20;

}  // namespace skiff::cp
