// OverlayCheck: which peers are still to be probed over the VXLAN or WireGuard link, and what the
// answers mean for the node. A peer is probed when it joins and when it comes back with another
// address, until it has answered once; that it falls silent later is not the overlay's trouble.
//
// Pure: no I/O, no clock. One owner.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "cni/overlay.h"
#include "cni/path_probe.h"

namespace skiff::cni {

// What a node says of its way to others.
struct OverlayHealth {
  bool degraded = false;
  std::string reason = "PeersAnswer";  // in CamelCase, as conditions have it
  std::string message = "packets to every other node arrive whole";
  auto operator<=>(const OverlayHealth&) const = default;
};

class OverlayCheck {
 public:
  // The peers of a plan; those that were there with the same addresses keep their state.
  void SetPeers(const OverlayPlan& plan);
  // Those to be probed, at most so many.
  std::vector<net::IpAddress> Due(size_t most = kMaxProbes);
  void Take(const net::IpAddress& peer, PathState state);
  // True once, when damage was seen and offloads are still on: they are to be switched off, and the
  // peers probed again.
  bool WantsChecksumsInSoftware();
  // Whether they are off, by us or by an earlier run.
  void SetChecksumsInSoftware(bool on) { in_software_ = on; }

  bool AllWhole() const;
  OverlayHealth Health() const;

 private:
  struct Peer {
    net::IpAddress remote;  // what it is reached by
    PathState state = PathState::kSilent;
    int probes = 0;
    bool due = true;
  };
  std::string Names(PathState state) const;

  std::map<net::IpAddress, Peer> peers_;  // by its address on the overlay
  bool in_software_ = false;
  bool asked_ = false;
};

}  // namespace skiff::cni
