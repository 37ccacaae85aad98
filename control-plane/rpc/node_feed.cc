#include "control-plane/rpc/node_feed.h"

#include <algorithm>

#include "proto/codec/meta.h"
#include "proto/k8s/core/v1/node.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"

namespace skiff::cp {

namespace {

namespace core = k8s::core::v1;

// Deletions that a node is remembered to have missed, at most.
constexpr size_t kMaxDeletions = 10'000;

constexpr FeedKind kWatchedKinds[] = {
    FeedKind::kNode,          FeedKind::kConfigMap, FeedKind::kSecret,
    FeedKind::kRuntimeClass,  FeedKind::kService,   FeedKind::kEndpointSlice,
    FeedKind::kNetworkPolicy, FeedKind::kPod,       FeedKind::kNamespace};

bool IsOfPolicies(FeedKind kind) {
  return kind == FeedKind::kAddressSet || kind == FeedKind::kNetworkPolicy;
}

size_t Index(FeedKind kind) { return static_cast<size_t>(kind); }

std::string KeyOfObject(const Message& object) {
  const auto& meta = codec::MetaOf(object);
  return meta.namespace_().empty() ? meta.name() : meta.namespace_() + "/" + meta.name();
}

std::pair<std::string, std::string> Split(const std::string& key) {
  size_t slash = key.find('/');
  if (slash == std::string::npos) return {"", key};
  return {key.substr(0, slash), key.substr(slash + 1)};
}

int64_t Microseconds(WallTime time) {
  return std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count();
}

}  // namespace

NodeFeed::NodeFeed(Client& client, Executor& strand, std::vector<net::IpAddress> cluster_dns)
    : client_(client),
      strand_(strand),
      position_(Microseconds(strand.clock().WallNow())),
      first_position_(position_),
      policies_(std::move(cluster_dns),
                [this](const std::string& node, FeedKind kind, const std::string& key) {
                  auto share = shares_.find(node);
                  if (share != shares_.end()) Offer(share->second, {kind, key});
                }) {
  std::fill(std::begin(in_snapshot_), std::end(in_snapshot_), true);
  synced_[Index(FeedKind::kAddressSet)] = true;  // they follow from the others
}

NodeFeed::~NodeFeed() = default;

void NodeFeed::Start() {
  for (FeedKind kind : kWatchedKinds) {
    subscriptions_.push_back(client_.WatchObjects(
        FeedPrototype(kind), {}, strand_, [weak = weak_from_this(), kind](const WatchEvent& event) {
          if (auto self = weak.lock()) self->Receive(kind, event);
        }));
  }
}

void NodeFeed::Stop() {
  subscriptions_.clear();
  on_ready_ = nullptr;
  on_node_ = nullptr;
  shares_.clear();
}

// ---- the objects ----

NodeFeed::Share& NodeFeed::ShareOf(const std::string& node) {
  Share& share = shares_[node];
  share.node = node;
  return share;
}

void NodeFeed::Receive(FeedKind kind, const WatchEvent& event) {
  size_t index = Index(kind);
  switch (event.type) {
    case WatchEvent::Type::kReset:
      in_snapshot_[index] = true;
      seen_[index].clear();
      return;
    case WatchEvent::Type::kSynced: return EndSnapshot(kind);
    case WatchEvent::Type::kDeleted: return Change(kind, KeyOfObject(*event.object), nullptr);
    case WatchEvent::Type::kAdded:
    case WatchEvent::Type::kModified: break;
  }
  std::string key = KeyOfObject(*event.object);
  if (in_snapshot_[index]) seen_[index].insert(key);
  Change(kind, key, event.object);
}

void NodeFeed::EndSnapshot(FeedKind kind) {
  size_t index = Index(kind);
  std::vector<std::string> gone;
  for (const auto& [key, object] : objects_[index]) {
    if (seen_[index].count(key) == 0) gone.push_back(key);
  }
  seen_[index].clear();
  in_snapshot_[index] = false;
  for (const std::string& key : gone) Change(kind, key, nullptr);
  synced_[index] = true;
  if (!ready_ && std::all_of(std::begin(synced_), std::end(synced_), [](bool s) { return s; })) {
    ready_ = true;
    if (on_ready_) on_ready_();
  }
}

void NodeFeed::Change(FeedKind kind, const std::string& key, ObjectPtr object) {
  auto& objects = objects_[Index(kind)];
  const Message* now = object.get();
  if (object != nullptr) {
    objects[key] = object;
  } else if (objects.erase(key) == 0) {
    return;
  }
  // These offer what follows from them themselves, to the nodes that they concern.
  if (kind == FeedKind::kNamespace) return policies_.SetNamespace(key, std::move(object));
  if (kind == FeedKind::kNetworkPolicy) return policies_.SetPolicy(key, std::move(object));
  if (kind == FeedKind::kPod) {
    ChangePod(key, now);
    policies_.SetPod(key, object);
  }
  OfferToAll({kind, key});
  if (kind == FeedKind::kNode) {
    if (on_node_) on_node_(key, static_cast<const core::Node*>(now));
    if (now == nullptr) ForgetIfUseless(key);
  }
}

void NodeFeed::ChangePod(const std::string& key, const Message* object) {
  auto found = pods_.find(key);
  PodEntry before = found == pods_.end() ? PodEntry{} : found->second;
  PodEntry now;
  if (object != nullptr) {
    const auto& pod = static_cast<const core::Pod&>(*object);
    now.node = pod.spec().node_name();
    // A pod that has ended needs its configuration no longer, but keeps it until it is gone: its
    // node may still be tearing it down.
    if (!now.node.empty()) now.references = ReferencesOf(pod.spec());
  }
  if (now.node.empty() && before.node.empty()) return;
  std::string ns = Split(key).first;
  // First the new references, then the old: what both name stays wanted in between.
  if (!now.node.empty()) {
    Share& share = ShareOf(now.node);
    share.pods.insert(key);
    AddReferences(share, ns, now.references, 1);
  }
  if (!before.node.empty()) {
    Share& share = ShareOf(before.node);
    if (before.node != now.node) {
      share.pods.erase(key);
      Offer(share, {FeedKind::kPod, key});
    }
    AddReferences(share, ns, before.references, -1);
  }
  if (now.node.empty()) {
    pods_.erase(key);
    ForgetIfUseless(before.node);
  } else {
    pods_[key] = std::move(now);
  }
}

void NodeFeed::AddReferences(Share& share, const std::string& ns, const PodReferences& references,
                             int by) {
  auto add = [&](FeedKind kind, const std::string& prefix, const std::set<std::string>& names) {
    for (const std::string& name : names) {
      Key key{kind, prefix + name};
      int& count = share.wanted[key];
      bool was_wanted = count > 0;
      count += by;
      if (was_wanted == (count > 0)) continue;
      if (count == 0) share.wanted.erase(key);
      Offer(share, key);
    }
  };
  add(FeedKind::kConfigMap, ns + "/", references.config_maps);
  add(FeedKind::kSecret, ns + "/", references.secrets);
  add(FeedKind::kRuntimeClass, "", references.runtime_classes);
}

ObjectPtr NodeFeed::Find(const Key& key) const {
  const auto& objects = objects_[Index(key.first)];
  auto found = objects.find(key.second);
  return found == objects.end() ? nullptr : found->second;
}

std::shared_ptr<const core::Node> NodeFeed::FindNode(const std::string& name) const {
  return std::static_pointer_cast<const core::Node>(Find({FeedKind::kNode, name}));
}

// ---- the nodes ----

bool NodeFeed::Concerns(const Share& share, const Key& key) const {
  switch (key.first) {
    case FeedKind::kPod: return share.pods.count(key.second) != 0;
    case FeedKind::kConfigMap:
    case FeedKind::kSecret:
    case FeedKind::kRuntimeClass: return share.wanted.count(key) != 0;
    case FeedKind::kNode:
    case FeedKind::kService:
    case FeedKind::kEndpointSlice: return true;
    case FeedKind::kAddressSet:
    case FeedKind::kNetworkPolicy: return policies_.Concerns(share.node, key.first, key.second);
    case FeedKind::kNamespace: break;
  }
  return false;
}

// Puts the key on the list if the node is connected and is, or was, concerned.
void NodeFeed::Offer(Share& share, const Key& key) {
  if (!share.connected) return;
  if (!Concerns(share, key) && share.sent.count(key) == 0) return;
  if (share.to_send.insert(key).second && share.on_work) share.on_work();
}

void NodeFeed::OfferToAll(const Key& key) {
  for (auto& [node, share] : shares_) Offer(share, key);
}

std::set<NodeFeed::Key> NodeFeed::Everything(const Share& share) const {
  std::set<Key> keys;
  for (FeedKind kind : {FeedKind::kNode, FeedKind::kService, FeedKind::kEndpointSlice}) {
    for (const auto& [key, object] : objects_[Index(kind)]) keys.emplace(kind, key);
  }
  for (const auto& [key, count] : share.wanted) keys.insert(key);
  for (const std::string& pod : share.pods) keys.emplace(FeedKind::kPod, pod);
  keys.merge(policies_.Everything(share.node));
  return keys;
}

bool NodeFeed::Connect(const std::string& node, int64_t position, Closure on_work) {
  Share& share = ShareOf(node);
  share.connected = true;
  share.on_work = std::move(on_work);
  bool full = position < first_position_ || position < share.forgotten || position > share.marked;
  share.marked = 0;
  share.to_send = Everything(share);
  if (full) {
    share.sent.clear();
    share.deletions = 0;
    share.forgotten = position_;
    return true;
  }
  // What went out after the mark may not have arrived: it counts as not sent. The rest is compared
  // with what there is now, for changes while the node was away.
  for (auto& [key, sent] : share.sent) {
    if (sent.position > position) sent.digest = 0;
    share.to_send.insert(key);
  }
  return false;
}

void NodeFeed::Disconnect(const std::string& node) {
  auto found = shares_.find(node);
  if (found == shares_.end()) return;
  found->second.connected = false;
  found->second.on_work = nullptr;
  found->second.to_send.clear();
  // What was marked stays the node's position until it connects again.
  found->second.marked = std::max(found->second.marked, found->second.last_sent);
  ForgetIfUseless(node);
}

std::optional<uint64_t> NodeFeed::Look(const Share& share, const Key& key, FeedItem* item) {
  if (!Concerns(share, key)) return std::nullopt;
  ObjectPtr object = Find(key);
  if (object != nullptr) {
    const auto& meta = codec::MetaOf(*object);
    item->uid = meta.uid();
    item->revision = std::strtoll(meta.resource_version().c_str(), nullptr, 10);
  }
  if (IsOfPolicies(key.first)) {
    auto view = policies_.View(key.first, key.second);
    if (view == nullptr) return std::nullopt;
    item->bytes = view->bytes;
    return view->digest;
  }
  if (object == nullptr) return std::nullopt;
  ObjectView view = ViewOf(key.first, *object);
  item->bytes = std::move(view.bytes);
  return view.digest;
}

std::optional<FeedItem> NodeFeed::Next(const std::string& node) {
  auto found = shares_.find(node);
  if (found == shares_.end() || !found->second.connected) return std::nullopt;
  Share& share = found->second;
  while (!share.to_send.empty()) {
    Key key = *share.to_send.begin();
    share.to_send.erase(share.to_send.begin());
    auto sent = share.sent.find(key);
    FeedItem item{.kind = key.first};
    std::tie(item.ns, item.name) = Split(key.second);
    std::optional<uint64_t> digest = Look(share, key, &item);
    if (!digest) {
      // Never sent, or told already.
      if (sent == share.sent.end() || (sent->second.deleted && sent->second.digest != 0)) continue;
      item.deleted = true;
      item.uid = sent->second.uid;
      if (!sent->second.deleted) ++share.deletions;
      share.last_sent = ++position_;
      sent->second = {.digest = 1, .position = position_, .uid = item.uid, .deleted = true};
      Prune(share);
      return item;
    }
    if (sent != share.sent.end() && !sent->second.deleted && sent->second.digest == *digest) {
      continue;
    }
    if (sent != share.sent.end() && sent->second.deleted) --share.deletions;
    share.last_sent = ++position_;
    share.sent[key] = {.digest = *digest, .position = position_, .uid = item.uid};
    return item;
  }
  return std::nullopt;
}

std::optional<int64_t> NodeFeed::NextMark(const std::string& node) {
  auto found = shares_.find(node);
  if (found == shares_.end()) return std::nullopt;
  Share& share = found->second;
  if (share.marked != 0 && share.last_sent <= share.marked) return std::nullopt;
  share.marked = std::max(share.last_sent, ++position_);
  return share.marked;
}

// Forgets the older half of the deletions; a node that has not seen those starts over.
void NodeFeed::Prune(Share& share) {
  if (share.deletions <= kMaxDeletions) return;
  std::vector<int64_t> positions;
  for (const auto& [key, sent] : share.sent) {
    if (sent.deleted) positions.push_back(sent.position);
  }
  auto middle = positions.begin() + static_cast<ptrdiff_t>(positions.size() / 2);
  std::nth_element(positions.begin(), middle, positions.end());
  share.forgotten = std::max(share.forgotten, *middle);
  std::erase_if(share.sent, [&](const auto& entry) {
    return entry.second.deleted && entry.second.position <= share.forgotten;
  });
  share.deletions =
      static_cast<size_t>(std::count_if(share.sent.begin(), share.sent.end(),
                                        [](const auto& entry) { return entry.second.deleted; }));
}

// A share is kept while its node exists or has pods, so that a node that was away can resume.
void NodeFeed::ForgetIfUseless(const std::string& node) {
  auto found = shares_.find(node);
  if (found == shares_.end() || found->second.connected || !found->second.pods.empty()) return;
  if (FindNode(node) == nullptr) shares_.erase(found);
}

}  // namespace skiff::cp
