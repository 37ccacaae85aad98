// What this node is told of network policies, as checked values. Pure.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/net/ip.h"
#include "base/result.h"
#include "proto/codec/selector.h"
#include "proto/k8s/fwd.h"

namespace skiff::node::v1 {
class AddressSetPart;
class NetworkPolicy;
}  // namespace skiff::node::v1

namespace skiff::agent::policy {

struct PortRange {
  uint8_t protocol = 0;  // IP protocol number
  uint16_t first = 0, last = 65535;
  auto operator<=>(const PortRange&) const = default;
};

struct PortName {
  uint8_t protocol = 0;
  std::string name;
  auto operator<=>(const PortName&) const = default;
};

struct AddressRange {
  net::IpAddress first, last;
  auto operator<=>(const AddressRange&) const = default;
};

// Traffic that is allowed: of one of the peers (sets, ranges), to one of the ports (ports, names);
// and whatever goes to a member of the port sets.
struct AllowRule {
  bool any_peer = false;
  std::vector<std::string> sets;
  std::vector<AddressRange> ranges;  // sorted, apart from each other; blocks without exceptions
  bool any_port = false;
  std::vector<PortRange> ports;
  std::vector<PortName> names;  // of the protected pod
  std::vector<std::string> port_sets;
  bool operator==(const AllowRule&) const = default;
};

struct Policy {
  std::string name_space;
  codec::LabelSelector pods;
  bool isolates_ingress = false, isolates_egress = false;
  std::vector<AllowRule> ingress, egress;
};

// InvalidArgument says what cannot be read: such a policy comes from no control plane that checks.
Result<Policy> ReadPolicy(std::string name_space, const skiff::node::v1::NetworkPolicy& message);

// Of an address set: a pod's address, and of sets with ports a port of it.
struct Member {
  net::IpAddress address;
  uint8_t protocol = 0;
  uint16_t port = 0;
  auto operator<=>(const Member&) const = default;
};

// Sorted, each once. InvalidArgument as above.
Result<std::vector<Member>> ReadPart(const skiff::node::v1::AddressSetPart& message);

// The IP protocol number of "TCP", "UDP", "SCTP"; 0 for anything else.
uint8_t ProtocolNumber(std::string_view name);

// The blocks' addresses without their exceptions; both families, sorted, apart from each other.
struct Block {
  net::IpPrefix cidr;
  std::vector<net::IpPrefix> except;
};
std::vector<AddressRange> RangesOf(const std::vector<Block>& blocks);

// A pod of this node with its addresses, as long as something of it may send or receive.
struct LocalPod {
  std::shared_ptr<const k8s::core::v1::Pod> pod;
  std::vector<net::IpAddress> addresses;
};

}  // namespace skiff::agent::policy
