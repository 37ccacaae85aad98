// Rtnl: links, addresses, routes and neighbours of one network namespace (rtnetlink(7)).
//
//   auto node = TRY(Rtnl::Open());              // of the calling thread's namespace
//   auto pod = TRY(Rtnl::OpenIn(netns));        // of another one
//   TRY(node.CreateVeth({...}));
//
// Changes that go together are made as messages (rtnl::...) and sent by Apply in few system calls.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/net/ip.h"
#include "base/net/netlink.h"
#include "base/net/netns.h"
#include "base/result.h"

namespace skiff::net {

// Since the device was made; packets that were dropped are not among the others.
struct LinkCounters {
  uint64_t rx_bytes = 0;
  uint64_t rx_packets = 0;
  uint64_t rx_errors = 0;
  uint64_t rx_dropped = 0;
  uint64_t tx_bytes = 0;
  uint64_t tx_packets = 0;
  uint64_t tx_errors = 0;
  uint64_t tx_dropped = 0;
};

struct Link {
  int index = 0;
  std::string name;
  std::string
      kind;  // "bridge", "veth", "vxlan", "wireguard"; empty for devices that are none of these
  std::string mac;    // "0a:58:0a:f4:00:01", empty where there is none
  std::string alias;  // what an administrator wrote there
  uint32_t mtu = 0;
  int master = 0;  // index of the bridge it is a port of, or 0
  bool up = false;
  LinkCounters counters;
};

struct LinkAddress {
  int link = 0;
  IpAddress address;
  int prefix_length = 0;
  // False of IPv6 addresses that are not for being called at: temporary (RFC 8981), deprecated,
  // being checked for a double or found to be one.
  bool stable = true;
  bool operator==(const LinkAddress&) const = default;
};

struct Route {
  IpPrefix destination;
  std::optional<IpAddress> gateway;
  int link = 0;
  // The gateway is reachable on the link although no address says so.
  bool on_link = false;
  // The address that local programs send from.
  std::optional<IpAddress> source;
  uint32_t metric = 0;  // of IPv6 routes 1024 where not set
  // The largest packet that may go this way, where that is less than the link's; 0: not set.
  uint32_t mtu = 0;
  bool operator==(const Route&) const = default;
};

// Who a route belongs to (rtm_protocol, rtnetlink(7)): the administrator, or us where routes must
// be found again by whoever made them.
enum class RouteOwner : uint8_t { kStatic = 4, kSkiff = 83 };

// An entry of a link's neighbour table that stays until it is deleted.
struct Neighbour {
  IpAddress address;
  std::string mac;
  auto operator<=>(const Neighbour&) const = default;
};

// Where frames for a MAC leave an encapsulating link to.
struct Forwarding {
  std::string mac;
  IpAddress remote;
  auto operator<=>(const Forwarding&) const = default;
};

// An encapsulating link that learns nothing and floods nowhere: frames go where Forwarding entries
// say, all others are dropped.
struct VxlanSpec {
  std::string name;
  std::string mac;
  uint32_t mtu = 0;
  uint32_t vni = 0;
  uint16_t port = 0;
  // What it sends over; from which address, the kernel chooses for each packet.
  IpFamily underlay = IpFamily::kV4;
};

struct VethSpec {
  std::string name;  // on this side
  int master = 0;    // index of the bridge this side joins, or 0
  uint32_t mtu = 0;  // of both; 0: the kernel's default
  std::string peer_name;
  std::string peer_mac;  // empty: random
  int peer_netns = -1;   // descriptor of the namespace the peer is made in; -1: this one
};

// The requests, for Rtnl::Apply.
namespace rtnl {
NetlinkMessage CreateBridge(const std::string& name, const std::string& mac, uint32_t mtu);
NetlinkMessage CreateVeth(const VethSpec& spec);  // this end comes up, the peer does not
NetlinkMessage DeleteLink(int index);
// Deletes every link of a group at once: far cheaper than one by one, as the kernel waits for its
// readers (RCU) once for all.
NetlinkMessage DeleteGroup(uint32_t group);
NetlinkMessage SetGroup(int index, uint32_t group);
NetlinkMessage SetUp(int index, bool up);
NetlinkMessage SetMtu(int index, uint32_t mtu);
NetlinkMessage SetMaster(int index, int master);
// Whether a bridge port may send a frame back where it came from.
NetlinkMessage SetHairpin(int index, bool on);
// Nothing passes a bridge port any more, and the bridge forgets what it learned there.
NetlinkMessage DisablePort(int index);
// Without duplicate address detection and without the kernel's own prefix route.
NetlinkMessage AddAddress(int link, const IpAddress& address, int prefix_length);
NetlinkMessage DeleteAddress(const LinkAddress& address);
NetlinkMessage ReplaceRoute(const Route& route, RouteOwner owner = RouteOwner::kStatic);
NetlinkMessage DeleteRoute(const Route& route, RouteOwner owner = RouteOwner::kStatic);
NetlinkMessage CreateVxlan(const VxlanSpec& spec);                      // comes up
NetlinkMessage CreateWireguard(const std::string& name, uint32_t mtu);  // comes up, without a key
// A permanent neighbour entry.
NetlinkMessage ReplaceNeighbour(int link, const IpAddress& address, const std::string& mac);
NetlinkMessage DeleteNeighbour(int link, const IpAddress& address);
// The link answers neighbour solicitations for an address of another link (IPv6; the link's sysctl
// proxy_ndp must be on).
NetlinkMessage AddNeighbourProxy(int link, const IpAddress& address);
NetlinkMessage DeleteNeighbourProxy(int link, const IpAddress& address);
NetlinkMessage ReplaceForwarding(int link, const Forwarding& entry);
NetlinkMessage DeleteForwarding(int link, const Forwarding& entry);
}  // namespace rtnl

// One user at a time; errors carry the kernel's errno and explanation.
class Rtnl {
 public:
  static Result<Rtnl> Open(std::chrono::milliseconds deadline = std::chrono::seconds(10));
  static Result<Rtnl> OpenIn(const Netns& netns,
                             std::chrono::milliseconds deadline = std::chrono::seconds(10));

  Result<> Apply(NetlinkMessage message) { return socket_.Request(message); }
  Result<> Apply(std::vector<NetlinkMessage> messages) { return socket_.RequestAll(messages); }

  // As NetlinkSocket::Query.
  Result<> Query(NetlinkMessage message, const std::function<void(nlmsghdr*)>& each) {
    return socket_.Query(message, each);
  }

  // NotFound when there is none of that name.
  Result<Link> GetLink(const std::string& name);
  Result<Link> GetLink(int index);
  Result<std::vector<Link>> ListLinks();
  // An interface's index without a listing; NotFound.
  Result<int> LinkIndex(const std::string& name);
  // Deletes the link of that name; one that is gone is a success.
  Result<> DeleteLinkIfPresent(const std::string& name);

  Result<std::vector<LinkAddress>> ListAddresses(IpFamily family);
  // Of the main table; of one owner, where given.
  Result<std::vector<Route>> ListRoutes(IpFamily family, std::optional<RouteOwner> owner = {});
  // The permanent entries of a link.
  Result<std::vector<Neighbour>> ListNeighbours(IpFamily family, int link);
  // Those that AddNeighbourProxy made, by link.
  Result<std::vector<std::pair<int, IpAddress>>> ListNeighbourProxies();
  Result<std::vector<Forwarding>> ListForwarding(int link);
  // The default route with the lowest metric; NotFound.
  Result<Route> DefaultRoute(IpFamily family);

 private:
  explicit Rtnl(NetlinkSocket socket) : socket_(std::move(socket)) {}
  Result<Link> QueryLink(NetlinkMessage message);
  NetlinkSocket socket_;
};

}  // namespace skiff::net
