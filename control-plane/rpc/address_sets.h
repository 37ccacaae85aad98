// AddressSets: the addresses of the pods that network policies name as peers, kept as pods come and
// go, and cut into parts so that a pod's coming costs each node one small message.
//
// A set is what a peer of a policy selects: pods by label in one namespace, or in all namespaces
// with certain labels; with a port's name, the pods' ports of that name. Policies that select the
// same share a set.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/net/ip.h"
#include "control-plane/rpc/object_views.h"
#include "proto/codec/selector.h"

namespace skiff::cp {

struct SetPort {
  std::string name;
  std::string protocol;  // "TCP", "UDP", "SCTP"
  auto operator<=>(const SetPort&) const = default;
};

struct SetSpec {
  std::string ns;                                  // of a set without namespace selector
  std::optional<codec::LabelSelector> namespaces;  // in all namespaces with such labels
  codec::LabelSelector pods;
  std::optional<SetPort> port;  // the members' ports of that name, pods without it left out

  // The name of the set: equal for specs that select the same.
  std::string Id() const;
};

// A pod as others may name it. Pods of the host's network, pods that have ended and pods without an
// address have no addresses here: they are nobody's peers.
struct PeerPod {
  std::string ns;
  ObjectPtr object;  // a core/v1 Pod: its labels and ports
  std::vector<net::IpAddress> addresses;
};

using PeerPods = std::unordered_map<std::string, PeerPod>;           // by "namespace/name"
using NamespaceLabels = std::unordered_map<std::string, ObjectPtr>;  // core/v1 Namespace by name

// All calls on one thread.
class AddressSets {
 public:
  // Called when what a node is told of a part may have changed.
  using Changed = std::function<void(const std::string& node, const std::string& part)>;
  // The pods and namespaces are the caller's and outlive it; each change of them is told by
  // PodChanged and NamespaceChanged, after it.
  AddressSets(const PeerPods& pods, const NamespaceLabels& namespaces, Changed changed);
  ~AddressSets();

  // Sets live as long as somebody uses them: a use more, or less. Returns the set's id.
  std::string Use(const SetSpec& spec);
  void Unuse(const std::string& id);
  // The node is told of the set once more, or once less.
  void Tell(const std::string& id, const std::string& node);
  void Untell(const std::string& id, const std::string& node);

  void PodChanged(const std::string& key, const std::string& ns);
  // The pods of the namespace.
  void NamespaceChanged(const std::vector<std::string>& pods);

  bool Concerns(const std::string& node, const std::string& part) const;
  // Null for a part without members.
  std::shared_ptr<const ObjectView> View(const std::string& part);
  // The parts that the node is told of.
  std::vector<std::string> PartsOf(const std::string& node) const;

 private:
  struct Part;
  struct Set;
  Set* FindSet(const std::string& part) const;
  void Update(Set& set, const std::string& key);
  void TellAll(const Set& set, size_t part) const;

  const PeerPods& pods_;
  const NamespaceLabels& namespaces_;
  const Changed changed_;
  std::map<std::string, std::unique_ptr<Set>> sets_;  // by id
  std::unordered_map<std::string, std::set<Set*>> of_namespace_;
  std::set<Set*> of_all_namespaces_;
};

}  // namespace skiff::cp
