#include "control-plane/rpc/address_sets.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/net/short_hash.h"
#include "control-plane/rpc/write_back.h"
#include "proto/k8s/core/v1/namespace.pb.h"
#include "proto/k8s/core/v1/pod.pb.h"
#include "proto/k8s/meta/v1/object.pb.h"
#include "proto/skiff/node/v1/policy.pb.h"

namespace skiff::cp {

namespace {

namespace core = k8s::core::v1;

// Enough that a part of a set of thousands of pods is a message of a few kilobytes, few enough that
// small sets are no crowd of messages.
constexpr size_t kParts = 32;
constexpr size_t kIdCharacters = 16;

// By the pod's name alone: std::hash may differ between builds, and nodes that reconnect after an
// upgrade would be told everything anew.
size_t PartOf(const std::string& pod) {
  uint32_t hash = 2166136261;  // FNV-1a
  for (unsigned char c : pod) hash = (hash ^ c) * 16777619;
  return hash % kParts;
}

std::string PartName(const std::string& set, size_t part) {
  return set + "." + std::to_string(part);
}

// The pod's port of that name; upstream takes the first.
uint16_t PortOf(const core::Pod& pod, const SetPort& wanted) {
  auto find = [&](const auto& containers) -> uint16_t {
    for (const auto& container : containers) {
      for (const auto& port : container.ports()) {
        const std::string& protocol = port.protocol();
        if (port.name() == wanted.name &&
            (protocol.empty() ? "TCP" : protocol) == wanted.protocol) {
          return static_cast<uint16_t>(port.container_port());
        }
      }
    }
    return 0;
  };
  if (uint16_t port = find(pod.spec().containers()); port != 0) return port;
  return find(pod.spec().init_containers());  // sidecars
}

}  // namespace

std::string SetSpec::Id() const {
  std::string text = namespaces ? "namespaces " + namespaces->ToString() : "namespace " + ns;
  text += "\npods " + pods.ToString();
  if (port) text += "\nport " + port->protocol + " " + port->name;
  return net::ShortHashBase32(text, kIdCharacters);
}

struct AddressSets::Part {
  struct Member {
    std::vector<net::IpAddress> addresses;
    uint16_t port = 0;
    bool operator==(const Member&) const = default;
  };
  std::map<std::string, Member> members;   // by pod
  std::shared_ptr<const ObjectView> view;  // null: to be made anew
};

struct AddressSets::Set {
  std::string id;
  SetSpec spec;
  int uses = 0;
  std::map<std::string, int> nodes;  // told of it, by how many policies
  std::array<Part, kParts> parts;
};

AddressSets::AddressSets(const PeerPods& pods, const NamespaceLabels& namespaces, Changed changed)
    : pods_(pods), namespaces_(namespaces), changed_(std::move(changed)) {}
AddressSets::~AddressSets() = default;

void AddressSets::TellAll(const Set& set, size_t part) const {
  std::string name = PartName(set.id, part);
  for (const auto& [node, count] : set.nodes) changed_(node, name);
}

// Brings the pod's place in the set up to date.
void AddressSets::Update(Set& set, const std::string& key) {
  Part::Member member;
  auto pod = pods_.find(key);
  if (pod != pods_.end() && !pod->second.addresses.empty()) {
    const auto& object = static_cast<const core::Pod&>(*pod->second.object);
    bool selected = set.spec.pods.Matches(object.metadata().labels());
    if (selected && set.spec.namespaces) {
      auto ns = namespaces_.find(pod->second.ns);
      selected = ns != namespaces_.end() &&
                 set.spec.namespaces->Matches(
                     static_cast<const core::Namespace&>(*ns->second).metadata().labels());
    }
    if (selected && set.spec.port) {
      member.port = PortOf(object, *set.spec.port);
      selected = member.port != 0;
    }
    if (selected) member.addresses = pod->second.addresses;
  }
  size_t index = PartOf(key);
  Part& part = set.parts[index];
  auto present = part.members.find(key);
  if (member.addresses.empty()) {
    if (present == part.members.end()) return;
    part.members.erase(present);
  } else if (present == part.members.end()) {
    part.members.emplace(key, std::move(member));
  } else if (present->second == member) {
    return;
  } else {
    present->second = std::move(member);
  }
  part.view = nullptr;
  TellAll(set, index);
}

std::string AddressSets::Use(const SetSpec& spec) {
  std::string id = spec.Id();
  std::unique_ptr<Set>& place = sets_[id];
  if (place == nullptr) {
    place = std::make_unique<Set>();
    place->id = id;
    place->spec = spec;
    if (spec.namespaces) {
      of_all_namespaces_.insert(place.get());
    } else {
      of_namespace_[spec.ns].insert(place.get());
    }
    for (const auto& [key, pod] : pods_) {
      if (spec.namespaces || pod.ns == spec.ns) Update(*place, key);
    }
  }
  ++place->uses;
  return id;
}

void AddressSets::Unuse(const std::string& id) {
  auto found = sets_.find(id);
  if (--found->second->uses > 0) return;
  Set* set = found->second.get();
  of_all_namespaces_.erase(set);
  if (auto index = of_namespace_.find(set->spec.ns); index != of_namespace_.end()) {
    index->second.erase(set);
    if (index->second.empty()) of_namespace_.erase(index);
  }
  sets_.erase(found);
}

void AddressSets::Tell(const std::string& id, const std::string& node) {
  Set& set = *sets_.at(id);
  if (++set.nodes[node] > 1) return;
  for (size_t i = 0; i < kParts; ++i) {
    if (!set.parts[i].members.empty()) changed_(node, PartName(id, i));
  }
}

void AddressSets::Untell(const std::string& id, const std::string& node) {
  Set& set = *sets_.at(id);
  auto found = set.nodes.find(node);
  if (--found->second > 0) return;
  set.nodes.erase(found);
  for (size_t i = 0; i < kParts; ++i) changed_(node, PartName(id, i));
}

void AddressSets::PodChanged(const std::string& key, const std::string& ns) {
  for (Set* set : of_all_namespaces_) Update(*set, key);
  auto found = of_namespace_.find(ns);
  if (found == of_namespace_.end()) return;
  for (Set* set : found->second) Update(*set, key);
}

void AddressSets::NamespaceChanged(const std::vector<std::string>& pods) {
  for (Set* set : of_all_namespaces_) {
    for (const std::string& key : pods) Update(*set, key);
  }
}

AddressSets::Set* AddressSets::FindSet(const std::string& part) const {
  auto found = sets_.find(part.substr(0, part.find('.')));
  return found == sets_.end() ? nullptr : found->second.get();
}

bool AddressSets::Concerns(const std::string& node, const std::string& part) const {
  const Set* set = FindSet(part);
  return set != nullptr && set->nodes.contains(node);
}

std::shared_ptr<const ObjectView> AddressSets::View(const std::string& name) {
  Set* set = FindSet(name);
  if (set == nullptr) return nullptr;
  std::string_view digits = std::string_view(name).substr(name.find('.') + 1);
  size_t index = kParts;
  (void)std::from_chars(digits.data(), digits.data() + digits.size(), index);
  if (index >= kParts) return nullptr;
  Part& part = set->parts[index];
  if (part.members.empty()) return nullptr;
  if (part.view != nullptr) return part.view;
  node::v1::AddressSetPart message;
  for (const auto& [key, member] : part.members) {
    for (const net::IpAddress& address : member.addresses) {
      node::v1::AddressSetMember& added = *message.add_members();
      added.set_address(address.bytes(), address.size());
      if (!set->spec.port) continue;
      added.set_protocol(set->spec.port->protocol);
      added.set_port(member.port);
    }
  }
  auto view = std::make_shared<ObjectView>();
  view->bytes = SortedBytes(message);
  view->digest = DigestOf(view->bytes);
  return part.view = std::move(view);
}

std::vector<std::string> AddressSets::PartsOf(const std::string& node) const {
  std::vector<std::string> parts;
  for (const auto& [id, set] : sets_) {
    if (!set->nodes.contains(node)) continue;
    for (size_t i = 0; i < kParts; ++i) {
      if (!set->parts[i].members.empty()) parts.push_back(PartName(id, i));
    }
  }
  return parts;
}

}  // namespace skiff::cp
