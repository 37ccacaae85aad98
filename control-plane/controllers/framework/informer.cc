#include "control-plane/controllers/framework/informer.h"

#include "control-plane/controllers/framework/objects.h"
#include "proto/codec/meta.h"
#include "proto/k8s/meta/v1/object.pb.h"

namespace skiff::cp {

ObjectCache::ObjectCache(Client& client, Executor& strand, const Message& prototype, std::string ns)
    : client_(client), strand_(strand), prototype_(prototype), ns_(std::move(ns)) {}

int ObjectCache::AddIndex(IndexFunction function) {
  indexes_.push_back({std::move(function), {}});
  return static_cast<int>(indexes_.size()) - 1;
}

void ObjectCache::Start(std::weak_ptr<void> owner, OnChange on_change,
                        std::function<void()> on_synced) {
  on_change_ = std::move(on_change);
  on_synced_ = std::move(on_synced);
  subscription_ = client_.WatchObjects(prototype_, ns_, strand_,
                                       [this, owner = std::move(owner)](const WatchEvent& event) {
                                         if (std::shared_ptr<void> alive = owner.lock()) {
                                           Receive(event);
                                         }
                                       });
}

void ObjectCache::Stop() { subscription_.reset(); }

ObjectPtr ObjectCache::Find(const std::string& key) const {
  auto found = objects_.find(key);
  return found == objects_.end() ? nullptr : found->second.object;
}

std::vector<ObjectPtr> ObjectCache::All() const {
  std::vector<ObjectPtr> all;
  all.reserve(objects_.size());
  for (const auto& [key, entry] : objects_) all.push_back(entry.object);
  return all;
}

std::vector<ObjectPtr> ObjectCache::ByIndex(int index, const std::string& value) const {
  std::vector<ObjectPtr> matching;
  const Index& chosen = indexes_[static_cast<size_t>(index)];
  if (auto found = chosen.objects.find(value); found != chosen.objects.end()) {
    for (const auto& [key, object] : found->second) matching.push_back(object);
  }
  return matching;
}

void ObjectCache::Assume(const ObjectPtr& object) { Put(object); }

void ObjectCache::Receive(const WatchEvent& event) {
  switch (event.type) {
    case WatchEvent::Type::kAdded:
    case WatchEvent::Type::kModified: Put(event.object); break;
    case WatchEvent::Type::kDeleted: Remove(KeyOf(codec::MetaOf(*event.object))); break;
    case WatchEvent::Type::kReset: ++snapshot_; break;
    case WatchEvent::Type::kSynced: EndSnapshot(event.revision); break;
  }
}

// What the snapshot did not have is gone, unless it is newer than the snapshot (assumed).
void ObjectCache::EndSnapshot(int64_t revision) {
  std::vector<std::string> gone;
  for (const auto& [key, entry] : objects_) {
    if (entry.snapshot != snapshot_ && entry.revision <= revision) gone.push_back(key);
  }
  for (const std::string& key : gone) Remove(key);
  synced_ = true;
  on_synced_();
}

void ObjectCache::Put(const ObjectPtr& object) {
  const k8s::meta::v1::ObjectMeta& meta = codec::MetaOf(*object);
  std::string key = KeyOf(meta);
  Entry& entry = objects_[key];
  entry.snapshot = snapshot_;
  int64_t revision = RevisionOf(meta);
  // Our own write is newer, or is what comes back; telling of it again would have a controller that
  // writes what is there already run for ever.
  if (entry.object && revision <= entry.revision) return;
  ObjectPtr before = std::exchange(entry.object, object);
  entry.revision = revision;
  UpdateIndexes(key, before, object);
  on_change_(before, object);
}

void ObjectCache::Remove(const std::string& key) {
  auto found = objects_.find(key);
  if (found == objects_.end()) return;
  ObjectPtr before = std::move(found->second.object);
  objects_.erase(found);
  UpdateIndexes(key, before, nullptr);
  on_change_(before, nullptr);
}

void ObjectCache::UpdateIndexes(const std::string& key, const ObjectPtr& before,
                                const ObjectPtr& now) {
  for (Index& index : indexes_) {
    if (before) {
      for (const std::string& value : index.function(*before)) {
        auto found = index.objects.find(value);
        if (found == index.objects.end()) continue;
        found->second.erase(key);
        if (found->second.empty()) index.objects.erase(found);
      }
    }
    if (now) {
      for (const std::string& value : index.function(*now)) index.objects[value][key] = now;
    }
  }
}

}  // namespace skiff::cp
