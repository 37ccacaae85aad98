// BalancerAddresses: the load balancers' addresses that this node answers for.
//
// The control plane gives a Service of type LoadBalancer addresses of its pool and names the node
// that is to answer for them (annotation skiff.dev/load-balancer-node). That node carries the
// addresses on a link of their own, tells its neighbours so, and refuses on them what is for no
// Service: programs of the node are not to be reached there. Traffic is the proxy's business.
//
// The link is the record: what is on it after a restart stays until a listing of all Services is
// complete, and what they do not ask for goes then.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/proxy/model.h"
#include "base/async/executor.h"
#include "base/net/ip.h"
#include "base/net/rtnl.h"
#include "base/result.h"
#include "proto/k8s/fwd.h"

namespace skiff::net {
class Iptables;
}

namespace skiff::agent::proxy {

inline constexpr char kBalancerLink[] = "skiff-lb";

// The addresses that the Service asks this node to answer for.
std::vector<net::IpAddress> AnnouncedHere(const k8s::core::v1::Service& service,
                                          const std::string& node_name);

// Makes the link, the rules and the neighbour proxies what the addresses ask for, whatever they
// are, and removes them where there are none. Returns the addresses that are new here. iptables
// may be null: no rules then. Blocks for some ms.
Result<std::vector<net::IpAddress>> EnsureBalancerAddresses(
    net::Rtnl& rtnl, net::Iptables* iptables, const std::vector<net::IpAddress>& addresses);

// The link on whose network the address is asked for: one with an address of the same network, else
// the default route's. NotFound.
Result<net::Link> UplinkOf(net::Rtnl& rtnl, const net::IpAddress& address);

// Pure: what is given to iptables-restore for one family.
std::string PlanBalancerRules(const std::vector<net::IpAddress>& addresses, net::IpFamily family,
                              const std::vector<std::string>& missing_jumps);

// Thread-safe: calls return at once. Told as ServiceProxy is.
class BalancerAddresses {
 public:
  // blocking and iptables (may be null) must outlive it.
  BalancerAddresses(std::string node_name, Executor& blocking, net::Iptables* iptables);
  // Waits for nothing; addresses stay.
  ~BalancerAddresses();

  void BeginReplace();
  void SyncDone();
  void SetService(const k8s::core::v1::Service& service);
  void DeleteService(std::string_view name_space, std::string_view name);
  // Of no interest.
  void SetEndpointSlice(const k8s::discovery::v1::EndpointSlice&) {}
  void DeleteEndpointSlice(std::string_view, std::string_view) {}

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace skiff::agent::proxy
