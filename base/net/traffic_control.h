// Traffic control (tc(8)): how fast a link may send, and BPF programs that see its packets.
// Requests for Rtnl::Apply.
#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "base/net/netlink.h"
#include "base/net/rtnl.h"

namespace skiff::net {

// What leaves a link leaves at this rate; after a pause, so much at once; what would wait for more
// than `limit_bytes` before it is dropped.
struct TokenBucket {
  uint64_t bytes_per_second = 0;
  uint32_t burst_bytes = 0;
  uint32_t limit_bytes = 0;
};

namespace rtnl {
// The link's queue becomes a token bucket (tc-tbf(8)). ENOENT: the kernel has none.
NetlinkMessage LimitRate(int link, const TokenBucket& bucket);
// An intermediate link: what is redirected to it passes its queue and goes on as if it had just
// come in where it came from. Comes up.
NetlinkMessage CreateIfb(const std::string& name, uint32_t mtu);
// What a link says of itself, for whoever looks for it ("ip link"). Not on creation: the kernel
// overlooks it there.
NetlinkMessage SetAlias(int link, const std::string& alias);
// A place for filters on what comes in.
NetlinkMessage AddIngress(int link);
// All that comes in at `link`, which has such a place, passes `through` first.
NetlinkMessage RedirectIncoming(int link, int through);

// A place for programs on both ways (clsact); a link has this or AddIngress's. ENOENT: the kernel
// has none.
NetlinkMessage AddProgramPlace(int link);
// With the programs there. ENOENT or EINVAL where there is none.
NetlinkMessage DeleteProgramPlace(int link);
enum class Way : uint8_t { kIncoming, kOutgoing };
// The program (BPF_PROG_TYPE_SCHED_CLS) decides about every packet, in the place of the one that
// was put there before. ENOENT: the kernel does not run programs here (CONFIG_NET_CLS_BPF).
NetlinkMessage RunProgram(int link, Way way, int program, const std::string& name);
}  // namespace rtnl

// The links that have AddProgramPlace's place.
Result<std::set<int>> ListProgramPlaces(Rtnl& rtnl);

}  // namespace skiff::net
