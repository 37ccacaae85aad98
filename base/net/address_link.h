// A link that does nothing but carry addresses of this machine: a bridge without ports, which every
// kernel that runs pods has (not all have dummy links). What is on it is the record of what it is
// for, so whoever made it finds it again after a restart.
#pragma once

#include <string>
#include <vector>

#include "base/net/ip.h"
#include "base/net/rtnl.h"
#include "base/result.h"

namespace skiff::net {

// Makes the link, where it is missing, and gives it these addresses and no others. Returns those
// that it did not have.
Result<std::vector<IpAddress>> EnsureAddressLink(Rtnl& rtnl, const std::string& name,
                                                 const std::vector<IpAddress>& addresses);

}  // namespace skiff::net
