// Versions of the Container Network Interface (SPEC.md of containernetworking/cni, released as
// spec-v0.1.0 to spec-v1.1.0). Pure.
#pragma once

#include <compare>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace skiff::cni {

struct CniVersion {
  int major = 0, minor = 0, patch = 0;
  auto operator<=>(const CniVersion&) const = default;
};

inline constexpr CniVersion kCni010{0, 1, 0};  // results are "ip4" and "ip6"; no chains
inline constexpr CniVersion kCni020{0, 2, 0};  // the same
inline constexpr CniVersion kCni030{0, 3, 0};  // chains: "plugins", "prevResult"
inline constexpr CniVersion kCni031{0, 3, 1};
inline constexpr CniVersion kCni040{0, 4, 0};  // CHECK
inline constexpr CniVersion kCni100{1, 0, 0};  // "ips" without "version"
inline constexpr CniVersion kCni110{1, 1, 0};  // GC, STATUS; MTUs in results

// Every version that a runtime meets; ascending.
const std::vector<CniVersion>& AllCniVersions();

// "1.0.0". InvalidArgument for anything else.
Result<CniVersion> ParseCniVersion(std::string_view text);
std::string ToString(const CniVersion& version);

}  // namespace skiff::cni
