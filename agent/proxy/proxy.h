// ServiceProxy: makes Services reachable from this node, by rules of iptables or nftables.
//
//   auto proxy = TRY(ServiceProxy::Start(config, deps));
//   proxy->BeginReplace();                      // a full listing follows
//   proxy->SetService(service); proxy->SetEndpointSlice(slice); ...
//   proxy->SyncDone();                          // the listing is complete: rules may be written
//   proxy->SetEndpointSlice(changed);           // from now on changes follow within milliseconds
//
// Nothing is written before the first SyncDone, so that a restart leaves the rules of the run
// before in force until the new ones are complete; and nothing is removed when the object goes
// away.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/proxy/model.h"
#include "base/async/executor.h"
#include "base/clock.h"
#include "base/net/ip.h"
#include "base/result.h"
#include "proto/k8s/fwd.h"

namespace skiff::net {
class Iptables;
class Conntrack;
class Nft;
}  // namespace skiff::net

namespace skiff::agent::proxy {

// How rules are made: iptables rules in kube-proxy's shape, or maps of nftables
// (docs/design/0002-nftables-proxy.md). Services behave alike in both.
enum class Mode : uint8_t { kIptables, kNftables };

struct Config {
  Mode mode = Mode::kIptables;
  // Compared with Endpoint.nodeName for the Local traffic policies.
  std::string node_name;
  // The pods' ranges of the whole cluster, at most one a family: traffic from elsewhere to a
  // cluster IP is masqueraded. A family without one is not masqueraded.
  std::vector<net::IpPrefix> cluster_cidrs;
  // NodePorts answer on these addresses of the node only; empty: on all.
  std::vector<net::IpPrefix> nodeport_addresses;
  // NodePorts also answer on 127.0.0.1 (needs net.ipv4.conf.all.route_localnet, which is set).
  bool localhost_nodeports = true;
  // Masquerade all traffic to cluster IPs.
  bool masquerade_all = false;
  // The fwmark bit of packets to masquerade, 0..31; the mark 0x4000 is kube-proxy's own default.
  int masquerade_bit = 14;
  // Whether health check node ports are answered, and at which addresses (as HealthPorts::Deps).
  bool health_ports = true;
  std::string health_address = {};
  // A health check node port that another program has; on the blocking executor.
  std::function<void(const ObjectKey& service, uint16_t port, const Error& error)>
      on_health_port_failure = {};
  // How often it is looked whether somebody removed the rules, besides what events tell.
  std::chrono::nanoseconds flush_check = std::chrono::seconds(30);
  // Where /proc/sys is; for tests.
  std::string sysctl_root = "/proc/sys";
};

struct Deps {
  // For blocking work (iptables-restore); must outlive the proxy.
  Executor& blocking;
  net::Iptables& iptables;
  net::Conntrack& conntrack;
  // The nftables mode writes with it; the iptables mode removes with it what the other left. Null:
  // only iptables mode, and nothing is removed.
  net::Nft* nft = nullptr;
};

// What the proxy last did, for health checks and metrics.
struct Status {
  bool synced = false;              // the rules are those of the last state told
  std::optional<Error> last_error;  // of the last write, until one succeeds
  uint64_t syncs = 0;               // writes that succeeded
  uint64_t full_syncs = 0;          // ... of all rules
  uint64_t failures = 0;            // writes that failed
  uint64_t repairs = 0;             // after somebody else removed rules, and once an hour
  uint64_t rules = 0;               // in force, both families; in nftables mode, elements
  uint64_t services = 0;            // service ports
  uint64_t endpoints = 0;
  uint64_t stale_flows_deleted = 0;
  std::chrono::nanoseconds pending{0};  // how long something has waited to come into force
  WallTime last_updated{};
  std::chrono::nanoseconds last_duration{0};
};

// Thread-safe: calls copy what they need and return at once.
class ServiceProxy {
 public:
  static Result<std::unique_ptr<ServiceProxy>> Start(Config config, Deps deps);
  // Waits for a write that is under way. Rules stay.
  ~ServiceProxy();

  // The node's zone (its label topology.kubernetes.io/zone), for topology hints. Slices keep the
  // meaning they had when they were told: after a change all of them are to be told again.
  void SetZone(std::string zone);

  // A full listing follows, up to SyncDone: what it does not name is gone.
  void BeginReplace();
  void SyncDone();

  // Adds or replaces. Services that need no proxying (headless, ExternalName, or left to another
  // proxy by service.kubernetes.io/service-proxy-name) may be passed too.
  void SetService(const k8s::core::v1::Service& service);
  void DeleteService(std::string_view name_space, std::string_view name);
  void SetEndpointSlice(const k8s::discovery::v1::EndpointSlice& slice);
  void DeleteEndpointSlice(std::string_view name_space, std::string_view name);

  Status GetStatus() const;
  // Calls done, on the blocking executor, once everything told before this call is in force; never,
  // if the proxy ends before.
  void WhenSynced(Closure done);

 private:
  class Impl;
  explicit ServiceProxy(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

// Removes every rule and chain a ServiceProxy made on this node, in the one mode and in the other.
// Succeeds when there are none.
Result<> RemoveAllRules(net::Iptables& iptables);
Result<> RemoveAllRules(net::Nft& nft);

// Whether the kernel can do the nftables mode: tries all it needs, without effect. The error says
// what is missing.
Result<> CheckNftables(net::Nft& nft);

}  // namespace skiff::agent::proxy
