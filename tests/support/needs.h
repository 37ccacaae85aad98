// What a test needs of the machine, probed and named. A test whose needs are not met is skipped
// with the need's name; with NEEDS_STRICT=1 in the environment (CI) it fails instead.
//
//   SKIFF_NEEDS(Need::kRoot, Need::kIptables);   // first line of a TEST or SetUp
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>

namespace skiff::test {

enum class Need {
  kRoot,          // effective user 0 with CAP_SYS_ADMIN: may make namespaces
  kIptables,      // iptables and ip6tables with nat, in a fresh network namespace
  kNftables,      // nftables with nat, in a fresh network namespace
  kBrNetfilter,   // bridges can hand frames to iptables
  kIpv6,          // the kernel has IPv6
  kConntrack,     // connection tracking over netlink
  kSctp,          // the kernel has SCTP
  kShaping,       // token buckets and ifb links
  kWireguard,     // the kernel has WireGuard
  kLinkPrograms,  // BPF programs see links' packets (clsact, cls_bpf)
  kOverlayfs,
  kCgroupV2,    // a cgroup2 file system with controllers in it
  kCgroupV1,    // cgroup v1 hierarchies for memory, cpu and pids
  kCrun,        // the OCI runtime, and cgroups that it takes
  kCniPlugins,  // Debian's containernetworking-plugins
};

// Empty where the machine has it, otherwise why not. Probed once.
std::string Missing(Need need);
// The first of the needs that is not met, "iptables: ...", or empty.
std::string FirstMissing(std::initializer_list<Need> needs);
bool NeedsAreStrict();

}  // namespace skiff::test

#define SKIFF_NEEDS(...)                                                                      \
  do {                                                                                        \
    if (std::string missing = ::skiff::test::FirstMissing({__VA_ARGS__}); !missing.empty()) { \
      if (::skiff::test::NeedsAreStrict()) FAIL() << "needs " << missing;                     \
      GTEST_SKIP() << "needs " << missing;                                                    \
    }                                                                                         \
  } while (false)
