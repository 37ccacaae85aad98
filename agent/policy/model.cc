#include "agent/policy/model.h"

#include <algorithm>
#include <array>

#include "base/net/conntrack.h"
#include "proto/skiff/node/v1/policy.pb.h"

namespace skiff::agent::policy {
namespace {

namespace link = skiff::node::v1;

// Beyond what an object of the API can hold; a message that says more is none of ours.
constexpr int kMaxRules = 100'000;
constexpr int kMaxMembers = 1'000'000;
constexpr uint32_t kMaxPort = 65535;

Error Bad(std::string what) { return Error(Code::kInvalidArgument, std::move(what)); }

Result<uint8_t> ReadProtocol(const std::string& name) {
  uint8_t number = ProtocolNumber(name);
  if (number == 0) return Bad("unknown protocol \"" + name + "\"");
  return number;
}

Result<> ReadPort(const link::PolicyPort& port, AllowRule* rule) {
  uint8_t protocol = TRY(ReadProtocol(port.protocol()));
  if (!port.name().empty()) {
    rule->names.push_back({protocol, port.name()});
    return {};
  }
  if (port.port() == 0) {
    rule->ports.push_back({protocol, 0, kMaxPort});
    return {};
  }
  uint32_t last = port.end_port() == 0 ? port.port() : port.end_port();
  if (port.port() > kMaxPort || last > kMaxPort || last < port.port()) {
    return Bad("no range of ports: " + std::to_string(port.port()) + "-" + std::to_string(last));
  }
  rule->ports.push_back(
      {protocol, static_cast<uint16_t>(port.port()), static_cast<uint16_t>(last)});
  return {};
}

Result<AllowRule> ReadRule(const link::PolicyRule& message) {
  AllowRule rule;
  rule.any_peer = message.any_peer();
  rule.any_port = message.any_port();
  rule.sets = {message.sets().begin(), message.sets().end()};
  rule.port_sets = {message.port_sets().begin(), message.port_sets().end()};
  std::vector<Block> blocks;
  for (const link::PolicyIpBlock& block : message.blocks()) {
    Block& added = blocks.emplace_back();
    added.cidr = TRY(net::IpPrefix::Parse(block.cidr()));
    for (const std::string& text : block.except()) {
      added.except.push_back(TRY(net::IpPrefix::Parse(text)));
    }
  }
  rule.ranges = RangesOf(blocks);
  for (const link::PolicyPort& port : message.ports()) TRY(ReadPort(port, &rule));
  return rule;
}

// The address before; there is one.
net::IpAddress Before(const net::IpAddress& address) {
  std::array<uint8_t, 16> bytes{};
  std::copy_n(address.bytes(), address.size(), bytes.begin());
  for (size_t i = address.size(); i-- > 0;) {
    if (bytes[i]-- != 0) break;
  }
  return net::IpAddress::FromBytes(address.family(), bytes.data());
}

// Takes `hole` out of the ranges.
std::vector<AddressRange> Without(const std::vector<AddressRange>& ranges,
                                  const net::IpPrefix& hole) {
  std::vector<AddressRange> left;
  for (const AddressRange& range : ranges) {
    if (hole.family() != range.first.family() || hole.last() < range.first ||
        range.last < hole.first()) {
      left.push_back(range);
      continue;
    }
    if (range.first < hole.first()) {
      left.push_back({range.first, Before(hole.first())});
    }
    if (hole.last() < range.last) left.push_back({hole.last().Plus(1), range.last});
  }
  return left;
}

}  // namespace

uint8_t ProtocolNumber(std::string_view name) {
  if (name == "TCP") return net::kProtocolTcp;
  if (name == "UDP") return net::kProtocolUdp;
  if (name == "SCTP") return net::kProtocolSctp;
  return 0;
}

std::vector<AddressRange> RangesOf(const std::vector<Block>& blocks) {
  std::vector<AddressRange> all;
  for (const Block& block : blocks) {
    std::vector<AddressRange> ranges = {{block.cidr.first(), block.cidr.last()}};
    for (const net::IpPrefix& hole : block.except) ranges = Without(ranges, hole);
    all.insert(all.end(), ranges.begin(), ranges.end());
  }
  std::sort(all.begin(), all.end());
  std::vector<AddressRange> merged;
  for (const AddressRange& range : all) {
    bool joins = !merged.empty() && merged.back().last.family() == range.first.family() &&
                 (range.first <= merged.back().last || range.first == merged.back().last.Plus(1));
    if (joins) {
      merged.back().last = std::max(merged.back().last, range.last);
    } else {
      merged.push_back(range);
    }
  }
  return merged;
}

Result<Policy> ReadPolicy(std::string name_space, const link::NetworkPolicy& message) {
  if (message.ingress_size() > kMaxRules || message.egress_size() > kMaxRules) {
    return Bad("too many rules");
  }
  Policy policy;
  policy.name_space = std::move(name_space);
  policy.pods = TRY(codec::LabelSelector::Parse(message.pod_selector()));
  policy.isolates_ingress = message.isolates_ingress();
  policy.isolates_egress = message.isolates_egress();
  for (const link::PolicyRule& rule : message.ingress()) {
    policy.ingress.push_back(TRY(ReadRule(rule)));
  }
  for (const link::PolicyRule& rule : message.egress()) {
    policy.egress.push_back(TRY(ReadRule(rule)));
  }
  return policy;
}

Result<std::vector<Member>> ReadPart(const link::AddressSetPart& message) {
  if (message.members_size() > kMaxMembers) return Bad("too many members");
  std::vector<Member> members;
  for (const link::AddressSetMember& member : message.members()) {
    size_t size = member.address().size();
    if (size != 4 && size != 16) return Bad("an address of " + std::to_string(size) + " bytes");
    Member& added = members.emplace_back();
    added.address = net::IpAddress::FromBytes(size == 4 ? net::IpFamily::kV4 : net::IpFamily::kV6,
                                              member.address().data());
    if (member.port() == 0 && member.protocol().empty()) continue;
    if (member.port() == 0 || member.port() > kMaxPort) {
      return Bad("no port: " + std::to_string(member.port()));
    }
    added.protocol = TRY(ReadProtocol(member.protocol()));
    added.port = static_cast<uint16_t>(member.port());
  }
  std::sort(members.begin(), members.end());
  members.erase(std::unique(members.begin(), members.end()), members.end());
  return members;
}

}  // namespace skiff::agent::policy
