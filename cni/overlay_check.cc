#include "cni/overlay_check.h"

#include <algorithm>

namespace skiff::cni {
namespace {

// A peer that has just joined may not listen yet.
constexpr int kProbesBeforeTrouble = 3;
constexpr size_t kMaxNames = 3;

}  // namespace

void OverlayCheck::SetPeers(const OverlayPlan& plan) {
  std::map<net::IpAddress, Peer> now;
  auto add = [&](const net::IpAddress& address, const net::IpAddress& remote) {
    Peer peer{.remote = remote};
    auto before = peers_.find(address);
    if (before != peers_.end() && before->second.remote == remote) peer = before->second;
    now.emplace(address, peer);
  };
  // One of a peer's addresses will do: all of them go over one link.
  for (const net::Forwarding& entry : plan.forwarding) {
    auto neighbour = std::ranges::find(plan.neighbours, entry.mac, &net::Neighbour::mac);
    if (neighbour != plan.neighbours.end()) add(neighbour->address, entry.remote);
  }
  for (const net::WireguardPeer& tunnel : plan.tunnels) {
    add(tunnel.allowed_ips.front().first(), tunnel.endpoint->address);
  }
  peers_ = std::move(now);
}

std::vector<net::IpAddress> OverlayCheck::Due(size_t most) {
  std::vector<net::IpAddress> due;
  auto collect = [&] {
    for (auto& [address, peer] : peers_) {
      if (due.size() >= most || !peer.due || peer.state == PathState::kWhole) continue;
      peer.due = false;
      due.push_back(address);
    }
  };
  collect();
  if (due.empty()) {
    // Everyone has had a turn: the next one begins.
    for (auto& [address, peer] : peers_) peer.due = true;
    collect();
  }
  return due;
}

void OverlayCheck::Take(const net::IpAddress& peer, PathState state) {
  auto found = peers_.find(peer);
  if (found == peers_.end()) return;  // gone meanwhile
  found->second.state = state;
  ++found->second.probes;
}

bool OverlayCheck::WantsChecksumsInSoftware() {
  bool damaged = std::ranges::any_of(
      peers_, [](const auto& entry) { return entry.second.state == PathState::kDamaged; });
  if (!damaged || in_software_ || asked_) return false;
  asked_ = true;
  for (auto& [address, peer] : peers_) peer.due = true;
  return true;
}

bool OverlayCheck::AllWhole() const {
  return std::ranges::all_of(
      peers_, [](const auto& entry) { return entry.second.state == PathState::kWhole; });
}

// "10.0.0.2, 10.0.0.3 and 4 more".
std::string OverlayCheck::Names(PathState state) const {
  std::string names;
  size_t count = 0;
  for (const auto& [address, peer] : peers_) {
    if (peer.state != state || peer.probes < kProbesBeforeTrouble) continue;
    if (++count <= kMaxNames) names += (names.empty() ? "" : ", ") + peer.remote.ToString();
  }
  if (count > kMaxNames) names += " and " + std::to_string(count - kMaxNames) + " more";
  return names;
}

OverlayHealth OverlayCheck::Health() const {
  if (std::string damaged = Names(PathState::kDamaged); !damaged.empty()) {
    return {true, "PacketsDamaged",
            "packets to or from " + damaged +
                " arrive damaged or in part; a device or NAT between the nodes breaks what is in "
                "the tunnel"};
  }
  if (std::string silent = Names(PathState::kSilent); !silent.empty()) {
    return {true, "PeersSilent",
            "no packet of the overlay comes back from " + silent +
                "; does a firewall drop its UDP port, or is the node off?"};
  }
  if (in_software_) {
    return {true, "ChecksumsInSoftware",
            "checksums of the overlay's packets are computed by the processor: left to the "
            "hardware, packets arrived damaged"};
  }
  return {};
}

}  // namespace skiff::cni
