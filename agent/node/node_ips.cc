#include "agent/node/node_ips.h"

#include <algorithm>

#include "base/net/families.h"

namespace skiff::agent {
namespace {

Result<FamilyAddresses> ReadFamily(net::IpFamily family) {
  net::Rtnl rtnl = TRY(net::Rtnl::Open());
  FamilyAddresses present;
  present.links = TRY(rtnl.ListLinks());
  present.addresses = TRY(rtnl.ListAddresses(family));
  if (auto route = rtnl.DefaultRoute(family); route.ok()) present.default_route = *route;
  return present;
}

bool LeadsOutside(const net::Link& link) {
  return link.up && link.name != "lo" && !link.name.starts_with("skiff");
}

}  // namespace

std::optional<net::IpAddress> ChooseNodeIp(const FamilyAddresses& present) {
  auto usable = [](const net::LinkAddress& address) {
    return address.stable && !address.address.is_loopback() && !address.address.is_link_local();
  };
  if (present.default_route) {
    for (const net::LinkAddress& address : present.addresses) {
      if (address.link == present.default_route->link && usable(address)) return address.address;
    }
  }
  for (const net::Link& link : present.links) {
    if (!LeadsOutside(link)) continue;
    for (const net::LinkAddress& address : present.addresses) {
      if (address.link == link.index && usable(address)) return address.address;
    }
  }
  return std::nullopt;
}

std::vector<std::string> FindNodeIps() {
  std::vector<std::string> ips;
  for (net::IpFamily family : net::kIpFamilies) {
    // A kernel without the family has no addresses of it.
    auto present = ReadFamily(family);
    auto address = present.ok() ? ChooseNodeIp(*present) : std::nullopt;
    if (address) ips.push_back(address->ToString());
  }
  if (ips.empty()) ips.emplace_back("127.0.0.1");
  return ips;
}

std::vector<std::string> OrderByFamily(std::vector<std::string> addresses, net::IpFamily primary) {
  std::ranges::stable_partition(addresses, [primary](const std::string& text) {
    auto address = net::IpAddress::Parse(text);
    return address.ok() && address->family() == primary;
  });
  return addresses;
}

}  // namespace skiff::agent
