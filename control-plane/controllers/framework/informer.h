// Informer: a controller's picture of all objects of a kind, kept current by a watch.
//
// Lives on one strand. Objects are immutable snapshots shared with the watch cache. What the
// controller itself has written is entered at once (Assume), so that it never acts twice on a
// picture that does not show its own last act.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "control-plane/api/client.h"

namespace skiff::cp {

// The untyped part. All calls on the strand, but for the constructor, Start and Stop.
class ObjectCache {
 public:
  // before is null for a new object, now is null for one that is gone.
  using OnChange = std::function<void(const ObjectPtr& before, const ObjectPtr& now)>;
  // The values under which an object is found again.
  using IndexFunction = std::function<std::vector<std::string>(const Message& object)>;

  // ns: empty for all namespaces. client and strand must outlive the cache.
  ObjectCache(Client& client, Executor& strand, const Message& prototype, std::string ns);

  // Before Start. Returns the index's number.
  int AddIndex(IndexFunction function);
  // Begins to watch. owner: what the cache is a part of; it is kept alive during the callbacks.
  void Start(std::weak_ptr<void> owner, OnChange on_change, std::function<void()> on_synced);
  void Stop();

  // Whether the cache has held all objects once.
  bool synced() const { return synced_; }
  ObjectPtr Find(const std::string& key) const;
  std::vector<ObjectPtr> All() const;
  std::vector<ObjectPtr> ByIndex(int index, const std::string& value) const;
  size_t size() const { return objects_.size(); }

  // Enters what the API has answered to a write, unless the cache is newer.
  void Assume(const ObjectPtr& object);

 private:
  struct Entry {
    ObjectPtr object;
    int64_t revision = 0;
    uint64_t snapshot = 0;  // the last one that had the object
  };
  struct Index {
    IndexFunction function;
    std::unordered_map<std::string, std::map<std::string, ObjectPtr>> objects;
  };

  void Receive(const WatchEvent& event);
  void EndSnapshot(int64_t revision);
  void Put(const ObjectPtr& object);
  void Remove(const std::string& key);
  void UpdateIndexes(const std::string& key, const ObjectPtr& before, const ObjectPtr& now);

  Client& client_;
  Executor& strand_;
  const Message& prototype_;
  const std::string ns_;
  std::map<std::string, Entry> objects_;
  std::vector<Index> indexes_;
  OnChange on_change_;
  std::function<void()> on_synced_;
  bool synced_ = false;
  uint64_t snapshot_ = 1;
  std::unique_ptr<Subscription> subscription_;
};

template <class T>
class Informer {
 public:
  using Ptr = std::shared_ptr<const T>;

  Informer(Client& client, Executor& strand, std::string ns = {})
      : cache_(client, strand, T::default_instance(), std::move(ns)) {}

  template <class Function>
  int AddIndex(Function function) {
    return cache_.AddIndex([function = std::move(function)](const Message& object) {
      return function(static_cast<const T&>(object));
    });
  }
  // "namespace/name", or "name" for cluster-scoped kinds. Null when there is none.
  Ptr Find(const std::string& key) const { return As(cache_.Find(key)); }
  std::vector<Ptr> All() const { return As(cache_.All()); }
  std::vector<Ptr> ByIndex(int index, const std::string& value) const {
    return As(cache_.ByIndex(index, value));
  }
  void Assume(const Ptr& object) { cache_.Assume(object); }
  size_t size() const { return cache_.size(); }
  ObjectCache& cache() { return cache_; }

  static Ptr As(ObjectPtr object) { return std::static_pointer_cast<const T>(std::move(object)); }

 private:
  static std::vector<Ptr> As(std::vector<ObjectPtr> objects) {
    std::vector<Ptr> typed;
    typed.reserve(objects.size());
    for (ObjectPtr& object : objects) typed.push_back(As(std::move(object)));
    return typed;
  }
  ObjectCache cache_;
};

}  // namespace skiff::cp
