// Capabilities (capabilities(7)): by name, and those of this process.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace skiff::runtime {

// The number of "CAP_NET_ADMIN", "NET_ADMIN" or "net_admin". InvalidArgument for unknown names.
Result<int> CapabilityNumber(std::string_view name);
// "CAP_NET_ADMIN"; empty for a number without a name here.
std::string CapabilityName(int number);
constexpr uint64_t CapabilityBit(int number) { return uint64_t{1} << number; }
// All that this kernel knows.
uint64_t AllCapabilities();
// What containers get unless they say otherwise: the 14 of Docker and containerd.
uint64_t DefaultCapabilities();

// Whether this process has the capability, effectively.
bool HasCapability(int number);
// Drops all but `keep` from what this process and its children can ever have (PR_CAPBSET_DROP).
Result<> LimitCapabilities(uint64_t keep);

}  // namespace skiff::runtime
