// Pod CIDRs of nodes: equal parts of the cluster's CIDR.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/net/ip.h"
#include "base/result.h"
#include "control-plane/controllers/framework/controller.h"

namespace skiff::cp {

// Hands out the parts of one network. A value.
class CidrAllocator {
 public:
  // kInvalidArgument for a malformed network, or parts that are not smaller than it. At most 2^16
  // parts are used.
  static Result<CidrAllocator> Make(std::string_view network, int part_bits);

  net::IpFamily family() const { return network_.family(); }
  // The first free part after the one handed out last, so that a part rests before it is used
  // again. kResourceExhausted when there is none.
  Result<std::string> Acquire();
  // Marks a part as used, or as free; what is no part of the network is ignored.
  void Occupy(std::string_view part);
  void Release(std::string_view part);

 private:
  CidrAllocator(net::IpPrefix network, int part_bits, uint32_t count)
      : network_(network), part_bits_(part_bits), count_(count) {}
  std::optional<uint32_t> IndexOf(std::string_view part) const;
  net::IpPrefix Part(uint32_t index) const;

  net::IpPrefix network_;
  int part_bits_;
  uint32_t count_;
  uint32_t next_ = 0;
  std::set<uint32_t> used_;
};

// Gives every node its spec.podCIDR and spec.podCIDRs, one part of each network. A node that has
// one of another family already gets the rest behind it: the family it had first stays its primary
// one.
std::shared_ptr<Controller> MakeNodeCidrController(Client& client, Executor& executor,
                                                   std::vector<CidrAllocator> allocators);

}  // namespace skiff::cp
