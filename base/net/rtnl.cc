#include "base/net/rtnl.h"

#include <linux/if_addr.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <netlink/attr.h>
#include <sys/ioctl.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace skiff::net {
namespace {

// All of them are among the flags that fit the header's byte. IFA_F_TEMPORARY means "secondary" for
// IPv4 (if_addr.h), which such an address is called at no less.
constexpr uint8_t kUnstableFlags =
    IFA_F_TEMPORARY | IFA_F_DEPRECATED | IFA_F_TENTATIVE | IFA_F_DADFAILED;

uint8_t FamilyNumber(IpFamily family) { return family == IpFamily::kV4 ? AF_INET : AF_INET6; }

// Where nothing is said, the kernel makes a queue for each processor, and at once gives up all but
// one, which takes it an RCU grace period with its lock held (veth_init_queues).
void PutOneQueue(NetlinkMessage& link) {
  link.PutU32(IFLA_NUM_TX_QUEUES, 1);
  link.PutU32(IFLA_NUM_RX_QUEUES, 1);
}

std::string IndexText(int index) { return "link " + std::to_string(index); }

std::string MacText(const uint8_t* bytes) {
  char text[18];
  snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", bytes[0], bytes[1], bytes[2],
           bytes[3], bytes[4], bytes[5]);
  return text;
}

template <size_t N>
bool ParseAttributes(nlmsghdr* header, int header_size, std::array<nlattr*, N>& attributes) {
  return nlmsg_parse(header, header_size, attributes.data(), static_cast<int>(N) - 1, nullptr) == 0;
}

LinkCounters ParseCounters(const void* bytes) {
  rtnl_link_stats64 stats;  // copied: in the message it is aligned to four bytes only
  memcpy(&stats, bytes, sizeof stats);
  return {.rx_bytes = stats.rx_bytes,
          .rx_packets = stats.rx_packets,
          .rx_errors = stats.rx_errors,
          .rx_dropped = stats.rx_dropped,
          .tx_bytes = stats.tx_bytes,
          .tx_packets = stats.tx_packets,
          .tx_errors = stats.tx_errors,
          .tx_dropped = stats.tx_dropped};
}

std::optional<Link> ParseLink(nlmsghdr* header) {
  std::array<nlattr*, IFLA_MAX + 1> attributes{};
  if (header->nlmsg_type != RTM_NEWLINK ||
      !ParseAttributes(header, sizeof(ifinfomsg), attributes) ||
      attributes[IFLA_IFNAME] == nullptr) {
    return std::nullopt;
  }
  auto* info = static_cast<ifinfomsg*>(nlmsg_data(header));
  Link link{.index = info->ifi_index,
            .name = nla_get_string(attributes[IFLA_IFNAME]),
            .up = (info->ifi_flags & IFF_UP) != 0};
  if (nlattr* alias = attributes[IFLA_IFALIAS]) link.alias = nla_get_string(alias);
  if (nlattr* mtu = attributes[IFLA_MTU]) link.mtu = nla_get_u32(mtu);
  if (nlattr* master = attributes[IFLA_MASTER]) link.master = static_cast<int>(nla_get_u32(master));
  if (const void* mac = AttributeData(attributes[IFLA_ADDRESS], 6)) {
    link.mac = MacText(static_cast<const uint8_t*>(mac));
  }
  if (nlattr* stats = attributes[IFLA_STATS64];
      stats != nullptr && nla_len(stats) >= static_cast<int>(sizeof(rtnl_link_stats64))) {
    link.counters = ParseCounters(nla_data(stats));
  }
  if (nlattr* info_attribute = attributes[IFLA_LINKINFO]) {
    std::array<nlattr*, IFLA_INFO_MAX + 1> nested{};
    if (nla_parse_nested(nested.data(), IFLA_INFO_MAX, info_attribute, nullptr) == 0 &&
        nested[IFLA_INFO_KIND] != nullptr) {
      link.kind = nla_get_string(nested[IFLA_INFO_KIND]);
    }
  }
  return link;
}

ifinfomsg LinkHeader(int index, unsigned flags = 0, unsigned change = 0) {
  return {.ifi_family = AF_UNSPEC, .ifi_index = index, .ifi_flags = flags, .ifi_change = change};
}

NetlinkMessage PortMessage(int index, const char* what) {
  ifinfomsg header = LinkHeader(index);
  header.ifi_family = AF_BRIDGE;
  return NetlinkMessage(RTM_SETLINK, 0, header, what + IndexText(index));
}

rtmsg RouteHeader(const Route& route, RouteOwner owner) {
  rtmsg header{};
  header.rtm_family = FamilyNumber(route.destination.family());
  header.rtm_dst_len = static_cast<uint8_t>(route.destination.length());
  header.rtm_table = RT_TABLE_MAIN;
  header.rtm_protocol = static_cast<uint8_t>(owner);
  header.rtm_scope = route.gateway || route.destination.family() == IpFamily::kV6
                         ? RT_SCOPE_UNIVERSE
                         : RT_SCOPE_LINK;
  header.rtm_type = RTN_UNICAST;
  if (route.on_link) header.rtm_flags = RTNH_F_ONLINK;
  return header;
}

std::string RouteText(const Route& route) {
  std::string text = "route " + route.destination.ToString();
  if (route.gateway) text += " via " + route.gateway->ToString();
  return text;
}

NetlinkMessage RouteMessage(int type, int flags, const Route& route, RouteOwner owner,
                            std::string what) {
  NetlinkMessage message(type, flags, RouteHeader(route, owner), std::move(what));
  if (route.destination.length() > 0) message.PutAddress(RTA_DST, route.destination.first());
  if (route.gateway) message.PutAddress(RTA_GATEWAY, *route.gateway);
  if (route.source) message.PutAddress(RTA_PREFSRC, *route.source);
  if (route.metric != 0) message.PutU32(RTA_PRIORITY, route.metric);
  if (route.link != 0) message.PutU32(RTA_OIF, static_cast<uint32_t>(route.link));
  if (route.mtu != 0) {
    message.Nest(RTA_METRICS, [&route](NetlinkMessage& metrics) {
      metrics.PutU32(RTAX_MTU, route.mtu);
      // Forwarding IPv6 heeds a route's MTU only when it is locked (ip6_dst_mtu_maybe_forward).
      if (route.destination.first().is_v6()) metrics.PutU32(RTAX_LOCK, 1U << RTAX_MTU);
    });
  }
  return message;
}

std::optional<Route> ParseRoute(nlmsghdr* header, IpFamily family,
                                std::optional<RouteOwner> owner) {
  std::array<nlattr*, RTA_MAX + 1> attributes{};
  if (header->nlmsg_type != RTM_NEWROUTE || !ParseAttributes(header, sizeof(rtmsg), attributes)) {
    return std::nullopt;
  }
  auto* info = static_cast<rtmsg*>(nlmsg_data(header));
  if (owner && info->rtm_protocol != static_cast<uint8_t>(*owner)) return std::nullopt;
  if (info->rtm_family != FamilyNumber(family) || info->rtm_type != RTN_UNICAST ||
      info->rtm_table != RT_TABLE_MAIN || (info->rtm_flags & RTM_F_CLONED) != 0) {
    return std::nullopt;
  }
  size_t size = family == IpFamily::kV4 ? 4 : 16;
  uint8_t zero[16] = {};
  const void* destination = AttributeData(attributes[RTA_DST], size);
  Route route{.destination = IpPrefix::Of(
                  IpAddress::FromBytes(family, destination != nullptr ? destination : zero),
                  info->rtm_dst_len)};
  if (const void* gateway = AttributeData(attributes[RTA_GATEWAY], size)) {
    route.gateway = IpAddress::FromBytes(family, gateway);
  }
  if (const void* source = AttributeData(attributes[RTA_PREFSRC], size)) {
    route.source = IpAddress::FromBytes(family, source);
  }
  if (nlattr* link = attributes[RTA_OIF]) route.link = static_cast<int>(nla_get_u32(link));
  if (nlattr* metric = attributes[RTA_PRIORITY]) route.metric = nla_get_u32(metric);
  route.on_link = (info->rtm_flags & RTNH_F_ONLINK) != 0;
  std::array<nlattr*, RTAX_MAX + 1> metrics{};
  if (attributes[RTA_METRICS] != nullptr &&
      nla_parse_nested(metrics.data(), RTAX_MAX, attributes[RTA_METRICS], nullptr) == 0 &&
      metrics[RTAX_MTU] != nullptr) {
    route.mtu = nla_get_u32(metrics[RTAX_MTU]);
  }
  return route;
}

NetlinkMessage ForwardingMessage(int type, int flags, int link, const Forwarding& entry,
                                 const std::string& verb) {
  ndmsg header{};
  header.ndm_family = AF_BRIDGE;
  header.ndm_ifindex = link;
  header.ndm_state = NUD_PERMANENT;
  header.ndm_flags = NTF_SELF;  // the link's own table, not that of a bridge above it
  NetlinkMessage message(type, flags, header, verb + entry.mac + " to " + entry.remote.ToString());
  message.PutMac(NDA_LLADDR, entry.mac).PutAddress(NDA_DST, entry.remote);
  return message;
}

// A neighbour or forwarding entry of the link: MAC and address.
std::optional<std::pair<std::string, IpAddress>> ParseNeighbour(nlmsghdr* header, int family,
                                                                int link) {
  std::array<nlattr*, NDA_MAX + 1> attributes{};
  if (header->nlmsg_type != RTM_NEWNEIGH || !ParseAttributes(header, sizeof(ndmsg), attributes)) {
    return std::nullopt;
  }
  auto* info = static_cast<ndmsg*>(nlmsg_data(header));
  const void* mac = AttributeData(attributes[NDA_LLADDR], 6);
  nlattr* address = attributes[NDA_DST];
  if (info->ndm_family != family || info->ndm_ifindex != link || mac == nullptr ||
      address == nullptr || (info->ndm_state & NUD_PERMANENT) == 0) {
    return std::nullopt;
  }
  bool v4 = nla_len(address) == 4;
  if (!v4 && nla_len(address) != 16) return std::nullopt;
  return std::pair(MacText(static_cast<const uint8_t*>(mac)),
                   IpAddress::FromBytes(v4 ? IpFamily::kV4 : IpFamily::kV6, nla_data(address)));
}

NetlinkMessage ProxyMessage(uint16_t type, uint16_t flags, int link, const IpAddress& address,
                            const char* what) {
  ndmsg header{};
  header.ndm_family = FamilyNumber(address.family());
  header.ndm_ifindex = link;
  header.ndm_flags = NTF_PROXY;
  NetlinkMessage message(type, flags, header, what + address.ToString());
  message.PutAddress(NDA_DST, address)
      .PutU8(NDA_PROTOCOL, static_cast<uint8_t>(RouteOwner::kSkiff));
  return message;
}

}  // namespace

namespace rtnl {

NetlinkMessage CreateBridge(const std::string& name, const std::string& mac, uint32_t mtu) {
  NetlinkMessage message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, LinkHeader(0, IFF_UP, IFF_UP),
                         "create bridge " + name);
  message.PutString(IFLA_IFNAME, name);
  if (!mac.empty()) message.PutMac(IFLA_ADDRESS, mac);
  if (mtu != 0) message.PutU32(IFLA_MTU, mtu);
  message.Nest(IFLA_LINKINFO, [](NetlinkMessage& m) { m.PutString(IFLA_INFO_KIND, "bridge"); });
  return message;
}

NetlinkMessage CreateVeth(const VethSpec& spec) {
  NetlinkMessage message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, LinkHeader(0, IFF_UP, IFF_UP),
                         "create veth pair " + spec.name + " and " + spec.peer_name);
  message.PutString(IFLA_IFNAME, spec.name);
  PutOneQueue(message);
  if (spec.mtu != 0) message.PutU32(IFLA_MTU, spec.mtu);
  if (spec.master != 0) message.PutU32(IFLA_MASTER, static_cast<uint32_t>(spec.master));
  message.Nest(IFLA_LINKINFO, [&](NetlinkMessage& info) {
    info.PutString(IFLA_INFO_KIND, "veth");
    info.Nest(IFLA_INFO_DATA, [&](NetlinkMessage& data) {
      data.Nest(VETH_INFO_PEER, [&](NetlinkMessage& peer) {
        ifinfomsg header = LinkHeader(0);  // not up: veth_open wants its partner, which comes later
        peer.PutRaw(&header, sizeof header);
        peer.PutString(IFLA_IFNAME, spec.peer_name);
        PutOneQueue(peer);
        if (spec.mtu != 0) peer.PutU32(IFLA_MTU, spec.mtu);
        if (!spec.peer_mac.empty()) peer.PutMac(IFLA_ADDRESS, spec.peer_mac);
        if (spec.peer_netns >= 0) {
          peer.PutU32(IFLA_NET_NS_FD, static_cast<uint32_t>(spec.peer_netns));
        }
      });
    });
  });
  return message;
}

NetlinkMessage DeleteLink(int index) {
  return NetlinkMessage(RTM_DELLINK, 0, LinkHeader(index), "delete " + IndexText(index));
}

NetlinkMessage DeleteGroup(uint32_t group) {
  NetlinkMessage message(RTM_DELLINK, 0, LinkHeader(0), "delete links of group");
  message.PutU32(IFLA_GROUP, group);
  return message;
}

NetlinkMessage SetGroup(int index, uint32_t group) {
  NetlinkMessage message(RTM_NEWLINK, 0, LinkHeader(index), "set group of " + IndexText(index));
  message.PutU32(IFLA_GROUP, group);
  return message;
}

NetlinkMessage SetUp(int index, bool up) {
  return NetlinkMessage(RTM_NEWLINK, 0, LinkHeader(index, up ? IFF_UP : 0, IFF_UP),
                        "set " + IndexText(index) + (up ? " up" : " down"));
}

NetlinkMessage SetMtu(int index, uint32_t mtu) {
  NetlinkMessage message(RTM_NEWLINK, 0, LinkHeader(index),
                         "set MTU " + std::to_string(mtu) + " of " + IndexText(index));
  message.PutU32(IFLA_MTU, mtu);
  return message;
}

NetlinkMessage SetMaster(int index, int master) {
  NetlinkMessage message(RTM_NEWLINK, 0, LinkHeader(index),
                         "put " + IndexText(index) + " on bridge " + std::to_string(master));
  message.PutU32(IFLA_MASTER, static_cast<uint32_t>(master));
  return message;
}

NetlinkMessage SetHairpin(int index, bool on) {
  NetlinkMessage message = PortMessage(index, "set hairpin mode of ");
  message.Nest(IFLA_PROTINFO, [on](NetlinkMessage& m) { m.PutU8(IFLA_BRPORT_MODE, on ? 1 : 0); });
  return message;
}

NetlinkMessage DisablePort(int index) {
  NetlinkMessage message = PortMessage(index, "disable the port of ");
  message.Nest(IFLA_PROTINFO, [](NetlinkMessage& m) {
    m.PutU8(IFLA_BRPORT_STATE, BR_STATE_DISABLED);
    m.Put(IFLA_BRPORT_FLUSH, nullptr, 0);
  });
  return message;
}

NetlinkMessage AddAddress(int link, const IpAddress& address, int prefix_length) {
  ifaddrmsg header{.ifa_family = FamilyNumber(address.family()),
                   .ifa_prefixlen = static_cast<uint8_t>(prefix_length),
                   .ifa_flags = 0,
                   .ifa_scope = RT_SCOPE_UNIVERSE,
                   .ifa_index = static_cast<uint32_t>(link)};
  NetlinkMessage message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, header,
                         "add address " + address.ToString() + "/" + std::to_string(prefix_length));
  message.PutAddress(IFA_LOCAL, address).PutAddress(IFA_ADDRESS, address);
  message.PutU32(IFA_FLAGS, IFA_F_NODAD | IFA_F_NOPREFIXROUTE);
  return message;
}

NetlinkMessage DeleteAddress(const LinkAddress& address) {
  ifaddrmsg header{.ifa_family = FamilyNumber(address.address.family()),
                   .ifa_prefixlen = static_cast<uint8_t>(address.prefix_length),
                   .ifa_flags = 0,
                   .ifa_scope = RT_SCOPE_UNIVERSE,
                   .ifa_index = static_cast<uint32_t>(address.link)};
  NetlinkMessage message(RTM_DELADDR, 0, header, "delete address " + address.address.ToString());
  message.PutAddress(IFA_LOCAL, address.address);
  return message;
}

NetlinkMessage ReplaceRoute(const Route& route, RouteOwner owner) {
  return RouteMessage(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route, owner,
                      "set " + RouteText(route));
}

NetlinkMessage DeleteRoute(const Route& route, RouteOwner owner) {
  return RouteMessage(RTM_DELROUTE, 0, route, owner, "delete " + RouteText(route));
}

NetlinkMessage CreateVxlan(const VxlanSpec& spec) {
  NetlinkMessage message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, LinkHeader(0, IFF_UP, IFF_UP),
                         "create VXLAN link " + spec.name);
  message.PutString(IFLA_IFNAME, spec.name).PutMac(IFLA_ADDRESS, spec.mac);
  message.PutU32(IFLA_MTU, spec.mtu);
  message.Nest(IFLA_LINKINFO, [&](NetlinkMessage& info) {
    info.PutString(IFLA_INFO_KIND, "vxlan");
    info.Nest(IFLA_INFO_DATA, [&](NetlinkMessage& data) {
      uint16_t port = htons(spec.port);
      data.PutU32(IFLA_VXLAN_ID, spec.vni).Put(IFLA_VXLAN_PORT, &port, sizeof port);
      data.PutU8(IFLA_VXLAN_LEARNING, 0);
      // A link is for one family; without an address of IPv6 it is for IPv4. "::" is any.
      if (spec.underlay == IpFamily::kV6) {
        data.PutAddress(IFLA_VXLAN_LOCAL6, IpAddress::Parse("::").value());
      }
    });
  });
  return message;
}

NetlinkMessage CreateWireguard(const std::string& name, uint32_t mtu) {
  NetlinkMessage message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, LinkHeader(0, IFF_UP, IFF_UP),
                         "create WireGuard link " + name);
  message.PutString(IFLA_IFNAME, name).PutU32(IFLA_MTU, mtu);
  message.Nest(IFLA_LINKINFO,
               [](NetlinkMessage& info) { info.PutString(IFLA_INFO_KIND, "wireguard"); });
  return message;
}

NetlinkMessage ReplaceNeighbour(int link, const IpAddress& address, const std::string& mac) {
  ndmsg header{};
  header.ndm_family = FamilyNumber(address.family());
  header.ndm_ifindex = link;
  header.ndm_state = NUD_PERMANENT;
  NetlinkMessage message(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, header,
                         "set neighbour " + address.ToString());
  message.PutAddress(NDA_DST, address).PutMac(NDA_LLADDR, mac);
  return message;
}

NetlinkMessage DeleteNeighbour(int link, const IpAddress& address) {
  ndmsg header{};
  header.ndm_family = FamilyNumber(address.family());
  header.ndm_ifindex = link;
  NetlinkMessage message(RTM_DELNEIGH, 0, header, "delete neighbour " + address.ToString());
  message.PutAddress(NDA_DST, address);
  return message;
}

NetlinkMessage AddNeighbourProxy(int link, const IpAddress& address) {
  return ProxyMessage(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, link, address, "answer for ");
}

NetlinkMessage DeleteNeighbourProxy(int link, const IpAddress& address) {
  return ProxyMessage(RTM_DELNEIGH, 0, link, address, "no longer answer for ");
}

NetlinkMessage ReplaceForwarding(int link, const Forwarding& entry) {
  return ForwardingMessage(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, link, entry, "forward ");
}

NetlinkMessage DeleteForwarding(int link, const Forwarding& entry) {
  return ForwardingMessage(RTM_DELNEIGH, 0, link, entry, "do not forward ");
}

}  // namespace rtnl

Result<Rtnl> Rtnl::Open(std::chrono::milliseconds deadline) {
  return Rtnl(TRY(NetlinkSocket::Open(NETLINK_ROUTE, deadline)));
}

Result<Rtnl> Rtnl::OpenIn(const Netns& netns, std::chrono::milliseconds deadline) {
  NetnsScope scope = TRY(NetnsScope::Enter(netns));
  return Open(deadline);
}

Result<Link> Rtnl::QueryLink(NetlinkMessage message) {
  std::optional<Link> link;
  TRY(socket_.Query(message, [&link](nlmsghdr* header) {
    if (auto parsed = ParseLink(header)) link = std::move(parsed);
  }));
  if (!link) return Error(Code::kInternal, message.what() + ": no answer");
  return *std::move(link);
}

Result<Link> Rtnl::GetLink(const std::string& name) {
  if (name.size() >= IFNAMSIZ) return Error(Code::kNotFound, "no interface " + name);
  NetlinkMessage message(RTM_GETLINK, 0, LinkHeader(0), "look up " + name);
  message.PutString(IFLA_IFNAME, name);
  auto link = QueryLink(std::move(message));
  if (!link.ok() && link.error().sys_errno() == ENODEV) {
    return Error(Code::kNotFound, "no interface " + name);
  }
  return link;
}

Result<Link> Rtnl::GetLink(int index) {
  auto link =
      QueryLink(NetlinkMessage(RTM_GETLINK, 0, LinkHeader(index), "look up " + IndexText(index)));
  if (!link.ok() && link.error().sys_errno() == ENODEV) {
    return Error(Code::kNotFound, "no " + IndexText(index));
  }
  return link;
}

Result<std::vector<Link>> Rtnl::ListLinks() {
  std::vector<Link> links;
  NetlinkMessage message(RTM_GETLINK, NLM_F_DUMP, LinkHeader(0), "list links");
  TRY(socket_.Query(message, [&links](nlmsghdr* header) {
    auto link = ParseLink(header);
    if (!link) return;
    std::erase_if(links, [&](const Link& other) { return other.index == link->index; });
    links.push_back(*std::move(link));
  }));
  return links;
}

Result<int> Rtnl::LinkIndex(const std::string& name) {
  ifreq request{};
  if (name.size() < sizeof request.ifr_name) {
    memcpy(request.ifr_name, name.data(), name.size());
    // Any socket's ioctl acts in the namespace of that socket (netdevice(7)).
    if (ioctl(socket_.fd(), SIOCGIFINDEX, &request) == 0) return request.ifr_ifindex;
    if (errno != ENODEV) return Error::Sys(errno, "ioctl(SIOCGIFINDEX)", name);
  }
  return Error(Code::kNotFound, "no interface " + name);
}

Result<> Rtnl::DeleteLinkIfPresent(const std::string& name) {
  auto index = LinkIndex(name);
  if (!index.ok()) {
    if (index.error().code() == Code::kNotFound) return {};
    return std::move(index).error();
  }
  Result<> deleted = Apply(rtnl::DeleteLink(*index));
  // Gone in between, with its namespace.
  if (!deleted.ok() && deleted.error().sys_errno() == ENODEV) return {};
  return deleted;
}

Result<std::vector<LinkAddress>> Rtnl::ListAddresses(IpFamily family) {
  std::vector<LinkAddress> addresses;
  ifaddrmsg filter{.ifa_family = FamilyNumber(family)};
  NetlinkMessage message(RTM_GETADDR, NLM_F_DUMP, filter, "list addresses");
  TRY(socket_.Query(message, [&](nlmsghdr* header) {
    std::array<nlattr*, IFA_MAX + 1> attributes{};
    if (header->nlmsg_type != RTM_NEWADDR ||
        !ParseAttributes(header, sizeof(ifaddrmsg), attributes)) {
      return;
    }
    auto* info = static_cast<ifaddrmsg*>(nlmsg_data(header));
    size_t size = family == IpFamily::kV4 ? 4 : 16;
    // IPv4 has the address itself in IFA_LOCAL, IPv6 in IFA_ADDRESS (rtnetlink(7)).
    const void* bytes = AttributeData(attributes[IFA_LOCAL], size);
    if (bytes == nullptr) bytes = AttributeData(attributes[IFA_ADDRESS], size);
    if (bytes == nullptr || info->ifa_family != filter.ifa_family) return;
    LinkAddress address{
        .link = static_cast<int>(info->ifa_index),
        .address = IpAddress::FromBytes(family, bytes),
        .prefix_length = info->ifa_prefixlen,
        .stable = family == IpFamily::kV4 || (info->ifa_flags & kUnstableFlags) == 0};
    std::erase(addresses, address);
    addresses.push_back(address);
  }));
  return addresses;
}

Result<std::vector<Route>> Rtnl::ListRoutes(IpFamily family, std::optional<RouteOwner> owner) {
  std::vector<Route> routes;
  rtmsg filter{};
  filter.rtm_family = FamilyNumber(family);
  NetlinkMessage message(RTM_GETROUTE, NLM_F_DUMP, filter, "list routes");
  TRY(socket_.Query(message, [&](nlmsghdr* header) {
    auto route = ParseRoute(header, family, owner);
    if (!route) return;
    std::erase(routes, *route);
    routes.push_back(*std::move(route));
  }));
  return routes;
}

Result<std::vector<Neighbour>> Rtnl::ListNeighbours(IpFamily family, int link) {
  std::vector<Neighbour> entries;
  ndmsg filter{};
  filter.ndm_family = FamilyNumber(family);
  NetlinkMessage message(RTM_GETNEIGH, NLM_F_DUMP, filter, "list neighbours");
  TRY(socket_.Query(message, [&](nlmsghdr* header) {
    auto parsed = ParseNeighbour(header, filter.ndm_family, link);
    if (!parsed) return;
    Neighbour entry{parsed->second, parsed->first};
    std::erase(entries, entry);
    entries.push_back(std::move(entry));
  }));
  return entries;
}

Result<std::vector<std::pair<int, IpAddress>>> Rtnl::ListNeighbourProxies() {
  std::vector<std::pair<int, IpAddress>> proxies;
  ndmsg filter{};
  filter.ndm_family = AF_INET6;
  filter.ndm_flags = NTF_PROXY;
  NetlinkMessage message(RTM_GETNEIGH, NLM_F_DUMP, filter, "list neighbour proxies");
  TRY(socket_.Query(message, [&](nlmsghdr* header) {
    std::array<nlattr*, NDA_MAX + 1> attributes{};
    if (header->nlmsg_type != RTM_NEWNEIGH || !ParseAttributes(header, sizeof(ndmsg), attributes)) {
      return;
    }
    auto* info = static_cast<ndmsg*>(nlmsg_data(header));
    const void* address = AttributeData(attributes[NDA_DST], 16);
    const void* owner = AttributeData(attributes[NDA_PROTOCOL], 1);
    if ((info->ndm_flags & NTF_PROXY) == 0 || info->ndm_family != AF_INET6 || address == nullptr ||
        owner == nullptr ||
        *static_cast<const uint8_t*>(owner) != static_cast<uint8_t>(RouteOwner::kSkiff)) {
      return;
    }
    proxies.emplace_back(info->ndm_ifindex, IpAddress::FromBytes(IpFamily::kV6, address));
  }));
  return proxies;
}

Result<std::vector<Forwarding>> Rtnl::ListForwarding(int link) {
  std::vector<Forwarding> entries;
  ndmsg filter{};
  filter.ndm_family = AF_BRIDGE;
  filter.ndm_ifindex = link;
  NetlinkMessage message(RTM_GETNEIGH, NLM_F_DUMP, filter, "list forwarding entries");
  TRY(socket_.Query(message, [&](nlmsghdr* header) {
    auto parsed = ParseNeighbour(header, AF_BRIDGE, link);
    if (!parsed) return;
    Forwarding entry{parsed->first, parsed->second};
    std::erase(entries, entry);
    entries.push_back(std::move(entry));
  }));
  return entries;
}

Result<Route> Rtnl::DefaultRoute(IpFamily family) {
  std::optional<Route> best;
  for (Route& route : TRY(ListRoutes(family))) {
    if (route.destination.length() != 0 || route.link == 0) continue;
    if (!best || route.metric < best->metric) best = std::move(route);
  }
  if (!best)
    return Error(Code::kNotFound, "no " + std::string(FamilyName(family)) + " default route");
  return *std::move(best);
}

}  // namespace skiff::net
