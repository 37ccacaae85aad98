// NodeFeed: what each node must be told: the pods bound to it, the ConfigMaps, Secrets and
// RuntimeClasses they name, Services, EndpointSlices, the other nodes and the network policies of
// its pods; and how far each node has come.
//
// A node's share is a set of keys with the view last sent for each. A change puts the key into the
// node's set of things to send; what goes out is the state at that moment, so changes coalesce and
// the set is never larger than the share. Positions number what was sent: a node that comes back
// with the position of its last mark gets only what has changed since.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/async/executor.h"
#include "control-plane/api/client.h"
#include "control-plane/rpc/object_views.h"
#include "control-plane/rpc/pod_references.h"
#include "control-plane/rpc/policy_feed.h"

namespace skiff::cp {

// One update for a node.
struct FeedItem {
  FeedKind kind = FeedKind::kPod;
  std::string ns;
  std::string name;
  std::string uid;
  int64_t revision = 0;  // the object's resourceVersion
  bool deleted = false;
  std::string bytes;
};

// All calls and callbacks on the strand, but for the constructor.
class NodeFeed : public std::enable_shared_from_this<NodeFeed> {
 public:
  // client and strand must outlive the feed. The first position is taken from the strand's wall
  // clock, so that positions of an earlier process are recognised as such. cluster_dns: where the
  // nodes answer the cluster's names, for policies.
  NodeFeed(Client& client, Executor& strand, std::vector<net::IpAddress> cluster_dns = {});
  ~NodeFeed();

  // Begins to watch.
  void Start();
  void Stop();

  // Whether all kinds have been seen once; on_ready is called when they have.
  bool ready() const { return ready_; }
  void set_on_ready(Closure handler) { on_ready_ = std::move(handler); }
  // Called for each change of a Node object, null when it is gone.
  using NodeHandler = std::function<void(const std::string& name, const k8s::core::v1::Node* node)>;
  void set_on_node(NodeHandler handler) { on_node_ = std::move(handler); }
  std::shared_ptr<const k8s::core::v1::Node> FindNode(const std::string& name) const;

  // A node is connected and has all that was marked up to the position (0: nothing). on_work is
  // called whenever Next may have something new. True: all will be sent again, beginning with a
  // full state; false: only what changed since.
  bool Connect(const std::string& node, int64_t position, Closure on_work);
  void Disconnect(const std::string& node);

  // The next update for a connected node, or nothing when it has everything.
  std::optional<FeedItem> Next(const std::string& node);
  // The position to mark once Next gave nothing; nothing when the last mark still holds.
  std::optional<int64_t> NextMark(const std::string& node);

 private:
  using Key = std::pair<FeedKind, std::string>;  // "ns/name" or "name"
  struct Sent {
    uint64_t digest = 0;
    int64_t position = 0;
    std::string uid;
    bool deleted = false;
  };
  struct Share {
    std::string node;
    bool connected = false;
    Closure on_work;
    std::map<Key, Sent> sent;
    std::set<Key> to_send;
    int64_t marked = 0;     // the last position marked
    int64_t last_sent = 0;  // the last position given to an update
    int64_t forgotten = 0;  // deletions up to here are no longer known
    size_t deletions = 0;
    std::map<Key, int> wanted;  // ConfigMaps, Secrets and RuntimeClasses, by how many pods
    std::set<std::string> pods;
  };
  struct PodEntry {
    std::string node;
    PodReferences references;
  };

  Share& ShareOf(const std::string& node);
  void Receive(FeedKind kind, const WatchEvent& event);
  void EndSnapshot(FeedKind kind);
  void Change(FeedKind kind, const std::string& key, ObjectPtr object);
  void ChangePod(const std::string& key, const Message* object);
  void AddReferences(Share& share, const std::string& ns, const PodReferences& references, int by);
  void Offer(Share& share, const Key& key);
  void OfferToAll(const Key& key);
  bool Concerns(const Share& share, const Key& key) const;
  ObjectPtr Find(const Key& key) const;
  // Fills what the node is told of it; nothing if it is not there or no concern of the node's.
  std::optional<uint64_t> Look(const Share& share, const Key& key, FeedItem* item);
  std::set<Key> Everything(const Share& share) const;
  void Prune(Share& share);
  void ForgetIfUseless(const std::string& node);

  Client& client_;
  Executor& strand_;
  int64_t position_;
  const int64_t first_position_;
  std::unordered_map<std::string, ObjectPtr> objects_[kFeedKinds];
  std::set<std::string> seen_[kFeedKinds];  // while a snapshot comes in
  bool in_snapshot_[kFeedKinds];
  bool synced_[kFeedKinds] = {};
  bool ready_ = false;
  Closure on_ready_;
  NodeHandler on_node_;
  std::unordered_map<std::string, PodEntry> pods_;
  std::map<std::string, Share> shares_;  // by node
  PolicyFeed policies_;
  std::vector<std::unique_ptr<Subscription>> subscriptions_;
};

}  // namespace skiff::cp
