// Seccomp profiles: from Docker's and OCI's JSON, or the default one, to the filter that init
// loads. The daemon compiles, so the small programs need no libseccomp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "runtime/spec.h"

namespace skiff::runtime {

// As SCMP_ACT_* of libseccomp, with ERRNO's number.
struct SeccompAction {
  uint32_t value = 0;
  bool operator==(const SeccompAction&) const = default;
};

struct SeccompArgument {
  uint32_t index = 0;
  int compare = 0;  // SCMP_CMP_*
  uint64_t value = 0;
  uint64_t value_two = 0;  // with SCMP_CMP_MASKED_EQ: value is the mask, this the datum
};

struct SeccompRule {
  std::vector<std::string> names;
  SeccompAction action;
  std::vector<SeccompArgument> arguments;  // all must hold; two on one index: either
};

struct SeccompProfile {
  SeccompAction default_action;
  std::vector<uint32_t> architectures;  // SCMP_ARCH_*, besides the machine's own
  std::vector<SeccompRule> rules;
};

// Rules that hold for other capabilities or machines than these are left out. Pure.
Result<SeccompProfile> ParseSeccompProfile(std::string_view json, uint64_t capabilities);
SeccompProfile DefaultSeccompProfile(uint64_t capabilities);

// struct sock_filter[] as bytes. System calls that the profile's author could not know fail with
// ENOSYS, not EPERM, so that the C library falls back to older ones.
Result<std::string> CompileSeccompFilter(const SeccompProfile& profile);

// What a container with this spec and these effective capabilities gets; empty: no filter.
// Compiled filters are kept; thread-safe.
Result<std::string> SeccompFilterFor(const SeccompSpec& spec, uint64_t capabilities);

// The profile as JSON for an OCI runtime, which compiles it itself. Pure.
std::string RenderSeccompProfile(const SeccompProfile& profile);
// As SeccompFilterFor; empty: no filter.
Result<std::string> OciSeccompFor(const SeccompSpec& spec, uint64_t capabilities);

}  // namespace skiff::runtime
