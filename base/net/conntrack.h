// Conntrack: the kernel's table of connections (ctnetlink), for taking out entries that outlived
// the rules they were made under. UDP needs this: an entry lives on as long as packets come,
// however its destination was translated when it began.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/net/ip.h"
#include "base/result.h"

namespace skiff::net {

// IP protocol numbers (RFC 5237).
inline constexpr uint8_t kProtocolTcp = 6;
inline constexpr uint8_t kProtocolUdp = 17;
inline constexpr uint8_t kProtocolSctp = 132;

struct FlowTuple {
  IpAddress source, destination;
  uint16_t source_port = 0, destination_port = 0;
  auto operator<=>(const FlowTuple&) const = default;
};

struct Flow {
  uint8_t protocol = 0;
  FlowTuple original;  // as the first packet came
  FlowTuple reply;     // as answers come: its source is where the packets really go
  uint16_t zone = 0;
  uint32_t id = 0;  // the kernel's, unique among live entries
  auto operator<=>(const Flow&) const = default;
  // "udp 10.0.0.1:53 -> 10.96.0.10:53 (10.244.0.5:53)".
  std::string ToString() const;
};

// Thread-safe.
class Conntrack {
 public:
  virtual ~Conntrack() = default;
  // The flows of one family and protocol that the predicate keeps; it sees each during the listing.
  virtual Result<std::vector<Flow>> List(IpFamily family, uint8_t protocol,
                                         const std::function<bool(const Flow&)>& keep) = 0;
  // Deletes exactly this entry (tuple, zone and id); one that is gone is a success.
  virtual Result<> Delete(const Flow& flow) = 0;
};

// The kernel's, in the network namespace of the calling thread.
class SystemConntrack : public Conntrack {
 public:
  Result<std::vector<Flow>> List(IpFamily family, uint8_t protocol,
                                 const std::function<bool(const Flow&)>& keep) override;
  Result<> Delete(const Flow& flow) override;
};

}  // namespace skiff::net
