// FakeClient: the API's semantics that controllers depend on, in memory, for unit tests.
//
// Revisions, optimistic concurrency, uids, generations, status kept apart from spec, finalizers,
// graceful deletion of pods, propagation policies and watches, but no defaults and no validation.
// Single-threaded: made for a ManualExecutor, whose clock it uses.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/async/executor.h"
#include "control-plane/api/client.h"

namespace skiff::cp {

class FakeClient : public Client {
 public:
  explicit FakeClient(const Clock& clock);
  ~FakeClient() override;

  Result<ObjectPtr> GetObject(const Message& prototype, std::string_view ns,
                              std::string_view name) override;
  Result<ObjectList<Message>> ListObjects(const Message& prototype,
                                          const ListOptions& options) override;
  Result<ObjectPtr> CreateObject(const Message& object) override;
  Result<ObjectPtr> UpdateObject(const Message& object) override;
  Result<ObjectPtr> UpdateObjectStatus(const Message& object) override;
  Result<ObjectPtr> PatchObject(const Message& prototype, std::string_view ns,
                                std::string_view name, PatchType type, std::string_view json,
                                std::string_view subresource) override;
  Result<void> DeleteObject(const Message& prototype, std::string_view ns, std::string_view name,
                            const DeleteOptions& options) override;
  Result<void> Bind(std::string_view ns, std::string_view pod, std::string_view uid,
                    std::string_view node) override;
  Result<void> Evict(std::string_view ns, std::string_view pod,
                     const DeleteOptions& options) override;
  Result<void> FinalizeNamespace(std::string_view name) override;
  std::unique_ptr<Subscription> WatchObjects(const Message& prototype, std::string_view ns,
                                             Executor& executor, WatchCallback callback) override;
  std::vector<ServedKind> ServedKinds() const override;

  // Asked before every write: an error is the call's answer. verb: "create", "update",
  // "update-status", "delete", "bind".
  std::function<std::optional<Error>(std::string_view verb, const Message& object)> intercept;
  // Removes an object as its last step (what a node does with a pod that has ended).
  void Remove(const Message& prototype, std::string_view ns, std::string_view name);
  // Makes every watch begin anew, as after a slow subscriber.
  void ResetWatches();
  // How many writes there were.
  int writes() const { return writes_; }

 private:
  struct Watcher;
  class Handle;
  using Objects = std::map<std::string, ObjectPtr>;

  Objects& Of(const Message& prototype);
  Result<ObjectPtr> Current(const Message& object);
  // Gives the object a new revision, stores it and tells the watches.
  ObjectPtr Store(std::unique_ptr<Message> object, WatchEvent::Type type);
  // Stores it, or removes it when it is being deleted and nothing holds it any more.
  ObjectPtr StoreOrRemove(std::unique_ptr<Message> object);
  std::optional<Error> Refused(std::string_view verb, const Message& object);
  void Tell(const WatchEvent& event);
  void SendSnapshot(Watcher& watcher);

  const Clock& clock_;
  std::map<std::string, Objects> objects_;  // by message type
  std::vector<std::weak_ptr<Watcher>> watchers_;
  int64_t revision_ = 1;
  int64_t next_id_ = 1;
  int writes_ = 0;
};

}  // namespace skiff::cp
