// PathProbe: whether what a node sends over the overlay arrives whole: UDP, TCP, and UDP without a
// checksum, which arrives where only checksums are damaged.
//
// Some devices and NAT on the way mangle the checksums of packets inside a tunnel when these are
// left to the hardware: small things (ARP, ping) work and everything else stalls. Asked for an
// answer, a node can tell that from a firewall.
//
// Each node answers on its own overlay addresses. A request and its answer differ, so that two
// nodes never answer each other's answers.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/net/ip.h"
#include "base/result.h"

namespace skiff::cni {

constexpr uint16_t kProbePort = 8473;  // beside that of VXLAN
// More peers than this are probed one lot after another.
constexpr size_t kMaxProbes = 64;

struct ProbeResult {
  bool udp = false;
  bool tcp = false;
  bool udp_unchecked = false;  // without a checksum
};

enum class PathState : uint8_t {
  kWhole,    // UDP and TCP arrive
  kDamaged,  // something arrives, but not all
  kSilent,   // nothing does
};
PathState Judge(const ProbeResult& result);

// Answers until it ends, on a thread of its own.
class ProbeResponder {
 public:
  // Unavailable: an address is not there, or its port is taken.
  static Result<std::unique_ptr<ProbeResponder>> Start(const std::vector<net::IpAddress>& addresses,
                                                       uint16_t port = kProbePort);
  ~ProbeResponder();

 private:
  class Impl;
  explicit ProbeResponder(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// One result a peer, in their order. Blocks until all have answered everything, or so long. Of the
// calling thread's network namespace; at most kMaxProbes peers.
Result<std::vector<ProbeResult>> ProbePeers(
    const std::vector<net::IpAddress>& peers, uint16_t port = kProbePort,
    std::chrono::milliseconds patience = std::chrono::seconds(3));

}  // namespace skiff::cni
