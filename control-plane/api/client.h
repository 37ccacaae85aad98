// Client: the API as the controllers, the scheduler and the node link server use it, in-process.
//
// Calls go through the same registry as REST requests (defaults, validation, admission, optimistic
// concurrency) as the user system:masters; nothing is serialised but what is stored. Objects are
// immutable snapshots shared with the watch cache: copy before changing.
//
//   auto pod = TRY(client.Get<k8s::core::v1::Pod>("default", "web"));
//   auto changed = *pod;
//   changed.mutable_spec()->set_nodename("n1");
//   auto stored = TRY(client.Update(changed));   // kConflict: read again
//
// Errors: kNotFound, kAlreadyExists, kConflict (resourceVersion or precondition), kInvalidArgument
// (validation; the message names the fields), kFailedPrecondition, kResourceExhausted (an eviction
// that a budget forbids), kUnavailable (store).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/async/executor.h"
#include "base/result.h"

namespace google::protobuf {
class Message;
}  // namespace google::protobuf

namespace skiff::cp {

using Message = google::protobuf::Message;
using ObjectPtr = std::shared_ptr<const Message>;

enum class PatchType { kJson, kMerge, kStrategicMerge };
enum class Propagation { kDefault, kBackground, kForeground, kOrphan };

struct ListOptions {
  std::string ns;              // empty: all namespaces
  std::string label_selector;  // as in the query: "app=web,tier!=db"
  std::string field_selector;
};

struct DeleteOptions {
  std::optional<int64_t> grace_period_seconds;
  std::string uid;               // precondition, when not empty
  std::string resource_version;  // precondition, when not empty
  Propagation propagation = Propagation::kDefault;
};

// One thing that happened to an object, or a mark in the stream.
struct WatchEvent {
  enum class Type {
    kAdded,
    kModified,
    kDeleted,  // object: its last state
    kSynced,   // no object: all of the snapshot has been delivered; once after each kReset or start
    kReset,    // no object: the subscriber was too slow; forget everything, a new snapshot follows
  };
  Type type;
  ObjectPtr object;
  int64_t revision = 0;  // of the event; for kSynced the snapshot's
};

// What is being watched. Destroying it ends it: no callback starts after the destructor has
// returned, if it runs on the subscriber's executor (a Strand); elsewhere, one may be running.
class Subscription {
 public:
  virtual ~Subscription() = default;
};

template <class T>
struct ObjectList {
  std::vector<std::shared_ptr<const T>> items;
  int64_t revision = 0;
};

// Thread-safe. Calls block (store I/O): not from I/O threads.
class Client {
 public:
  virtual ~Client() = default;

  // The prototype says which kind: any message of it. Cluster-scoped kinds take an empty ns.
  virtual Result<ObjectPtr> GetObject(const Message& prototype, std::string_view ns,
                                      std::string_view name) = 0;
  virtual Result<ObjectList<Message>> ListObjects(const Message& prototype,
                                                  const ListOptions& options) = 0;
  // Namespace and name (or generateName) are in metadata. The answer is what was stored.
  virtual Result<ObjectPtr> CreateObject(const Message& object) = 0;
  // metadata.resourceVersion set: must be the stored one, else kConflict. Empty: unconditional.
  virtual Result<ObjectPtr> UpdateObject(const Message& object) = 0;
  virtual Result<ObjectPtr> UpdateObjectStatus(const Message& object) = 0;
  // subresource: "" or "status".
  virtual Result<ObjectPtr> PatchObject(const Message& prototype, std::string_view ns,
                                        std::string_view name, PatchType type,
                                        std::string_view json, std::string_view subresource) = 0;
  // Success also when finalizers or grace keep the object for now.
  virtual Result<void> DeleteObject(const Message& prototype, std::string_view ns,
                                    std::string_view name, const DeleteOptions& options) = 0;

  // pods/binding: sets spec.nodeName once. uid (may be empty) is a precondition.
  virtual Result<void> Bind(std::string_view ns, std::string_view pod, std::string_view uid,
                            std::string_view node) = 0;
  // pods/eviction.
  virtual Result<void> Evict(std::string_view ns, std::string_view pod,
                             const DeleteOptions& options) = 0;
  // Removes a namespace's "kubernetes" finalizer (namespaces/finalize) once it is empty.
  virtual Result<void> FinalizeNamespace(std::string_view name) = 0;

  // Everything of a kind (within ns, if not empty), from a consistent snapshot on: kAdded for each
  // object, kSynced, then every change in order, without a gap. The callback runs on the executor,
  // one call at a time, in order. The events are those of the watch cache, shared, not copied.
  using WatchCallback = std::function<void(const WatchEvent& event)>;
  virtual std::unique_ptr<Subscription> WatchObjects(const Message& prototype, std::string_view ns,
                                                     Executor& executor,
                                                     WatchCallback callback) = 0;

  // Kinds that are served and stored, as prototypes with their plural: what garbage collection and
  // namespace deletion go through. Views of other kinds are left out.
  struct ServedKind {
    std::string api_version;  // "apps/v1"
    std::string kind;
    std::string plural;
    bool namespaced = true;
    const Message* prototype = nullptr;
  };
  virtual std::vector<ServedKind> ServedKinds() const = 0;

  // ---- typed forms ----
  template <class T>
  Result<std::shared_ptr<const T>> Get(std::string_view ns, std::string_view name) {
    return As<T>(GetObject(T::default_instance(), ns, name));
  }
  template <class T>
  Result<ObjectList<T>> List(const ListOptions& options = {}) {
    auto list = ListObjects(T::default_instance(), options);
    if (!list.ok()) return std::move(list).error();
    ObjectList<T> typed;
    typed.revision = list->revision;
    typed.items.reserve(list->items.size());
    for (auto& item : list->items) {
      typed.items.push_back(std::static_pointer_cast<const T>(std::move(item)));
    }
    return typed;
  }
  template <class T>
  Result<std::shared_ptr<const T>> Create(const T& object) {
    return As<T>(CreateObject(object));
  }
  template <class T>
  Result<std::shared_ptr<const T>> Update(const T& object) {
    return As<T>(UpdateObject(object));
  }
  template <class T>
  Result<std::shared_ptr<const T>> UpdateStatus(const T& object) {
    return As<T>(UpdateObjectStatus(object));
  }
  template <class T>
  Result<std::shared_ptr<const T>> Patch(std::string_view ns, std::string_view name, PatchType type,
                                         std::string_view json, std::string_view subresource = {}) {
    return As<T>(PatchObject(T::default_instance(), ns, name, type, json, subresource));
  }
  template <class T>
  Result<void> Delete(std::string_view ns, std::string_view name,
                      const DeleteOptions& options = {}) {
    return DeleteObject(T::default_instance(), ns, name, options);
  }
  template <class T>
  std::unique_ptr<Subscription> Watch(std::string_view ns, Executor& executor,
                                      WatchCallback callback) {
    return WatchObjects(T::default_instance(), ns, executor, std::move(callback));
  }

 private:
  template <class T>
  static Result<std::shared_ptr<const T>> As(Result<ObjectPtr> object) {
    if (!object.ok()) return std::move(object).error();
    return std::static_pointer_cast<const T>(std::move(object).value());
  }
};

}  // namespace skiff::cp
