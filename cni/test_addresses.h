// Addresses in tests, from text that is known to be right.
#pragma once

#include <string_view>

#include "base/net/ip.h"

namespace skiff::cni {

inline net::IpAddress Address(std::string_view text) { return net::IpAddress::Parse(text).value(); }
inline net::IpPrefix Prefix(std::string_view text) { return net::IpPrefix::Parse(text).value(); }

}  // namespace skiff::cni
