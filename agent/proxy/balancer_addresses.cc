#include "agent/proxy/balancer_addresses.h"

#include <algorithm>
#include <set>

#include "base/log.h"
#include "base/net/address_link.h"
#include "base/net/announce.h"
#include "base/net/families.h"
#include "base/net/iptables.h"
#include "base/net/netns.h"
#include "proto/k8s/core/v1/service.pb.h"

namespace skiff::agent::proxy {
namespace {

constexpr char kNodeAnnotation[] = "skiff.dev/load-balancer-node";
constexpr char kGuardChain[] = "SKIFF-LB";
constexpr std::chrono::seconds kApplyRetry{5};
// Another program may have removed the rules.
constexpr std::chrono::seconds kReapply{30};
// Announcements may be lost, and switches may be slow to learn.
constexpr std::chrono::seconds kAnnouncements[] = {std::chrono::seconds(0), std::chrono::seconds(1),
                                                   std::chrono::seconds(3)};

bool IsGuardChain(std::string_view chain) { return chain == kGuardChain; }

std::vector<std::string> GuardJumps() {
  return {std::string("INPUT -m comment --comment \"skiff load balancer addresses\" -j ") +
          kGuardChain};
}

Result<> EnsureGuard(net::Iptables& iptables, const std::vector<net::IpAddress>& addresses) {
  for (net::IpFamily family : net::kIpFamilies) {
    if (!iptables.Supports(family)) continue;
    if (addresses.empty()) {
      TRY(net::RemoveChains(iptables, family, "filter", IsGuardChain));
      continue;
    }
    auto missing = TRY(net::MissingJumps(iptables, family, "filter", GuardJumps()));
    TRY(iptables.Restore(family, PlanBalancerRules(addresses, family, missing)));
  }
  return {};
}

// The kernel answers ARP for any address of the machine on every link, but neighbour solicitations
// only on the address's own.
Result<> EnsureNeighbourProxies(net::Rtnl& rtnl, const std::vector<net::IpAddress>& addresses) {
  std::set<std::pair<int, net::IpAddress>> wanted;
  for (const net::IpAddress& address : addresses) {
    if (address.is_v4()) continue;
    net::Link link = TRY(UplinkOf(rtnl, address));
    TRY(net::WriteNetSysctl("ipv6/conf/" + link.name + "/proxy_ndp", "1"));
    wanted.emplace(link.index, address);
  }
  std::vector<net::NetlinkMessage> changes;
  for (const auto& [link, address] : TRY(rtnl.ListNeighbourProxies())) {
    if (wanted.erase({link, address}) == 0) {
      changes.push_back(net::rtnl::DeleteNeighbourProxy(link, address));
    }
  }
  for (const auto& [link, address] : wanted) {
    changes.push_back(net::rtnl::AddNeighbourProxy(link, address));
  }
  return changes.empty() ? Result<>() : rtnl.Apply(std::move(changes));
}

void Announce(const std::vector<net::IpAddress>& addresses) {
  auto rtnl = net::Rtnl::Open();
  for (const net::IpAddress& address : addresses) {
    auto link = rtnl.ok() ? UplinkOf(*rtnl, address) : Result<net::Link>(rtnl.error());
    auto sent =
        link.ok() ? net::AnnounceAddress(link->index, link->mac, address) : Result<>(link.error());
    if (!sent.ok()) {
      log::Warning("neighbours were not told of a load balancer's address, going on",
                   {{"address", address.ToString()}, {"error", sent.error()}});
    }
  }
}

}  // namespace

std::vector<net::IpAddress> AnnouncedHere(const k8s::core::v1::Service& service,
                                          const std::string& node_name) {
  std::vector<net::IpAddress> addresses;
  const auto& annotations = service.metadata().annotations();
  auto node = annotations.find(kNodeAnnotation);
  if (service.spec().type() != "LoadBalancer" || node == annotations.end() ||
      node->second != node_name) {
    return addresses;
  }
  for (const auto& ingress : service.status().load_balancer().ingress()) {
    // The API server has checked it.
    if (auto address = net::IpAddress::Parse(ingress.ip()); address.ok()) {
      addresses.push_back(*address);
    }
  }
  return addresses;
}

Result<net::Link> UplinkOf(net::Rtnl& rtnl, const net::IpAddress& address) {
  auto own = rtnl.LinkIndex(kBalancerLink);
  for (const net::LinkAddress& present : TRY(rtnl.ListAddresses(address.family()))) {
    if (own.ok() && present.link == *own) continue;
    if (net::IpPrefix::Of(present.address, present.prefix_length).Contains(address)) {
      return rtnl.GetLink(present.link);
    }
  }
  net::Route route = TRY(rtnl.DefaultRoute(address.family()));
  return rtnl.GetLink(route.link);
}

std::string PlanBalancerRules(const std::vector<net::IpAddress>& addresses, net::IpFamily family,
                              const std::vector<std::string>& missing_jumps) {
  const bool v4 = family == net::IpFamily::kV4;
  std::string out = std::string("*filter\n:") + kGuardChain + " - [0:0]\n";
  auto add = [&](const std::string& rule) { out += std::string("-A ") + kGuardChain + rule; };
  for (const net::IpAddress& address : addresses) {
    if (address.family() != family) continue;
    std::string to = " -d " + net::IpPrefix::Host(address).ToString();
    add(to + (v4 ? " -p icmp" : " -p ipv6-icmp") + " -j RETURN\n");
    add(to + " -j REJECT --reject-with " +
        (v4 ? "icmp-port-unreachable" : "icmp6-port-unreachable") + "\n");
  }
  // Behind those of the service proxy, which know better about what is for a Service.
  for (const std::string& jump : missing_jumps) out += "-A " + jump + "\n";
  return out + "COMMIT\n";
}

Result<std::vector<net::IpAddress>> EnsureBalancerAddresses(
    net::Rtnl& rtnl, net::Iptables* iptables, const std::vector<net::IpAddress>& addresses) {
  // Rules first: at no time is the node itself reached at such an address.
  if (iptables != nullptr && !addresses.empty()) TRY(EnsureGuard(*iptables, addresses));
  std::vector<net::IpAddress> fresh;
  if (addresses.empty()) {
    TRY(rtnl.DeleteLinkIfPresent(kBalancerLink));
  } else {
    fresh = TRY(net::EnsureAddressLink(rtnl, kBalancerLink, addresses));
  }
  TRY(EnsureNeighbourProxies(rtnl, addresses));
  if (iptables != nullptr && addresses.empty()) TRY(EnsureGuard(*iptables, addresses));
  return fresh;
}

// All state on the strand.
class BalancerAddresses::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(std::string node_name, Executor& blocking, net::Iptables* iptables)
      : node_name_(std::move(node_name)), iptables_(iptables), strand_(blocking) {}

  template <class Work>
  void PostAfter(std::chrono::nanoseconds delay, Work work) {
    strand_.PostAfter(delay, [weak = weak_from_this(), work = std::move(work)] {
      if (auto impl = weak.lock()) work(*impl);
    });
  }
  template <class Work>
  void Post(Work work) {
    strand_.Post([weak = weak_from_this(), work = std::move(work)] {
      if (auto impl = weak.lock()) work(*impl);
    });
  }

  void BeginReplace() {
    complete_ = false;
    wanted_.clear();
  }
  void SyncDone() {
    complete_ = true;
    Apply();
  }
  void Set(const ObjectKey& service, std::vector<net::IpAddress> addresses) {
    auto found = wanted_.find(service);
    bool same = found == wanted_.end() ? addresses.empty() : found->second == addresses;
    if (same) return;
    if (addresses.empty()) {
      wanted_.erase(found);
    } else {
      wanted_[service] = std::move(addresses);
    }
    if (complete_) Apply();
  }
  const std::string& node_name() const { return node_name_; }

 private:
  void Apply() {
    std::set<net::IpAddress> all;
    for (const auto& [service, addresses] : wanted_) all.insert(addresses.begin(), addresses.end());
    const std::vector<net::IpAddress> addresses(all.begin(), all.end());
    auto rtnl = net::Rtnl::Open();
    auto fresh = rtnl.ok() ? EnsureBalancerAddresses(*rtnl, iptables_, addresses)
                           : Result<std::vector<net::IpAddress>>(rtnl.error());
    if (!fresh.ok()) {
      log::Error("cannot answer for load balancers' addresses, trying again",
                 {{"error", fresh.error()}});
      return ApplyAgain(kApplyRetry);
    }
    if (!fresh->empty()) {
      for (auto delay : kAnnouncements) {
        PostAfter(delay, [fresh = *fresh](Impl&) { Announce(fresh); });
      }
    }
    if (!addresses.empty()) ApplyAgain(kReapply);
  }
  void ApplyAgain(std::chrono::seconds delay) {
    if (std::exchange(waiting_, true)) return;
    PostAfter(delay, [](Impl& impl) {
      impl.waiting_ = false;
      impl.Apply();
    });
  }

  const std::string node_name_;
  net::Iptables* const iptables_;
  Strand strand_;
  std::map<ObjectKey, std::vector<net::IpAddress>> wanted_;
  bool complete_ = false;
  bool waiting_ = false;
};

BalancerAddresses::BalancerAddresses(std::string node_name, Executor& blocking,
                                     net::Iptables* iptables)
    : impl_(std::make_shared<Impl>(std::move(node_name), blocking, iptables)) {}
BalancerAddresses::~BalancerAddresses() = default;

void BalancerAddresses::BeginReplace() {
  impl_->Post([](Impl& impl) { impl.BeginReplace(); });
}

void BalancerAddresses::SyncDone() {
  impl_->Post([](Impl& impl) { impl.SyncDone(); });
}

void BalancerAddresses::SetService(const k8s::core::v1::Service& service) {
  impl_->Post([key = ObjectKey{service.metadata().namespace_(), service.metadata().name()},
               addresses = AnnouncedHere(service, impl_->node_name())](Impl& impl) {
    impl.Set(key, addresses);
  });
}

void BalancerAddresses::DeleteService(std::string_view name_space, std::string_view name) {
  impl_->Post([key = ObjectKey{std::string(name_space), std::string(name)}](Impl& impl) {
    impl.Set(key, {});
  });
}

}  // namespace skiff::agent::proxy
