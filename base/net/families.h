// For what is there once in each address family: loops, and the networks of a cluster.
#pragma once

#include <string>
#include <vector>

#include "base/net/ip.h"
#include "base/result.h"

namespace skiff::net {

inline constexpr IpFamily kIpFamilies[] = {IpFamily::kV4, IpFamily::kV6};

constexpr IpFamily OtherFamily(IpFamily family) {
  return family == IpFamily::kV4 ? IpFamily::kV6 : IpFamily::kV4;
}

// One network, or one of each family; the first one's family is the primary one. InvalidArgument:
// none, a text that is no network, a second one of a family.
Result<std::vector<IpPrefix>> ParseNetworks(const std::vector<std::string>& texts);

// The first value of that family; null: there is none. Of addresses and networks.
template <class T>
const T* FirstOfFamily(const std::vector<T>& values, IpFamily family) {
  for (const T& value : values) {
    if (value.family() == family) return &value;
  }
  return nullptr;
}

}  // namespace skiff::net
