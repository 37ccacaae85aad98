#include "cni/overlay.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <set>

#include "base/net/families.h"

namespace skiff::cni {
namespace {

// "0a:59:" and the network's own bytes: beside the pods' "0a:58:", unique as pod CIDRs are.
std::string OverlayMac(const net::IpPrefix& pods) {
  const uint8_t* bytes = pods.first().bytes();
  // Of IPv6 networks, the bytes before the /64, where nodes differ.
  if (pods.first().is_v6()) bytes += 4;
  std::array<char, 18> text{};
  snprintf(text.data(), text.size(), "0a:%s:%02x:%02x:%02x:%02x",
           pods.first().is_v4() ? "59" : "5a", bytes[0], bytes[1], bytes[2], bytes[3]);
  return text.data();
}

const net::IpAddress* AddressOf(const OverlayNode& node, net::IpFamily family) {
  return net::FirstOfFamily(node.addresses, family);
}

// Known to nobody yet, or not by all that it needs.
bool IsReady(const OverlayNode& node) { return !node.pod_cidrs.empty() && !node.addresses.empty(); }

// What a route must say: nothing where the peer takes as much as this node sends.
uint32_t RouteMtu(const OverlayConfig& config, const OverlayNode& peer) {
  return peer.mtu < config.mtu ? peer.mtu : 0;
}

// A link is made for a family and cannot change it.
std::string LinkName(const std::string& name, net::IpFamily underlay) {
  return underlay == net::IpFamily::kV6 ? name + "6" : name;
}

// The link through whose subnet the address is reached without a router; 0: none.
int SharedLink(const std::vector<net::LinkAddress>& subnets, const net::IpAddress& address) {
  for (const net::LinkAddress& subnet : subnets) {
    if (subnet.address.family() != address.family() ||
        subnet.prefix_length == subnet.address.bits()) {
      continue;
    }
    if (net::IpPrefix::Of(subnet.address, subnet.prefix_length).Contains(address)) {
      return subnet.link;
    }
  }
  return 0;
}

void PlanDirect(const net::IpPrefix& pods, const net::IpAddress& gateway, int link, uint32_t mtu,
                OverlayPlan* plan) {
  plan->routes.push_back({.destination = pods, .gateway = gateway, .link = link, .mtu = mtu});
}

// What the node's own programs send from, so that answers come back the same way.
std::optional<net::IpAddress> SourceFor(const OverlayNode& self, net::IpFamily family) {
  for (const net::IpPrefix& pods : self.pod_cidrs) {
    if (pods.family() == family) return pods.first();
  }
  return std::nullopt;
}

void PlanEncapsulated(const OverlayNode& self, const OverlayNode& peer,
                      const std::vector<net::IpPrefix>& cidrs, const net::IpAddress& remote,
                      uint32_t mtu, OverlayPlan* plan) {
  std::string mac = OverlayMac(peer.pod_cidrs.front());
  plan->vxlan = true;
  plan->forwarding.push_back({mac, remote});
  for (const net::IpPrefix& pods : cidrs) {
    plan->neighbours.push_back({pods.first(), mac});
    plan->routes.push_back({.destination = pods,
                            .gateway = pods.first(),
                            .on_link = true,
                            .source = SourceFor(self, pods.family()),
                            .mtu = mtu});
  }
}

// The peers' own addresses stay outside: what comes from them is of no pod.
void PlanTunnel(const OverlayConfig& config, const OverlayNode& self, const OverlayNode& peer,
                net::IpFamily underlay, OverlayPlan* plan) {
  const net::IpAddress* remote = AddressOf(peer, underlay);
  std::string why;
  if (remote == nullptr) {
    why = "has no " + std::string(net::FamilyName(underlay)) + " address";
  } else if (!net::CheckWireguardKey(peer.wireguard_key).ok()) {
    why = "has told no WireGuard key; is its overlay.mode wireguard?";
  }
  if (!why.empty()) {
    plan->unreachable.push_back(peer.pod_cidrs.front().ToString() + ": its node " + why);
    return;
  }
  net::WireguardPeer tunnel{.public_key = peer.wireguard_key,
                            .endpoint = net::Endpoint{*remote, config.wireguard_port},
                            .allowed_ips = peer.pod_cidrs};
  std::ranges::sort(tunnel.allowed_ips);
  plan->tunnels.push_back(std::move(tunnel));
  for (const net::IpPrefix& pods : peer.pod_cidrs) {
    plan->routes.push_back({.destination = pods,
                            .source = SourceFor(self, pods.family()),
                            .mtu = RouteMtu(config, peer)});
  }
}

void PlanPeer(const OverlayConfig& config, const OverlayNode& self, const OverlayNode& peer,
              const std::vector<net::LinkAddress>& subnets, net::IpFamily underlay,
              OverlayPlan* plan) {
  if (config.mode == OverlayMode::kWireguard) {
    return PlanTunnel(config, self, peer, underlay, plan);
  }
  std::vector<net::IpPrefix> encapsulated;
  for (const net::IpPrefix& pods : peer.pod_cidrs) {
    const net::IpAddress* gateway = AddressOf(peer, pods.family());
    int link = gateway == nullptr ? 0 : SharedLink(subnets, *gateway);
    if (config.mode != OverlayMode::kVxlan && link != 0) {
      PlanDirect(pods, *gateway, link, RouteMtu(config, peer), plan);
    } else if (config.mode == OverlayMode::kHostGateway) {
      plan->unreachable.push_back(pods.ToString() + ": its node is on no subnet of this one");
    } else {
      encapsulated.push_back(pods);
    }
  }
  if (encapsulated.empty()) return;
  const net::IpAddress* remote = AddressOf(peer, underlay);
  if (remote == nullptr) {
    plan->unreachable.push_back(encapsulated.front().ToString() + ": its node has no " +
                                std::string(net::FamilyName(underlay)) + " address");
    return;
  }
  PlanEncapsulated(self, peer, encapsulated, *remote, RouteMtu(config, peer), plan);
}

// What leads to other nodes: neither loopback nor what pods or services hang on.
Result<std::vector<net::LinkAddress>> Subnets(net::Rtnl& rtnl, const OverlayNode& self) {
  std::vector<net::LinkAddress> subnets;
  for (net::IpFamily family : net::kIpFamilies) {
    for (const net::LinkAddress& address : TRY(rtnl.ListAddresses(family))) {
      bool own = std::find(self.addresses.begin(), self.addresses.end(), address.address) !=
                 self.addresses.end();
      if (own) subnets.push_back(address);
    }
  }
  return subnets;
}

// The link has these addresses and, beside link-local ones, no others.
Result<> EnsureAddresses(net::Rtnl& rtnl, int link, const OverlayPlan& plan) {
  std::set<net::IpAddress> wanted(plan.link_addresses.begin(), plan.link_addresses.end());
  for (net::IpFamily family : net::kIpFamilies) {
    for (const net::LinkAddress& address : TRY(rtnl.ListAddresses(family))) {
      if (address.link != link || address.address.is_link_local()) continue;
      if (wanted.erase(address.address) == 0) TRY(rtnl.Apply(net::rtnl::DeleteAddress(address)));
    }
  }
  for (const net::IpAddress& address : wanted) {
    TRY(rtnl.Apply(net::rtnl::AddAddress(link, address, address.bits())));
  }
  return {};
}

Result<> EnsureVxlanLink(net::Rtnl& rtnl, const OverlayPlan& plan) {
  auto present = rtnl.GetLink(plan.link.name);
  if (present.ok() && (present->kind != "vxlan" || present->mac != plan.link.mac)) {
    TRY(rtnl.DeleteLinkIfPresent(plan.link.name));
    present = Error(Code::kNotFound, "deleted");
  }
  if (!present.ok()) {
    if (present.error().code() != Code::kNotFound) return std::move(present).error();
    TRY(rtnl.Apply(net::rtnl::CreateVxlan(plan.link)));
  } else if (present->mtu != plan.link.mtu) {
    TRY(rtnl.Apply(net::rtnl::SetMtu(present->index, plan.link.mtu)));
  }
  return {};
}

Result<> EnsureWireguardLink(net::Rtnl& rtnl, const OverlayConfig& config,
                             const OverlayPlan& plan) {
  const std::string& name = config.wireguard_link;
  auto present = rtnl.GetLink(name);
  if (!present.ok()) {
    if (present.error().code() != Code::kNotFound) return std::move(present).error();
    auto created = rtnl.Apply(net::rtnl::CreateWireguard(name, config.mtu));
    if (!created.ok() && created.error().code() == Code::kUnimplemented) {
      return Error(Code::kUnimplemented,
                   "this kernel has no WireGuard (module wireguard); set another overlay.mode");
    }
    TRY(std::move(created));
  } else if (present->mtu != config.mtu) {
    TRY(rtnl.Apply(net::rtnl::SetMtu(present->index, config.mtu)));
  }
  net::Wireguard wireguard = TRY(net::Wireguard::Open());
  return wireguard.Set(name, {.private_key = config.wireguard_private_key,
                              .listen_port = config.wireguard_port,
                              .peers = plan.tunnels});
}

// The link that the plan needs, with its addresses; 0: it needs none.
Result<int> EnsureLink(net::Rtnl& rtnl, const OverlayConfig& config, const OverlayPlan& plan) {
  if (!plan.vxlan && !plan.wireguard) return 0;
  TRY(plan.vxlan ? EnsureVxlanLink(rtnl, plan) : EnsureWireguardLink(rtnl, config, plan));
  int index = TRY(rtnl.LinkIndex(plan.vxlan ? plan.link.name : config.wireguard_link));
  TRY(EnsureAddresses(rtnl, index, plan));
  return index;
}

template <class T>
bool Has(const std::vector<T>& list, const T& item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

// Entries of the VXLAN link: which messages add what is missing, which take away what is too much.
struct Changes {
  std::vector<net::NetlinkMessage> add, remove;
};

Result<> CompareEntries(net::Rtnl& rtnl, int link, const OverlayPlan& plan, Changes* changes) {
  std::vector<net::Forwarding> forwarding = TRY(rtnl.ListForwarding(link));
  for (const auto& entry : plan.forwarding) {
    if (!Has(forwarding, entry)) changes->add.push_back(net::rtnl::ReplaceForwarding(link, entry));
  }
  for (const auto& entry : forwarding) {
    // An entry that was replaced is gone already: the link holds one a MAC.
    bool replaced = std::any_of(plan.forwarding.begin(), plan.forwarding.end(),
                                [&](const auto& wanted) { return wanted.mac == entry.mac; });
    if (!replaced) changes->remove.push_back(net::rtnl::DeleteForwarding(link, entry));
  }
  for (net::IpFamily family : net::kIpFamilies) {
    std::vector<net::Neighbour> present = TRY(rtnl.ListNeighbours(family, link));
    for (const auto& entry : plan.neighbours) {
      if (entry.address.family() != family || Has(present, entry)) continue;
      changes->add.push_back(net::rtnl::ReplaceNeighbour(link, entry.address, entry.mac));
    }
    for (const auto& entry : present) {
      bool kept = std::any_of(plan.neighbours.begin(), plan.neighbours.end(),
                              [&](const auto& wanted) { return wanted.address == entry.address; });
      if (!kept) changes->remove.push_back(net::rtnl::DeleteNeighbour(link, entry.address));
    }
  }
  return {};
}

Result<> CompareRoutes(net::Rtnl& rtnl, const std::vector<net::Route>& wanted, Changes* changes) {
  constexpr auto kOwner = net::RouteOwner::kSkiff;
  for (net::IpFamily family : net::kIpFamilies) {
    std::vector<net::Route> present = TRY(rtnl.ListRoutes(family, kOwner));
    for (net::Route& route : present) route.metric = 0;  // IPv6 has one where none was given
    for (const net::Route& route : wanted) {
      if (route.destination.family() != family || Has(present, route)) continue;
      // IPv6 takes no gateway that a present route leads to over another link.
      auto elsewhere = std::ranges::find_if(present, [&route](const net::Route& other) {
        return other.destination == route.destination && other.link != route.link;
      });
      if (family == net::IpFamily::kV6 && elsewhere != present.end()) {
        changes->add.push_back(net::rtnl::DeleteRoute(*elsewhere, kOwner));
      }
      changes->add.push_back(net::rtnl::ReplaceRoute(route, kOwner));
    }
    for (const net::Route& route : present) {
      bool kept = std::any_of(wanted.begin(), wanted.end(), [&](const net::Route& other) {
        return other.destination == route.destination;
      });
      if (!kept) changes->remove.push_back(net::rtnl::DeleteRoute(route, kOwner));
    }
  }
  return {};
}

}  // namespace

Result<OverlayMode> ParseOverlayMode(std::string_view text) {
  if (text == "vxlan") return OverlayMode::kVxlan;
  if (text == "host-gw") return OverlayMode::kHostGateway;
  if (text == "auto") return OverlayMode::kAuto;
  if (text == "wireguard") return OverlayMode::kWireguard;
  return Error(Code::kInvalidArgument,
               "overlay mode must be \"vxlan\", \"host-gw\", \"auto\" or \"wireguard\", not \"" +
                   std::string(text) + "\"");
}

uint32_t EncapsulationBytes(OverlayMode mode, net::IpFamily underlay) {
  if (mode == OverlayMode::kHostGateway) return 0;
  const uint32_t ip_and_udp = (underlay == net::IpFamily::kV4 ? 20 : 40) + 8;
  // Type, receiver and counter (16) before the packet, and the authentication tag (16) behind it.
  if (mode == OverlayMode::kWireguard) return ip_and_udp + 16 + 16;
  // VXLAN (8) and inner Ethernet (14) headers (RFC 7348, section 5).
  return ip_and_udp + 8 + 14;
}

net::IpFamily UnderlayFamily(const OverlayNode& self, const std::vector<OverlayNode>& peers) {
  const net::IpFamily primary =
      self.pod_cidrs.empty() ? net::IpFamily::kV4 : self.pod_cidrs.front().family();
  auto reaches_all = [&](net::IpFamily family) {
    return AddressOf(self, family) != nullptr &&
           std::ranges::all_of(peers, [family](const OverlayNode& peer) {
             return !IsReady(peer) || AddressOf(peer, family) != nullptr;
           });
  };
  for (net::IpFamily family : {primary, net::OtherFamily(primary)}) {
    if (reaches_all(family)) return family;
  }
  // Some peers will not be reached.
  return AddressOf(self, primary) != nullptr ? primary : net::OtherFamily(primary);
}

OverlayPlan PlanOverlay(const OverlayConfig& config, const OverlayNode& self,
                        const std::vector<OverlayNode>& peers,
                        const std::vector<net::LinkAddress>& subnets) {
  OverlayPlan plan;
  if (self.addresses.empty() || self.pod_cidrs.empty()) return plan;
  const net::IpFamily underlay = UnderlayFamily(self, peers);
  plan.link = {.name = LinkName(config.link, underlay),
               .mac = OverlayMac(self.pod_cidrs.front()),
               .mtu = config.mtu,
               .vni = config.vni,
               .port = config.port,
               .underlay = underlay};
  for (const net::IpPrefix& pods : self.pod_cidrs) plan.link_addresses.push_back(pods.first());
  // Also without peers, so that a kernel that cannot do it is known at once.
  plan.wireguard = config.mode == OverlayMode::kWireguard;
  for (const OverlayNode& peer : peers) {
    if (IsReady(peer)) PlanPeer(config, self, peer, subnets, underlay, &plan);
  }
  std::ranges::sort(plan.tunnels, {}, &net::WireguardPeer::public_key);
  return plan;
}

Result<OverlayPlan> EnsureOverlay(net::Rtnl& rtnl, const OverlayConfig& config,
                                  const OverlayNode& self, const std::vector<OverlayNode>& peers) {
  if (self.addresses.empty()) {
    return Error(Code::kFailedPrecondition, "the node has no address that others could reach");
  }
  OverlayPlan plan = PlanOverlay(config, self, peers, TRY(Subnets(rtnl, self)));
  Changes changes;
  const int link = TRY(EnsureLink(rtnl, config, plan));
  if (plan.vxlan) TRY(CompareEntries(rtnl, link, plan, &changes));
  for (net::Route& route : plan.routes) {
    if (route.link == 0) route.link = link;
  }
  TRY(CompareRoutes(rtnl, plan.routes, &changes));
  if (!changes.add.empty()) TRY(rtnl.Apply(std::move(changes.add)));
  if (!changes.remove.empty()) TRY(rtnl.Apply(std::move(changes.remove)));
  for (net::IpFamily family : net::kIpFamilies) {
    std::string name = LinkName(config.link, family);
    if (!plan.vxlan || name != plan.link.name) TRY(rtnl.DeleteLinkIfPresent(name));
  }
  if (!plan.wireguard) TRY(rtnl.DeleteLinkIfPresent(config.wireguard_link));
  return plan;
}

Result<> RemoveOverlay(net::Rtnl& rtnl, const OverlayConfig& config) {
  Changes changes;
  TRY(CompareRoutes(rtnl, {}, &changes));
  if (!changes.remove.empty()) TRY(rtnl.Apply(std::move(changes.remove)));
  for (net::IpFamily family : net::kIpFamilies) {
    TRY(rtnl.DeleteLinkIfPresent(LinkName(config.link, family)));
  }
  return rtnl.DeleteLinkIfPresent(config.wireguard_link);
}

}  // namespace skiff::cni
