#include "control-plane/controllers/load_balancer_pool.h"

#include <algorithm>

namespace skiff::cp {

Result<LoadBalancerPool> LoadBalancerPool::Make(const std::vector<std::string>& ranges) {
  LoadBalancerPool pool;
  for (const std::string& text : ranges) {
    auto bad = [&text](const std::string& why) {
      return Error(Code::kInvalidArgument, "load balancer addresses \"" + text + "\": " + why);
    };
    if (text.find('/') != std::string::npos) {
      auto prefix = net::IpPrefix::Parse(text);
      if (!prefix.ok()) return bad(prefix.error().message());
      pool.ranges_.push_back({prefix->first(), prefix->last()});
      continue;
    }
    size_t dash = std::min(text.find('-'), text.size());
    auto first = net::IpAddress::Parse(std::string_view(text).substr(0, dash));
    auto last = dash == text.size()
                    ? first
                    : net::IpAddress::Parse(std::string_view(text).substr(dash + 1));
    if (!first.ok() || !last.ok()) return bad("want FIRST-LAST, a network or an address");
    if (first->family() != last->family()) return bad("the two are of different families");
    if (*last < *first) return bad("the last comes before the first");
    pool.ranges_.push_back({*first, *last});
  }
  return pool;
}

bool LoadBalancerPool::Contains(const net::IpAddress& address) const {
  return std::ranges::any_of(ranges_, [&address](const Range& range) {
    return range.first.family() == address.family() && range.first <= address &&
           address <= range.last;
  });
}

std::optional<net::IpAddress> LoadBalancerPool::FindFree(
    net::IpFamily family, const std::function<bool(const net::IpAddress&)>& taken) const {
  for (const Range& range : ranges_) {
    if (range.first.family() != family) continue;
    for (net::IpAddress address = range.first;; address = address.Plus(1)) {
      if (!taken(address)) return address;
      if (address == range.last) break;
    }
  }
  return std::nullopt;
}

}  // namespace skiff::cp
