// Which of its addresses a node is known by.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/net/ip.h"
#include "base/net/rtnl.h"

namespace skiff::agent {

// The addresses other machines reach this one by: of each family one, of the interface with the
// default route, or else of the first one that is up and not made by us. Loopback when there is
// none.
std::vector<std::string> FindNodeIps();

// What decides in one family. Pure.
struct FamilyAddresses {
  std::vector<net::Link> links;
  std::vector<net::LinkAddress> addresses;
  std::optional<net::Route> default_route;
};
std::optional<net::IpAddress> ChooseNodeIp(const FamilyAddresses& present);

// The same addresses, those of the cluster's primary family first, as pods have them.
std::vector<std::string> OrderByFamily(std::vector<std::string> addresses, net::IpFamily primary);

}  // namespace skiff::agent
