// PodNetwork: how sandboxes get onto the network.
//
//   auto attachment = TRY(network.Attach({.sandbox_id = id, .netns_path = path, ...}));
//   ...
//   TRY(network.Detach(id));
//
// The interface the CRI service calls. BridgeNetwork (cni/bridge_network.h) is the built-in
// implementation, PluginNetwork (cni/runner/plugin_network.h) runs CNI plugins, NodePodNetwork
// (cni/runner/node_pod_network.h) is whichever of the two the node is configured for, and
// FakePodNetwork (cni/fake_network.h) their stand-in for tests. All calls block (milliseconds, with
// plugins longer, under a deadline of their own) and may come from any thread; calls for different
// sandboxes run side by side, calls for one sandbox one after another.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/net/ip.h"
#include "base/result.h"

namespace skiff::cni {

enum class Protocol : uint8_t { kTcp, kUdp, kSctp };
// "tcp", "udp", "sctp".
std::string_view ProtocolName(Protocol protocol);

// Traffic to host_port of the node goes to container_port of the pod.
struct PortMapping {
  Protocol protocol = Protocol::kTcp;
  uint16_t host_port = 0;
  uint16_t container_port = 0;
  // Only traffic to this address of the node; none (or 0.0.0.0, ::) means every address.
  std::optional<net::IpAddress> host_ip;
  bool operator==(const PortMapping&) const = default;
};

// How names are resolved in the pod; for networks that resolve names themselves.
struct PodDns {
  std::vector<std::string> servers;
  std::vector<std::string> searches;
  std::vector<std::string> options;
};

// How fast a pod may receive and send, in bits per second; 0: as fast as it can.
struct Bandwidth {
  uint64_t ingress_bits = 0;
  uint64_t egress_bits = 0;
  bool empty() const { return ingress_bits == 0 && egress_bits == 0; }
  bool operator==(const Bandwidth&) const = default;
};

struct AttachRequest {
  std::string sandbox_id;  // IsValidSandboxId (cni/leases.h)
  // Names the pod's network namespace: a bind mount or /proc/PID/ns/net.
  std::string netns_path;
  std::string pod_namespace;
  std::string pod_name;
  std::string pod_uid;
  // Mappings whose host_port is 0 are ignored, as CRI has it.
  std::vector<PortMapping> ports;
  // Addresses the pod must get, at most one a family; otherwise the next free ones.
  std::vector<net::IpAddress> requested_addresses;
  // Of the pod's interface, "0a:58:0a:f4:00:02"; empty: made from its address.
  std::string mac;
  PodDns dns;
  std::string cgroup_path;  // the pod's, from the root of the hierarchies
  // Where the kernel cannot limit it, the pod runs without limits and a warning is logged.
  Bandwidth bandwidth;
};

// One family of an attached pod.
struct PodAddress {
  net::IpAddress address;
  net::IpAddress gateway;
  bool operator==(const PodAddress&) const = default;
};

struct Attachment {
  // The first is the pod's primary address (PodStatus.podIP); at most one a family.
  std::vector<PodAddress> addresses;
  std::string interface;       // inside the pod: "eth0"
  std::string host_interface;  // the node's end of the pair
  std::string mac;             // of the pod's interface, "0a:58:0a:f4:00:02"
  uint32_t mtu = 0;
};

class PodNetwork {
 public:
  virtual ~PodNetwork() = default;

  // Connects the namespace: interface, addresses, routes, loopback up, host ports. Asked again for
  // a sandbox that is attached, returns the attachment it has. On failure nothing is left behind.
  //   InvalidArgument      malformed request
  //   NotFound             no namespace at netns_path
  //   FailedPrecondition   no pod CIDR is known yet (Unready() says why)
  //   AlreadyExists        a host port or requested address belongs to another sandbox
  //   ResourceExhausted    every address of the pod CIDR is taken
  virtual Result<Attachment> Attach(const AttachRequest& request) = 0;

  // Takes the sandbox off the network and frees what it had. Needs neither the namespace nor the
  // caller's request: succeeds when part of it, or all of it, is gone already. An error means that
  // something is left; the call may be repeated, and Recover also finishes it.
  virtual Result<> Detach(const std::string& sandbox_id) = 0;

  // Whether what Attach made is still there. NotFound: never attached; FailedPrecondition: broken,
  // the text says what is missing.
  virtual Result<> Check(const std::string& sandbox_id) = 0;

  // What an attached sandbox has; NotFound otherwise. Reads memory only.
  virtual Result<Attachment> Get(const std::string& sandbox_id) const = 0;

  // After a start: detaches every sandbox not named here and restores the node's side (bridge,
  // rules) for those that are. Sandboxes of an earlier boot need not be named and are freed.
  virtual Result<> Recover(const std::vector<std::string>& live_sandbox_ids) = 0;

  // The node's pod CIDRs, at most one a family, the primary family first; cluster_cidrs is where
  // traffic of pods is not masqueraded (empty: the pod CIDRs). From the node link's Welcome; a
  // standalone runtime calls it with configured ones. Sandboxes keep addresses they already have.
  virtual Result<> SetPodCidrs(const std::vector<net::IpPrefix>& pod_cidrs,
                               const std::vector<net::IpPrefix>& cluster_cidrs) = 0;

  // Puts back what other programs removed of the node's side: bridge, routes, rules. Cheap where
  // all is in place; to be called every half a minute or so. Nothing to do before SetPodCidrs.
  virtual Result<> Reconcile() = 0;

  // Empty when Attach can work, otherwise why not: the text for CRI's NetworkReady condition.
  virtual std::string Unready() const = 0;
};

}  // namespace skiff::cni
