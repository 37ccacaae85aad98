// Overlay: the way to the pods of other nodes. VXLAN with unicast entries for each peer, plain
// routes to peers on the same subnet (host-gw), or an encrypted tunnel to each peer (WireGuard).
//
// Each node's VXLAN link has a MAC that follows from its first pod CIDR, so peers know it without
// being told, and it stays when the node's own address changes: then one forwarding entry is
// replaced. Nothing is learned and nothing flooded: a frame for an unknown peer is dropped.
//
// A VXLAN link sends over one address family, and so do all nodes: over the pods' primary family
// where every node has an address of it, else over the other one. Peers whose pods have a smaller
// MTU get it as that of their routes, so that senders are told and nothing is lost on the way.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/net/ip.h"
#include "base/net/rtnl.h"
#include "base/net/wireguard.h"
#include "base/result.h"

namespace skiff::cni {

enum class OverlayMode : uint8_t {
  kVxlan,
  kHostGateway,  // peers that are not on a subnet of this node are not reached
  kAuto,         // per peer: a route where a subnet is shared, else VXLAN
  kWireguard,    // peers that have told no key are not reached
};
// "vxlan", "host-gw", "auto", "wireguard". InvalidArgument names them.
Result<OverlayMode> ParseOverlayMode(std::string_view text);
// What a packet grows by on its way: 0 for host-gw, 50 over IPv4 and 70 over IPv6 for VXLAN, 60 and
// 80 for WireGuard.
uint32_t EncapsulationBytes(OverlayMode mode, net::IpFamily underlay);

struct OverlayConfig {
  OverlayMode mode = OverlayMode::kVxlan;
  std::string link = "skiff-vxlan";  // over IPv4; over IPv6, with a "6" behind
  uint32_t vni = 1;
  uint16_t port = 8472;  // as Linux and flannel have it
  uint32_t mtu = 0;      // of the pods
  std::string wireguard_link = "skiff-wg";
  uint16_t wireguard_port = 51820;    // as wg-quick(8)'s examples and most firewalls' rules have it
  std::string wireguard_private_key;  // of this node
};

// A node of the cluster.
struct OverlayNode {
  std::vector<net::IpAddress> addresses;  // by which other nodes reach it; the first is preferred
  std::vector<net::IpPrefix> pod_cidrs;   // at most one a family, the primary one first
  uint32_t mtu = 0;                       // of its pods; 0: unknown
  std::string wireguard_key;              // public; empty: it has none
  auto operator<=>(const OverlayNode&) const = default;
};

// What a node must have to reach its peers. Values.
struct OverlayPlan {
  bool vxlan = false;  // the link is needed
  net::VxlanSpec link;
  std::vector<net::IpAddress> link_addresses;  // what the node itself sends to pods from
  bool wireguard = false;                      // that link is needed
  std::vector<net::WireguardPeer> tunnels;
  // Over the VXLAN or WireGuard link (link 0 stands for it) or direct.
  std::vector<net::Route> routes;
  std::vector<net::Neighbour> neighbours;
  std::vector<net::Forwarding> forwarding;
  // Peers that cannot be reached, with the reason.
  std::vector<std::string> unreachable;
};

// What a node and its peers send VXLAN packets over. Pure.
net::IpFamily UnderlayFamily(const OverlayNode& self, const std::vector<OverlayNode>& peers);

// Pure. subnets: the node's own addresses with their prefix lengths, on links that lead to nodes.
OverlayPlan PlanOverlay(const OverlayConfig& config, const OverlayNode& self,
                        const std::vector<OverlayNode>& peers,
                        const std::vector<net::LinkAddress>& subnets);

// Makes the kernel's state what the plan says: adds first, then takes away what is not in it, also
// what an earlier process left. Idempotent. FailedPrecondition: the node has no address of its own.
// Unimplemented: the kernel lacks what the mode needs.
Result<OverlayPlan> EnsureOverlay(net::Rtnl& rtnl, const OverlayConfig& config,
                                  const OverlayNode& self, const std::vector<OverlayNode>& peers);
// Succeeds when there is none.
Result<> RemoveOverlay(net::Rtnl& rtnl, const OverlayConfig& config);

}  // namespace skiff::cni
