// PolicyFeed: which network policies, and which addresses of peers, each node is told of.
//
// A node is told of the policies that select pods on it and of the address sets these name, so its
// share depends on its own pods and not on the size of the cluster. A change costs what it changes:
// a pod is compared with the selectors that may select it, and what it moves is one part of the
// sets that gain or lose it. docs/design/0003-network-policies.md.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/net/ip.h"
#include "control-plane/rpc/address_sets.h"
#include "control-plane/rpc/object_views.h"
#include "proto/k8s/fwd.h"

namespace skiff::cp {

// All calls on one thread.
class PolicyFeed {
 public:
  // Called when what a node is told of a kNetworkPolicy ("namespace/name") or a kAddressSet (a
  // part) may have changed.
  using Changed =
      std::function<void(const std::string& node, FeedKind kind, const std::string& key)>;
  // The nodes answer the cluster's DNS themselves, without pods: for policies, the DNS is a pod
  // with these addresses and with the labels and ports that it has everywhere else (namespace
  // kube-system, k8s-app: kube-dns, ports dns and dns-tcp).
  PolicyFeed(std::vector<net::IpAddress> cluster_dns, Changed changed);
  ~PolicyFeed();

  // Null: the object is gone.
  void SetNamespace(const std::string& name, ObjectPtr object);
  void SetPod(const std::string& key, ObjectPtr object);
  void SetPolicy(const std::string& key, ObjectPtr object);

  bool Concerns(const std::string& node, FeedKind kind, const std::string& key) const;
  // Null for what is not there.
  std::shared_ptr<const ObjectView> View(FeedKind kind, const std::string& key);
  // All that the node is told of.
  std::set<std::pair<FeedKind, std::string>> Everything(const std::string& node) const;

 private:
  struct Policy {
    codec::LabelSelector pods;
    std::vector<std::string> sets;              // may name one several times
    std::map<std::string, std::string> chosen;  // the pods selected, and their nodes
    std::map<std::string, int> nodes;           // by how many of its pods
    std::shared_ptr<const ObjectView> view;
  };

  void AddDns(const std::vector<net::IpAddress>& addresses);
  // Brings it up to date whether the policy selects the pod and on which node.
  void Choose(const std::string& key, Policy& policy, const std::string& pod,
              const std::string& node);
  void RemovePolicy(const std::string& key);

  const Changed changed_;
  PeerPods pods_;
  NamespaceLabels namespaces_;
  AddressSets sets_;
  std::unordered_map<std::string, std::string> nodes_of_pods_;  // of those that can be selected
  std::unordered_map<std::string, std::set<std::string>> pods_by_namespace_;
  std::map<std::string, Policy> policies_;  // by "namespace/name": those of one are neighbours
};

}  // namespace skiff::cp
