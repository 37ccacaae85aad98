#include "control-plane/api/cache/watch_cache.h"

#include <google/protobuf/message.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "proto/codec/json.h"

namespace skiff::cp {
namespace {

constexpr int64_t kPage = 1000;
constexpr std::chrono::seconds kCatchUp{60};
constexpr std::string_view kRegistry = "/registry/";

bool InNamespace(std::string_view key, std::string_view ns) {
  return ns.empty() || (key.size() > ns.size() && key.starts_with(ns) && key[ns.size()] == '/');
}

}  // namespace

std::shared_ptr<const std::string> CacheEvent::Json() const {
  std::lock_guard lock(mutex_);
  if (json_ == nullptr) {
    json_ = std::make_shared<const std::string>(codec::EncodeJson(*object->object));
  }
  return json_;
}

void CacheEvent::ForgetJson() const {
  std::lock_guard lock(mutex_);
  json_.reset();
}

class WatchCache::RegistrationHere final : public Registration {
 public:
  RegistrationHere(WatchCache& cache, KindState& state, uint64_t id)
      : cache_(cache), state_(state), id_(id) {}
  ~RegistrationHere() override {
    std::shared_ptr<CacheListener> dropped;  // destroyed outside the lock
    std::lock_guard lock(cache_.mutex_);
    auto found = state_.listeners.find(id_);
    if (found == state_.listeners.end()) return;
    dropped = std::move(found->second);
    state_.listeners.erase(found);
  }

 private:
  WatchCache& cache_;
  KindState& state_;
  const uint64_t id_;
};

WatchCache::WatchCache(Store& store, const Kinds& kinds, Options options)
    : store_(store), options_(options) {
  for (const auto& kind : kinds.all()) {
    if (!kind->stored || kind->view) continue;
    auto state = std::make_unique<KindState>();
    state->kind = kind.get();
    state->prefix = StoragePrefix(*kind);
    by_kind_[kind.get()] = state.get();
    states_[state->prefix] = std::move(state);
  }
}

WatchCache::~WatchCache() {
  watch_.reset();
  // A listener may own its registration, which looks here: let them go while everything stands.
  std::vector<std::shared_ptr<CacheListener>> dropped;
  std::lock_guard lock(mutex_);
  for (auto& [prefix, state] : states_) {
    for (auto& [id, listener] : std::exchange(state->listeners, {})) {
      dropped.push_back(std::move(listener));
    }
  }
}

Result<std::unique_ptr<WatchCache>> WatchCache::Start(Store& store, const Kinds& kinds,
                                                      Options options) {
  std::unique_ptr<WatchCache> cache(new WatchCache(store, kinds, options));
  Revision current = store.CurrentRevision();
  Revision from =
      std::max({current - options.replayed_revisions, store.CompactedRevision(), Revision{1}});
  TRY(cache->Load(from));
  TRY(cache->Follow());
  if (!cache->WaitFor(current, kCatchUp)) {
    return Error(Code::kDeadlineExceeded, "the store's events do not arrive");
  }
  return cache;
}

// Fills the (empty) objects from the store as of the revision.
Result<void> WatchCache::Load(Revision revision) {
  RangeRequest request{.prefix = std::string(kRegistry), .limit = kPage, .revision = revision};
  while (true) {
    auto page = TRY(store_.Range(request).With("load the watch cache"));
    for (auto& kv : page.kvs) {
      KindState* state = StateOf(kv.key);
      if (state == nullptr) continue;
      std::string key = kv.key.substr(state->prefix.size());
      auto stored = DecodeStored(*state->kind, key, kv.value, kv.mod_revision);
      if (!stored.ok()) {
        log::Error("stored object is damaged, ignoring it",
                   {{"key", kv.key}, {"error", stored.error()}});
        continue;
      }
      state->objects[key] = std::move(stored).value();
    }
    if (page.remaining == 0 || page.kvs.empty()) break;
    request.start_key = page.kvs.back().key + '\0';
  }
  for (auto& [prefix, state] : states_) state->floor = revision;
  revision_ = revision;
  return {};
}

Result<void> WatchCache::Follow() {
  // Keys outside the registry are watched too: they move the revision.
  watch_ = TRY(store_.StartWatch({.prefix = "", .after_revision = revision_, .progress = true},
                                 [this](const WatchBatch& batch) { OnBatch(batch); }));
  return {};
}

WatchCache::KindState* WatchCache::StateOf(std::string_view key) {
  if (!key.starts_with(kRegistry)) return nullptr;
  size_t slash = key.find('/', kRegistry.size());
  if (slash != key.npos) slash = key.find('/', slash + 1);
  if (slash == key.npos) return nullptr;
  auto found = states_.find(std::string(key.substr(0, slash + 1)));
  return found == states_.end() ? nullptr : found->second.get();
}

WatchCache::KindState& WatchCache::StateOf(const KindInfo& kind) const {
  auto found = by_kind_.find(&kind);
  CHECK(found != by_kind_.end());
  return *found->second;
}

void WatchCache::OnBatch(const WatchBatch& batch) {
  std::lock_guard lock(mutex_);
  for (const auto& event : batch.events) Apply(*event);
  SteadyTime now = Clock::Real().Now();
  for (auto& [prefix, state] : states_) DropOld(*state, now);
  if (batch.error) return Resync(*batch.error);
  revision_ = std::max(revision_, batch.revision);
  advanced_.notify_all();
}

void WatchCache::Apply(const Event& event) {
  KindState* state = StateOf(event.kv.key);
  if (state == nullptr) return;
  std::string key = event.kv.key.substr(state->prefix.size());
  auto current = state->objects.find(key);
  StoredPtr previous = current == state->objects.end() ? nullptr : current->second;
  auto change = std::make_shared<CacheEvent>();
  change->previous = previous;
  change->revision = event.revision();
  change->seen = Clock::Real().Now();
  if (event.type == Event::Type::kDelete) {
    if (!previous) return;
    auto last = std::make_shared<StoredObject>();
    last->key = key;
    last->object = WithRevision(*previous->object, event.revision());
    last->revision = event.revision();
    change->object = std::move(last);
    change->deleted = true;
    state->objects.erase(current);
  } else {
    auto stored = DecodeStored(*state->kind, key, event.kv.value, event.revision());
    if (!stored.ok()) {
      log::Error("stored object is damaged, ignoring it",
                 {{"key", event.kv.key}, {"error", stored.error()}});
      return;
    }
    change->object = std::move(stored).value();
    state->objects[key] = change->object;
  }
  Publish(*state, std::move(change));
}

void WatchCache::Publish(KindState& state, std::shared_ptr<CacheEvent> event) {
  state.events.push_back(std::move(event));
  for (auto& [id, listener] : state.listeners) listener->OnEvent(state.events.back());
  if (state.events.size() > options_.encoded_events) {
    state.events[state.events.size() - options_.encoded_events - 1]->ForgetJson();
  }
}

void WatchCache::DropOld(KindState& state, SteadyTime now) {
  auto& events = state.events;
  while (events.size() > options_.max_events ||
         (events.size() > options_.min_events && now - events.front()->seen > options_.event_age)) {
    state.floor = events.front()->revision;
    events.pop_front();
  }
}

// The watch fell behind a compaction: only a process that was stopped for minutes sees that. Load
// everything anew and let every subscriber do the same. A store that cannot be read then leaves
// nothing right to serve.
void WatchCache::Resync(const Error& error) {
  log::Warning("watch cache fell behind the store, loading it anew", {{"error", error}});
  for (auto& [prefix, state] : states_) {
    state->objects.clear();
    state->events.clear();
  }
  auto loaded = Load(store_.CurrentRevision());
  if (loaded.ok()) loaded = Follow();
  if (!loaded.ok()) log::Error("the store cannot be read", {{"error", loaded.error()}});
  CHECK(loaded.ok());
  for (auto& [prefix, state] : states_) {
    for (auto& [id, listener] : std::exchange(state->listeners, {})) listener->OnLost();
  }
  advanced_.notify_all();
}

Revision WatchCache::revision() const {
  std::lock_guard lock(mutex_);
  return revision_;
}

bool WatchCache::WaitFor(Revision revision, std::chrono::milliseconds timeout) const {
  std::unique_lock lock(mutex_);
  return advanced_.wait_for(lock, timeout, [&] { return revision_ >= revision; });
}

bool WatchCache::CatchUp(std::chrono::milliseconds timeout) const {
  return WaitFor(store_.CurrentRevision(), timeout);
}

CacheSnapshot WatchCache::Snapshot(const KindState& state, std::string_view ns, Revision revision) {
  CacheSnapshot snapshot;
  snapshot.revision = revision;
  auto from = ns.empty() ? state.objects.begin() : state.objects.lower_bound(std::string(ns) + "/");
  for (auto it = from; it != state.objects.end() && InNamespace(it->first, ns); ++it) {
    snapshot.objects.push_back(it->second);
  }
  return snapshot;
}

CacheSnapshot WatchCache::List(const KindInfo& kind, std::string_view ns) const {
  std::lock_guard lock(mutex_);
  return Snapshot(StateOf(kind), ns, revision_);
}

StoredPtr WatchCache::Get(const KindInfo& kind, const std::string& key) const {
  std::lock_guard lock(mutex_);
  auto& objects = StateOf(kind).objects;
  auto found = objects.find(key);
  return found == objects.end() ? nullptr : found->second;
}

std::unique_ptr<WatchCache::Registration> WatchCache::Register(
    KindState& state, std::shared_ptr<CacheListener> listener) {
  uint64_t id = next_registration_++;
  state.listeners.emplace(id, std::move(listener));
  return std::make_unique<RegistrationHere>(*this, state, id);
}

WatchCache::Subscribed WatchCache::SubscribeFromNow(const KindInfo& kind, std::string_view ns,
                                                    std::shared_ptr<CacheListener> listener) {
  std::lock_guard lock(mutex_);
  KindState& state = StateOf(kind);
  Subscribed subscribed;
  subscribed.snapshot = Snapshot(state, ns, revision_);
  subscribed.revision = revision_;
  subscribed.registration = Register(state, std::move(listener));
  return subscribed;
}

Result<WatchCache::Subscribed> WatchCache::SubscribeAfter(const KindInfo& kind, std::string_view ns,
                                                          Revision after,
                                                          std::shared_ptr<CacheListener> listener) {
  std::lock_guard lock(mutex_);
  KindState& state = StateOf(kind);
  if (after < state.floor) {
    return Error(Code::kExpired, "too old resource version: " + std::to_string(after) + " (" +
                                     std::to_string(state.floor) + ")");
  }
  Subscribed subscribed;
  auto first = std::upper_bound(
      state.events.begin(), state.events.end(), after,
      [](Revision revision, const CacheEventPtr& event) { return revision < event->revision; });
  for (auto it = first; it != state.events.end(); ++it) {
    if (InNamespace((*it)->object->key, ns)) subscribed.events.push_back(*it);
  }
  subscribed.revision = revision_;
  subscribed.registration = Register(state, std::move(listener));
  return subscribed;
}

std::vector<WatchCache::Counts> WatchCache::Count() const {
  std::lock_guard lock(mutex_);
  std::vector<Counts> counts;
  for (const auto& [prefix, state] : states_) {
    counts.push_back(
        {state->kind->QualifiedPlural(), state->objects.size(), state->listeners.size()});
  }
  return counts;
}

}  // namespace skiff::cp
