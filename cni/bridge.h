// The node's side of the pod network: bridge, gateway addresses, routes, sysctls. Every function
// reconciles: what is right is left alone.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/net/ip.h"
#include "base/net/netns.h"
#include "base/net/rtnl.h"
#include "base/result.h"
#include "cni/leases.h"

namespace skiff::cni {

struct BridgeSpec {
  std::string name;
  uint32_t mtu = 0;
  std::vector<net::IpPrefix> pod_cidrs;
};

// The MTU for pods: that of the interface with the default route (IPv4's first), or the smallest of
// the links that are up where there is none, less the bytes that encapsulation takes.
Result<uint32_t> UnderlayMtu(net::Rtnl& rtnl, const std::string& bridge,
                             uint32_t encapsulation_bytes);

// Makes the bridge what the spec says and returns its index. Addresses and routes of leases outside
// the CIDRs stay.
Result<int> EnsureBridge(net::Rtnl& rtnl, const BridgeSpec& spec, const std::vector<Lease>& leases);

// Forwarding, and what the bridge needs. NotFound where the kernel lacks a sysctl.
Result<> EnsureSysctls(net::Rtnl& rtnl, const BridgeSpec& spec);

// The pair, addresses and routes of a lease; pod's names the interface. What is there already is an
// error (AlreadyExists).
Result<> ConnectPod(net::Rtnl& node, const net::Netns& pod, int bridge_index, const Lease& lease,
                    std::chrono::milliseconds deadline);

// FailedPrecondition names what ConnectPod made and is not there any more.
Result<> CheckPod(net::Rtnl& node, int bridge_index, const Lease& lease);

}  // namespace skiff::cni
