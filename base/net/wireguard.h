// WireGuard devices: their keys, and what they are told and say by generic netlink
// (linux/wireguard.h).
//
// A device is made by rtnetlink (rtnl::CreateWireguard), which also loads the kernel's module. Keys
// are 32 bytes, in text base64 as wg(8) has them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/net/ip.h"
#include "base/net/netlink.h"
#include "base/result.h"

namespace skiff::net {

// A private key: random bits, clamped (RFC 7748, section 5).
std::string MakeWireguardKey();
// InvalidArgument: the text is no key.
Result<std::string> WireguardPublicKey(std::string_view private_key);
Result<> CheckWireguardKey(std::string_view key);

struct WireguardPeer {
  std::string public_key;
  std::optional<Endpoint> endpoint;
  std::vector<IpPrefix> allowed_ips;  // sorted
  bool operator==(const WireguardPeer&) const = default;
};

struct WireguardDevice {
  std::string private_key;  // empty: none yet
  uint16_t listen_port = 0;
  std::vector<WireguardPeer> peers;  // sorted by key
  bool operator==(const WireguardDevice&) const = default;
};

// The messages that make a device what is wanted; the sessions of peers that stay are kept. Pure,
// but for the family number that the kernel gave. Empty: nothing is to be done.
std::vector<NetlinkMessage> PlanWireguard(int family, const std::string& name,
                                          const WireguardDevice& present,
                                          const WireguardDevice& wanted);

// Of the network namespace it was opened in. One user at a time.
class Wireguard {
 public:
  // Unimplemented: the kernel has no WireGuard.
  static Result<Wireguard> Open();

  // NotFound or Unimplemented: there is no such device.
  Result<WireguardDevice> Get(const std::string& name);
  // Brings the device to what is wanted, which has a private key and valid ones throughout.
  Result<> Set(const std::string& name, const WireguardDevice& wanted);

 private:
  Wireguard(NetlinkSocket socket, int family) : socket_(std::move(socket)), family_(family) {}
  NetlinkSocket socket_;
  int family_;
};

}  // namespace skiff::net
