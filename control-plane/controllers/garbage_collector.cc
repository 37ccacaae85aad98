#include "control-plane/controllers/garbage_collector.h"

#include <algorithm>
#include <charconv>
#include <unordered_map>

#include "control-plane/controllers/framework/objects.h"
#include "proto/codec/meta.h"
#include "proto/k8s/meta/v1/object.pb.h"

namespace skiff::cp {
namespace {

using k8s::meta::v1::ObjectMeta;
using k8s::meta::v1::OwnerReference;

constexpr char kForeground[] = "foregroundDeletion";
constexpr char kOrphan[] = "orphan";

// An object in the graph: the number of its kind and its key.
struct GraphNode {
  size_t kind = 0;
  std::string key;
};

std::string QueueKey(const GraphNode& node) { return std::to_string(node.kind) + "|" + node.key; }

GraphNode ParseQueueKey(std::string_view text) {
  GraphNode node;
  size_t bar = text.find('|');
  std::from_chars(text.data(), text.data() + bar, node.kind);
  node.key = text.substr(bar + 1);
  return node;
}

bool Blocks(const ObjectMeta& dependent, const std::string& owner_uid) {
  return std::ranges::any_of(dependent.owner_references(), [&](const OwnerReference& owner) {
    return owner.uid() == owner_uid && owner.block_owner_deletion();
  });
}

bool SameOwners(const ObjectMeta& a, const ObjectMeta& b) {
  return std::ranges::equal(a.owner_references(), b.owner_references(),
                            [](const OwnerReference& left, const OwnerReference& right) {
                              return left.uid() == right.uid();
                            });
}

class GarbageCollector : public Controller {
 public:
  GarbageCollector(Client& client, Executor& executor) : Controller("gc", client, executor) {
    for (const Client::ServedKind& served : client.ServedKinds()) {
      // Events go by their age.
      if (served.kind == "Event") continue;
      kinds_.push_back(
          {served, std::make_unique<ObjectCache>(client, strand_, *served.prototype, "")});
    }
    for (size_t kind = 0; kind < kinds_.size(); ++kind) {
      ObjectCache& cache = *kinds_[kind].cache;
      cache.AddIndex([](const Message& object) {
        std::vector<std::string> owners;
        for (const OwnerReference& owner : codec::MetaOf(object).owner_references()) {
          owners.push_back(owner.uid());
        }
        return owners;
      });
      Observe(cache, [this, kind](const ObjectPtr& before, const ObjectPtr& now) {
        OnChange(kind, before, now);
      });
    }
  }

 protected:
  Result<> Sync(const std::string& queue_key) override;

 private:
  struct Kind {
    Client::ServedKind served;
    std::unique_ptr<ObjectCache> cache;  // index 0: by the uids of the owners
  };
  enum class OwnerState { kSolid, kAbsent, kWaiting };

  void OnChange(size_t kind, const ObjectPtr& before, const ObjectPtr& now);
  void Add(const GraphNode& node) { queue_.Add(QueueKey(node)); }
  void AddDependents(const std::string& uid);
  void AddOwners(const ObjectMeta& meta);
  std::vector<std::pair<GraphNode, ObjectPtr>> Dependents(const std::string& uid) const;

  Result<> FinishForeground(const GraphNode& node, const ObjectPtr& object);
  Result<> FinishOrphan(const GraphNode& node, const ObjectPtr& object);
  Result<> Collect(const GraphNode& node, const ObjectPtr& object);
  Result<OwnerState> StateOf(const ObjectMeta& dependent, const OwnerReference& owner);
  Result<OwnerState> AskStateOf(const ObjectMeta& dependent, const OwnerReference& owner);
  Result<> Change(const GraphNode& node, const ObjectPtr& object,
                  const std::function<void(ObjectMeta*)>& change);

  std::vector<Kind> kinds_;
  std::unordered_map<std::string, GraphNode> by_uid_;
};

void GarbageCollector::OnChange(size_t kind, const ObjectPtr& before, const ObjectPtr& now) {
  if (before) {
    const ObjectMeta& meta = codec::MetaOf(*before);
    const bool gone = !now || codec::MetaOf(*now).uid() != meta.uid();
    if (gone) {
      by_uid_.erase(meta.uid());
      AddDependents(meta.uid());
    }
    // An owner may wait for this one to go, or to let it loose.
    if (gone || meta.owner_references_size() != codec::MetaOf(*now).owner_references_size()) {
      AddOwners(meta);
    }
  }
  if (!now) return;
  const ObjectMeta& meta = codec::MetaOf(*now);
  GraphNode node{kind, KeyOf(meta)};
  by_uid_[meta.uid()] = node;
  const bool finishing = IsBeingDeleted(meta) && !meta.finalizers().empty();
  const bool owned = !meta.owner_references().empty();
  // Status updates are no news here: owners tell their dependents when they go.
  if (finishing || (owned && !(before && SameOwners(codec::MetaOf(*before), meta)))) Add(node);
}

void GarbageCollector::AddDependents(const std::string& uid) {
  for (const auto& [node, object] : Dependents(uid)) Add(node);
}

void GarbageCollector::AddOwners(const ObjectMeta& meta) {
  for (const OwnerReference& owner : meta.owner_references()) {
    if (auto found = by_uid_.find(owner.uid()); found != by_uid_.end()) Add(found->second);
  }
}

std::vector<std::pair<GraphNode, ObjectPtr>> GarbageCollector::Dependents(
    const std::string& uid) const {
  std::vector<std::pair<GraphNode, ObjectPtr>> dependents;
  for (size_t kind = 0; kind < kinds_.size(); ++kind) {
    for (ObjectPtr& object : kinds_[kind].cache->ByIndex(0, uid)) {
      GraphNode node{kind, KeyOf(codec::MetaOf(*object))};
      dependents.emplace_back(std::move(node), std::move(object));
    }
  }
  return dependents;
}

Result<> GarbageCollector::Sync(const std::string& queue_key) {
  GraphNode node = ParseQueueKey(queue_key);
  ObjectPtr object = kinds_[node.kind].cache->Find(node.key);
  if (!object) return {};
  const ObjectMeta& meta = codec::MetaOf(*object);
  if (!IsBeingDeleted(meta)) return Collect(node, object);
  if (HasFinalizer(meta, kOrphan)) return FinishOrphan(node, object);
  if (HasFinalizer(meta, kForeground)) return FinishForeground(node, object);
  return {};
}

Result<> GarbageCollector::FinishForeground(const GraphNode& node, const ObjectPtr& object) {
  const std::string uid = codec::MetaOf(*object).uid();
  bool blocked = false;
  for (const auto& [dependent, dependent_object] : Dependents(uid)) {
    const ObjectMeta& meta = codec::MetaOf(*dependent_object);
    blocked |= Blocks(meta, uid);
    if (!IsBeingDeleted(meta)) Add(dependent);
  }
  if (blocked) return {};
  return Change(node, object, [](ObjectMeta* meta) { RemoveFinalizer(meta, kForeground); });
}

Result<> GarbageCollector::FinishOrphan(const GraphNode& node, const ObjectPtr& object) {
  const std::string uid = codec::MetaOf(*object).uid();
  for (const auto& [dependent, dependent_object] : Dependents(uid)) {
    TRY(Change(dependent, dependent_object, [&uid](ObjectMeta* meta) { RemoveOwner(meta, uid); }));
  }
  return Change(node, object, [](ObjectMeta* meta) { RemoveFinalizer(meta, kOrphan); });
}

// Deletes the object if none of its owners wants it any more.
Result<> GarbageCollector::Collect(const GraphNode& node, const ObjectPtr& object) {
  const ObjectMeta& meta = codec::MetaOf(*object);
  bool solid = false, waiting = false;
  std::vector<std::string> lost;
  for (const OwnerReference& owner : meta.owner_references()) {
    OwnerState state = TRY(StateOf(meta, owner));
    solid |= state == OwnerState::kSolid;
    waiting |= state == OwnerState::kWaiting;
    if (state != OwnerState::kSolid) lost.push_back(owner.uid());
  }
  if (lost.empty()) return {};
  if (solid) {
    return Change(node, object, [&lost](ObjectMeta* changed) {
      for (const std::string& uid : lost) RemoveOwner(changed, uid);
    });
  }
  DeleteOptions options{.uid = meta.uid(), .propagation = Propagation::kBackground};
  // An owner that waits for this one waits for its dependents as well.
  if (waiting && !Dependents(meta.uid()).empty()) options.propagation = Propagation::kForeground;
  if (HasFinalizer(meta, kForeground)) options.propagation = Propagation::kForeground;
  if (HasFinalizer(meta, kOrphan)) options.propagation = Propagation::kOrphan;
  auto deleted = client_.DeleteObject(*kinds_[node.kind].served.prototype, meta.namespace_(),
                                      meta.name(), options);
  // A conflict: there is another object of that name by now.
  if (deleted.ok() || deleted.error().code() == Code::kNotFound ||
      deleted.error().code() == Code::kConflict) {
    return {};
  }
  return deleted.error();
}

Result<GarbageCollector::OwnerState> GarbageCollector::StateOf(const ObjectMeta& dependent,
                                                               const OwnerReference& owner) {
  auto found = by_uid_.find(owner.uid());
  if (found == by_uid_.end()) return AskStateOf(dependent, owner);
  ObjectPtr object = kinds_[found->second.kind].cache->Find(found->second.key);
  const ObjectMeta& meta = codec::MetaOf(*object);
  return IsBeingDeleted(meta) && HasFinalizer(meta, kForeground) ? OwnerState::kWaiting
                                                                 : OwnerState::kSolid;
}

// The cache may be behind: only the API's word deletes anything.
Result<GarbageCollector::OwnerState> GarbageCollector::AskStateOf(const ObjectMeta& dependent,
                                                                  const OwnerReference& owner) {
  auto kind = std::ranges::find_if(kinds_, [&owner](const Kind& k) {
    return k.served.api_version == owner.api_version() && k.served.kind == owner.kind();
  });
  // Of a kind that is not served here, or out of this one's reach: nothing can be said.
  if (kind == kinds_.end()) return OwnerState::kSolid;
  if (kind->served.namespaced && dependent.namespace_().empty()) return OwnerState::kSolid;
  auto live = client_.GetObject(
      *kind->served.prototype, kind->served.namespaced ? dependent.namespace_() : "", owner.name());
  if (!live.ok()) {
    if (live.error().code() == Code::kNotFound) return OwnerState::kAbsent;
    return live.error();
  }
  return codec::MetaOf(**live).uid() == owner.uid() ? OwnerState::kSolid : OwnerState::kAbsent;
}

Result<> GarbageCollector::Change(const GraphNode& node, const ObjectPtr& object,
                                  const std::function<void(ObjectMeta*)>& change) {
  std::unique_ptr<Message> changed(object->New());
  changed->CopyFrom(*object);
  change(codec::MutableMetaOf(changed.get()));
  auto stored = client_.UpdateObject(*changed);
  if (!stored.ok()) {
    if (stored.error().code() == Code::kNotFound) return {};
    return stored.error();
  }
  // An object that this let go is not entered again: its deletion is on its way.
  const ObjectMeta& meta = codec::MetaOf(**stored);
  if (!IsBeingDeleted(meta) || !meta.finalizers().empty()) {
    kinds_[node.kind].cache->Assume(*stored);
  }
  return {};
}

}  // namespace

std::shared_ptr<Controller> MakeGarbageCollector(Client& client, Executor& executor) {
  return std::make_shared<GarbageCollector>(client, executor);
}

}  // namespace skiff::cp
