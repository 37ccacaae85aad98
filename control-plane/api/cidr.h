// CIDRs as users write them into objects. Pure functions, any thread.
#pragma once

#include <optional>
#include <string_view>

#include "base/net/ip.h"

namespace skiff::cp {

// "10.0.0.0/24", "fd00::/64". Unlike net::IpPrefix::Parse, host bits may be set ("10.0.0.1/24") and
// are dropped: upstream has always taken such values. Nothing for anything else.
std::optional<net::IpPrefix> ParseCidr(std::string_view text);

}  // namespace skiff::cp
