// For what is done once in each address family.
#pragma once

#include "base/net/ip.h"

namespace skiff::net {

inline constexpr IpFamily kIpFamilies[] = {IpFamily::kV4, IpFamily::kV6};

}  // namespace skiff::net
