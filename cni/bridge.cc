#include "cni/bridge.h"

#include <algorithm>
#include <iterator>
#include <map>

#include "base/net/families.h"

namespace skiff::cni {
namespace {

constexpr uint32_t kDefaultMtu = 1500;
constexpr uint32_t kSmallestMtu = 576;  // RFC 791: what every host must take

// The gateway addresses and pod routes the bridge is to have in one family.
struct FamilySpec {
  std::map<net::IpAddress, int> gateways;                // with prefix length
  std::map<net::IpPrefix, net::IpAddress> destinations;  // with the address to send from
};

FamilySpec SpecOf(net::IpFamily family, const BridgeSpec& spec, const std::vector<Lease>& leases) {
  FamilySpec wanted;
  for (const net::IpPrefix& cidr : spec.pod_cidrs) {
    if (cidr.family() != family) continue;
    wanted.gateways[GatewayOf(cidr)] = cidr.length();
    wanted.destinations[cidr] = GatewayOf(cidr);
  }
  // Pods that got their address before the CIDRs changed keep their gateway.
  for (const Lease& lease : leases) {
    for (const PodAddress& pod : lease.attachment.addresses) {
      bool covered =
          std::any_of(spec.pod_cidrs.begin(), spec.pod_cidrs.end(),
                      [&](const net::IpPrefix& cidr) { return cidr.Contains(pod.address); });
      if (pod.address.family() != family || covered) continue;
      wanted.gateways.try_emplace(pod.gateway, pod.gateway.bits());
      wanted.destinations[net::IpPrefix::Host(pod.address)] = pod.gateway;
    }
  }
  return wanted;
}

// Deleting an address takes the routes along that name it as their source: addresses come first and
// go last.
Result<> EnsureFamily(net::Rtnl& rtnl, int index, net::IpFamily family, const FamilySpec& wanted) {
  std::vector<net::NetlinkMessage> changes, removals;
  std::map<net::IpAddress, int> missing = wanted.gateways;
  for (const net::LinkAddress& address : TRY(rtnl.ListAddresses(family))) {
    if (address.link != index || address.address.is_link_local()) continue;
    // One that is there with another prefix length serves as well: the routes are our own.
    bool needed = wanted.gateways.contains(address.address);
    missing.erase(address.address);
    if (!needed) removals.push_back(net::rtnl::DeleteAddress(address));
  }
  for (const auto& [address, length] : missing) {
    changes.push_back(net::rtnl::AddAddress(index, address, length));
  }
  for (const auto& [destination, source] : wanted.destinations) {
    changes.push_back(net::rtnl::ReplaceRoute(
        {.destination = destination, .gateway = {}, .link = index, .source = source}));
  }
  for (const net::Route& route : TRY(rtnl.ListRoutes(family))) {
    if (route.link != index || route.destination.first().is_link_local() ||
        wanted.destinations.contains(route.destination)) {
      continue;
    }
    changes.push_back(net::rtnl::DeleteRoute(route));
  }
  std::move(removals.begin(), removals.end(), std::back_inserter(changes));
  return rtnl.Apply(std::move(changes));
}

bool HasFamily(const BridgeSpec& spec, net::IpFamily family) {
  return std::any_of(spec.pod_cidrs.begin(), spec.pod_cidrs.end(),
                     [family](const net::IpPrefix& cidr) { return cidr.family() == family; });
}

// Forwarding makes an interface deaf to router advertisements unless accept_ra is 2
// (Documentation/networking/ip-sysctl.rst): the node must not lose its own default route.
Result<> KeepRouterAdvertisements(net::Rtnl& rtnl) {
  for (const net::Link& link : TRY(rtnl.ListLinks())) {
    std::string name = "ipv6/conf/" + link.name + "/accept_ra";
    auto value = net::ReadNetSysctl(name);
    if (link.kind.empty() && value.ok() && *value == "1") TRY(net::WriteNetSysctl(name, "2"));
  }
  return {};
}

Result<net::Rtnl> OpenInPod(const net::Netns& pod, bool v6, std::chrono::milliseconds deadline) {
  net::NetnsScope scope = TRY(net::NetnsScope::Enter(pod));
  if (v6) {
    // Inherited by the interface about to be made: usable at once, and steered by nobody on the
    // bridge.
    TRY(net::WriteNetSysctl("ipv6/conf/default/disable_ipv6", "0"));
    TRY(net::WriteNetSysctl("ipv6/conf/default/accept_dad", "0"));
    TRY(net::WriteNetSysctl("ipv6/conf/default/accept_ra", "0"));
    TRY(net::WriteNetSysctl("ipv6/conf/default/accept_redirects", "0"));
  }
  return net::Rtnl::Open(deadline);
}

}  // namespace

Result<uint32_t> UnderlayMtu(net::Rtnl& rtnl, const std::string& bridge,
                             uint32_t encapsulation_bytes) {
  uint32_t mtu = 0;
  for (net::IpFamily family : net::kIpFamilies) {
    auto route = rtnl.DefaultRoute(family);
    if (!route.ok() && route.error().code() != Code::kNotFound) return std::move(route).error();
    if (!route.ok()) continue;
    mtu = TRY(rtnl.GetLink(route->link)).mtu;
    break;
  }
  if (mtu == 0) {
    mtu = kDefaultMtu;
    for (const net::Link& link : TRY(rtnl.ListLinks())) {
      bool ours = link.name == bridge || link.name.starts_with("skiff-");
      bool underlay = link.up && link.name != "lo" && !ours && link.master == 0;
      if (underlay && link.mtu != 0) mtu = std::min(mtu, link.mtu);
    }
  }
  if (mtu < kSmallestMtu + encapsulation_bytes) {
    return Error(Code::kFailedPrecondition,
                 "the node's MTU of " + std::to_string(mtu) + " is too small for pods");
  }
  return mtu - encapsulation_bytes;
}

Result<int> EnsureBridge(net::Rtnl& rtnl, const BridgeSpec& spec,
                         const std::vector<Lease>& leases) {
  auto link = rtnl.GetLink(spec.name);
  if (!link.ok()) {
    if (link.error().code() != Code::kNotFound) return std::move(link).error();
    // A MAC of its own, or the bridge would change it with each port that joins.
    std::string mac = MacOf(GatewayOf(spec.pod_cidrs.front()));
    TRY(rtnl.Apply(net::rtnl::CreateBridge(spec.name, mac, spec.mtu)));
    link = rtnl.GetLink(spec.name);
    if (!link.ok()) return std::move(link).error();
  }
  if (link->kind != "bridge") {
    return Error(Code::kFailedPrecondition,
                 "interface " + spec.name + " exists and is no bridge; name another one");
  }
  if (!link->up) TRY(rtnl.Apply(net::rtnl::SetUp(link->index, true)));
  if (link->mtu != spec.mtu) TRY(rtnl.Apply(net::rtnl::SetMtu(link->index, spec.mtu)));
  // Before the addresses: no detection of duplicates on what nobody else has.
  if (HasFamily(spec, net::IpFamily::kV6)) {
    TRY(net::WriteNetSysctl("ipv6/conf/" + spec.name + "/disable_ipv6", "0"));
    TRY(net::WriteNetSysctl("ipv6/conf/" + spec.name + "/accept_dad", "0"));
    TRY(net::WriteNetSysctl("ipv6/conf/" + spec.name + "/accept_ra", "0"));
  }
  for (net::IpFamily family : net::kIpFamilies) {
    TRY(EnsureFamily(rtnl, link->index, family, SpecOf(family, spec, leases)));
  }
  return link->index;
}

Result<> EnsureSysctls(net::Rtnl& rtnl, const BridgeSpec& spec) {
  std::string conf = "ipv4/conf/" + spec.name + "/";
  if (HasFamily(spec, net::IpFamily::kV4)) {
    TRY(net::WriteNetSysctl("ipv4/ip_forward", "1"));
    // Host ports answer on 127.0.0.1; SKIFF-INPUT keeps pods out.
    TRY(net::WriteNetSysctl(conf + "route_localnet", "1"));
    // Pods reach each other through the node on purpose. The kernel takes the OR of "all" and the
    // interface, so both must be off; other interfaces keep their own.
    TRY(net::WriteNetSysctl("ipv4/conf/all/send_redirects", "0"));
    TRY(net::WriteNetSysctl(conf + "send_redirects", "0"));
  }
  if (HasFamily(spec, net::IpFamily::kV6)) {
    TRY(KeepRouterAdvertisements(rtnl));
    TRY(net::WriteNetSysctl("ipv6/conf/all/forwarding", "1"));
  }
  return {};
}

Result<> ConnectPod(net::Rtnl& node, const net::Netns& pod, int bridge_index, const Lease& lease,
                    std::chrono::milliseconds deadline) {
  const Attachment& attachment = lease.attachment;
  bool v6 = std::any_of(attachment.addresses.begin(), attachment.addresses.end(),
                        [](const PodAddress& address) { return address.address.is_v6(); });
  net::Rtnl inside = TRY(OpenInPod(pod, v6, deadline));
  net::VethSpec pair{.name = attachment.host_interface,
                     .master = bridge_index,
                     .mtu = attachment.mtu,
                     .peer_name = attachment.interface,
                     .peer_mac = attachment.mac,
                     .peer_netns = pod.fd()};
  TRY(node.Apply(net::rtnl::CreateVeth(pair)));
  // With br_netfilter, a pod that reaches itself through a Service comes back on its own port.
  int outside_index = TRY(node.LinkIndex(attachment.host_interface));
  TRY(node.Apply(net::rtnl::SetHairpin(outside_index, true)));

  int loopback = TRY(inside.LinkIndex("lo"));
  int index = TRY(inside.LinkIndex(attachment.interface));
  std::vector<net::NetlinkMessage> changes;
  changes.push_back(net::rtnl::SetUp(loopback, true));
  changes.push_back(net::rtnl::SetUp(index, true));
  for (const PodAddress& address : attachment.addresses) {
    changes.push_back(net::rtnl::AddAddress(index, address.address, address.address.bits()));
    changes.push_back(net::rtnl::ReplaceRoute(
        {.destination = net::IpPrefix::Host(address.gateway), .gateway = {}, .link = index}));
    changes.push_back(net::rtnl::ReplaceRoute({.destination = net::IpPrefix::Of(address.gateway, 0),
                                               .gateway = address.gateway,
                                               .link = index,
                                               .source = address.address}));
  }
  return inside.Apply(std::move(changes));
}

Result<> CheckPod(net::Rtnl& node, int bridge_index, const Lease& lease) {
  auto broken = [](std::string what) { return Error(Code::kFailedPrecondition, std::move(what)); };
  const Attachment& attachment = lease.attachment;
  auto outside = node.GetLink(attachment.host_interface);
  if (!outside.ok()) {
    if (outside.error().code() != Code::kNotFound) return std::move(outside).error();
    return broken("interface " + attachment.host_interface + " is gone");
  }
  if (outside->master != bridge_index || !outside->up) {
    return broken("interface " + attachment.host_interface + " is down or off the bridge");
  }
  auto netns = net::Netns::Open(lease.netns_path);
  if (!netns.ok()) return broken("the network namespace is gone: " + netns.error().message());
  net::Rtnl inside = TRY(net::Rtnl::OpenIn(*netns));
  auto index = inside.LinkIndex(attachment.interface);
  if (!index.ok()) return broken(index.error().message());
  for (const PodAddress& address : attachment.addresses) {
    bool found = false;
    for (const net::LinkAddress& present : TRY(inside.ListAddresses(address.address.family()))) {
      found |= present.link == *index && present.address == address.address;
    }
    if (!found) return broken("address " + address.address.ToString() + " is gone");
  }
  return {};
}

}  // namespace skiff::cni
