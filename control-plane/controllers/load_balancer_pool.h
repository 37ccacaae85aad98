// The addresses that load balancers may get. A value.
#pragma once

#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "base/net/ip.h"
#include "base/result.h"

namespace skiff::cp {

class LoadBalancerPool {
 public:
  // Each "192.0.2.10-192.0.2.20", "2001:db8::/120" or a single address, of either family.
  // InvalidArgument names the one that is none.
  static Result<LoadBalancerPool> Make(const std::vector<std::string>& ranges);

  bool empty() const { return ranges_.empty(); }
  bool Contains(const net::IpAddress& address) const;
  // The first address of the family that is not taken, or nothing.
  std::optional<net::IpAddress> FindFree(
      net::IpFamily family, const std::function<bool(const net::IpAddress&)>& taken) const;

 private:
  struct Range {
    net::IpAddress first, last;
  };
  std::vector<Range> ranges_;
};

}  // namespace skiff::cp
