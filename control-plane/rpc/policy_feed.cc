#include "control-plane/rpc/policy_feed.h"

#include <algorithm>

#include "control-plane/rpc/policy_message.h"
#include "control-plane/rpc/write_back.h"
#include "proto/codec/meta.h"
#include "proto/k8s/core/v1/namespace.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"
#include "proto/k8s/networking/v1/networking.pb.h"
#include "proto/skiff/node/v1/policy.pb.h"

namespace skiff::cp {

namespace {

namespace core = k8s::core::v1;
namespace networking = k8s::networking::v1;

constexpr char kDnsNamespace[] = "kube-system";
// No pod has such a name.
constexpr char kDnsPod[] = "kube-system/(the nodes' DNS)";

std::string NamespaceOf(const std::string& key) { return key.substr(0, key.find('/')); }

bool HasEnded(const core::Pod& pod) {
  return pod.status().phase() == "Succeeded" || pod.status().phase() == "Failed";
}

// Pods of the host's network are the node itself: policies neither select nor name them.
bool IsSubject(const core::Pod& pod) { return !pod.spec().host_network() && !HasEnded(pod); }

std::vector<net::IpAddress> AddressesOf(const core::Pod& pod) {
  std::vector<net::IpAddress> addresses;
  if (!IsSubject(pod)) return addresses;
  auto add = [&](const std::string& text) {
    auto address = net::IpAddress::Parse(text);
    if (!address.ok()) return;
    if (std::find(addresses.begin(), addresses.end(), *address) == addresses.end()) {
      addresses.push_back(*address);
    }
  };
  if (!pod.status().pod_ip().empty()) add(pod.status().pod_ip());
  for (const core::PodIP& ip : pod.status().pod_ips()) add(ip.ip());
  return addresses;
}

bool SameLabels(const codec::LabelMap& a, const codec::LabelMap& b) {
  return a.size() == b.size() && std::all_of(a.begin(), a.end(), [&](const auto& label) {
           auto found = b.find(label.first);
           return found != b.end() && found->second == label.second;
         });
}

// A pod's ports do not change, so that its labels, addresses and node are all that counts.
bool SamePeer(const PeerPod& a, const PeerPod& b) {
  return a.addresses == b.addresses &&
         SameLabels(codec::MetaOf(*a.object).labels(), codec::MetaOf(*b.object).labels());
}

}  // namespace

PolicyFeed::PolicyFeed(std::vector<net::IpAddress> cluster_dns, Changed changed)
    : changed_(std::move(changed)),
      sets_(pods_, namespaces_, [this](const std::string& node, const std::string& part) {
        changed_(node, FeedKind::kAddressSet, part);
      }) {
  if (!cluster_dns.empty()) AddDns(cluster_dns);
}

PolicyFeed::~PolicyFeed() = default;

void PolicyFeed::AddDns(const std::vector<net::IpAddress>& addresses) {
  auto pod = std::make_shared<core::Pod>();
  (*pod->mutable_metadata()->mutable_labels())["k8s-app"] = "kube-dns";
  core::Container& container = *pod->mutable_spec()->add_containers();
  for (auto [name, protocol] : {std::pair("dns", "UDP"), std::pair("dns-tcp", "TCP")}) {
    core::ContainerPort& port = *container.add_ports();
    port.set_name(name);
    port.set_protocol(protocol);
    port.set_container_port(53);
  }
  pods_[kDnsPod] = {kDnsNamespace, std::move(pod), addresses};
  pods_by_namespace_[kDnsNamespace].insert(kDnsPod);
}

void PolicyFeed::SetNamespace(const std::string& name, ObjectPtr object) {
  auto found = namespaces_.find(name);
  if (object == nullptr) {
    if (found == namespaces_.end()) return;
    namespaces_.erase(found);
  } else {
    bool same = found != namespaces_.end() &&
                SameLabels(codec::MetaOf(*found->second).labels(), codec::MetaOf(*object).labels());
    namespaces_[name] = std::move(object);
    if (same) return;
  }
  auto pods = pods_by_namespace_.find(name);
  if (pods == pods_by_namespace_.end()) return;
  sets_.NamespaceChanged({pods->second.begin(), pods->second.end()});
}

void PolicyFeed::SetPod(const std::string& key, ObjectPtr object) {
  std::string ns = NamespaceOf(key);
  const auto* pod = static_cast<const core::Pod*>(object.get());
  std::string node = pod != nullptr && IsSubject(*pod) ? pod->spec().node_name() : "";
  auto present = pods_.find(key);
  auto former_node = nodes_of_pods_.find(key);
  bool same_node = former_node == nodes_of_pods_.end() ? node.empty() : former_node->second == node;
  if (pod == nullptr) {
    if (present == pods_.end()) return;
    pods_.erase(present);
    auto index = pods_by_namespace_.find(ns);
    index->second.erase(key);
    if (index->second.empty()) pods_by_namespace_.erase(index);
  } else {
    PeerPod peer{ns, object, AddressesOf(*pod)};
    bool same = present != pods_.end() && SamePeer(present->second, peer);
    pods_[key] = std::move(peer);
    pods_by_namespace_[ns].insert(key);
    if (same && same_node) return;
  }
  if (node.empty()) {
    nodes_of_pods_.erase(key);
  } else {
    nodes_of_pods_[key] = node;
  }
  sets_.PodChanged(key, ns);
  for (auto it = policies_.lower_bound(ns + "/");
       it != policies_.end() && it->first.starts_with(ns + "/"); ++it) {
    Choose(it->first, it->second, key, node);
  }
}

void PolicyFeed::Choose(const std::string& key, Policy& policy, const std::string& pod,
                        const std::string& node) {
  std::string now;
  if (!node.empty() && policy.pods.Matches(codec::MetaOf(*pods_.at(pod).object).labels())) {
    now = node;
  }
  auto chosen = policy.chosen.find(pod);
  std::string before = chosen == policy.chosen.end() ? "" : chosen->second;
  if (now == before) return;
  if (now.empty()) {
    policy.chosen.erase(pod);
  } else {
    policy.chosen[pod] = now;
    if (++policy.nodes[now] == 1) {
      for (const std::string& set : policy.sets) sets_.Tell(set, now);
      changed_(now, FeedKind::kNetworkPolicy, key);
    }
  }
  if (before.empty() || --policy.nodes[before] > 0) return;
  policy.nodes.erase(before);
  changed_(before, FeedKind::kNetworkPolicy, key);
  for (const std::string& set : policy.sets) sets_.Untell(set, before);
}

void PolicyFeed::SetPolicy(const std::string& key, ObjectPtr object) {
  if (object == nullptr) return RemovePolicy(key);
  const auto& policy = static_cast<const networking::NetworkPolicy&>(*object);
  node::v1::NetworkPolicy message;
  std::vector<std::string> sets;
  // The new ones before the old: what both name is not told anew.
  for (const SetSpec& spec : ToMessage(policy, &message)) sets.push_back(sets_.Use(spec));
  auto view = std::make_shared<ObjectView>();
  view->bytes = SortedBytes(message);
  view->digest = DigestOf(view->bytes);
  Policy& present = policies_[key];
  for (const auto& [node, count] : present.nodes) {
    for (const std::string& set : sets) sets_.Tell(set, node);
    for (const std::string& set : present.sets) sets_.Untell(set, node);
  }
  for (const std::string& set : std::exchange(present.sets, std::move(sets))) sets_.Unuse(set);
  present.view = std::move(view);
  auto selector = codec::LabelSelector::From(policy.spec().pod_selector());
  present.pods = selector.ok() ? *std::move(selector) : codec::LabelSelector::Nothing();
  for (const auto& [node, count] : present.nodes) changed_(node, FeedKind::kNetworkPolicy, key);
  auto pods = pods_by_namespace_.find(NamespaceOf(key));
  if (pods == pods_by_namespace_.end()) return;
  for (const std::string& pod : pods->second) {
    auto node = nodes_of_pods_.find(pod);
    if (node != nodes_of_pods_.end()) Choose(key, present, pod, node->second);
  }
}

void PolicyFeed::RemovePolicy(const std::string& key) {
  auto found = policies_.find(key);
  if (found == policies_.end()) return;
  Policy policy = std::move(found->second);
  policies_.erase(found);
  for (const auto& [node, count] : policy.nodes) {
    changed_(node, FeedKind::kNetworkPolicy, key);
    for (const std::string& set : policy.sets) sets_.Untell(set, node);
  }
  for (const std::string& set : policy.sets) sets_.Unuse(set);
}

bool PolicyFeed::Concerns(const std::string& node, FeedKind kind, const std::string& key) const {
  if (kind == FeedKind::kAddressSet) return sets_.Concerns(node, key);
  auto found = policies_.find(key);
  return found != policies_.end() && found->second.nodes.contains(node);
}

std::shared_ptr<const ObjectView> PolicyFeed::View(FeedKind kind, const std::string& key) {
  if (kind == FeedKind::kAddressSet) return sets_.View(key);
  auto found = policies_.find(key);
  return found == policies_.end() ? nullptr : found->second.view;
}

std::set<std::pair<FeedKind, std::string>> PolicyFeed::Everything(const std::string& node) const {
  std::set<std::pair<FeedKind, std::string>> keys;
  for (const std::string& part : sets_.PartsOf(node)) keys.emplace(FeedKind::kAddressSet, part);
  for (const auto& [key, policy] : policies_) {
    if (policy.nodes.contains(node)) keys.emplace(FeedKind::kNetworkPolicy, key);
  }
  return keys;
}

}  // namespace skiff::cp
