#include "cni/shaper.h"

#include <algorithm>
#include <cerrno>
#include <limits>

#include "base/net/traffic_control.h"

namespace skiff::cni {
namespace {

// A tenth of a second's worth may go at once and as much again wait: enough for TCP to reach the
// rate, little enough that it is held over every second. Never less than some packets.
constexpr uint64_t kBurstsPerSecond = 10;
constexpr uint64_t kFewestPackets = 16;
// At rates of gigabits, what is due between two ticks of the slowest kernel clock counts.
constexpr uint64_t kMostBytes = std::numeric_limits<uint32_t>::max() / 2;

net::TokenBucket BucketFor(uint64_t bits_per_second, uint32_t mtu) {
  net::TokenBucket bucket;
  bucket.bytes_per_second = std::max<uint64_t>(bits_per_second / 8, 1);
  uint64_t burst = std::clamp(bucket.bytes_per_second / kBurstsPerSecond,
                              kFewestPackets * uint64_t{mtu}, kMostBytes);
  bucket.burst_bytes = static_cast<uint32_t>(burst);
  bucket.limit_bytes = static_cast<uint32_t>(burst * 2);
  return bucket;
}

// The kernel says ENOENT for a queue, and EOPNOTSUPP for a link, of a kind that it does not know.
Result<> OrMissing(Result<> result, const char* what) {
  if (result.ok()) return result;
  int code = result.error().sys_errno();
  if (code != ENOENT && code != EOPNOTSUPP) return result;
  return Error(Code::kUnimplemented, std::string("the kernel has no ") + what +
                                         ", which limits of a pod's bandwidth need (" +
                                         result.error().message() + ")");
}

}  // namespace

std::string IfbOf(const std::string& host_interface) {
  return "ifb" + host_interface.substr(std::min<size_t>(4, host_interface.size()));
}

Result<> ShapePod(net::Rtnl& node, const Attachment& attachment, const Bandwidth& bandwidth,
                  const std::string& owner) {
  if (bandwidth.empty()) return {};
  int outside = TRY(node.LinkIndex(attachment.host_interface));
  if (bandwidth.ingress_bits > 0) {
    TRY(OrMissing(node.Apply(net::rtnl::LimitRate(
                      outside, BucketFor(bandwidth.ingress_bits, attachment.mtu))),
                  "token bucket (CONFIG_NET_SCH_TBF)"));
  }
  if (bandwidth.egress_bits == 0) return {};
  const std::string name = IfbOf(attachment.host_interface);
  TRY(node.DeleteLinkIfPresent(name));  // of an attachment that did not come about
  TRY(OrMissing(node.Apply(net::rtnl::CreateIfb(name, attachment.mtu)),
                "intermediate links (CONFIG_IFB)"));
  int through = TRY(node.LinkIndex(name));
  TRY(node.Apply(net::rtnl::SetAlias(through, owner)));
  TRY(OrMissing(
      node.Apply(net::rtnl::LimitRate(through, BucketFor(bandwidth.egress_bits, attachment.mtu))),
      "token bucket (CONFIG_NET_SCH_TBF)"));
  TRY(OrMissing(node.Apply(net::rtnl::AddIngress(outside)),
                "ingress queue (CONFIG_NET_SCH_INGRESS)"));
  return OrMissing(node.Apply(net::rtnl::RedirectIncoming(outside, through)),
                   "redirection (CONFIG_NET_CLS_U32, CONFIG_NET_ACT_MIRRED)");
}

Result<> RemoveShaping(net::Rtnl& node, const std::string& host_interface,
                       const Bandwidth& bandwidth) {
  if (bandwidth.egress_bits == 0) return {};
  return node.DeleteLinkIfPresent(IfbOf(host_interface));
}

}  // namespace skiff::cni
