#include "base/net/announce.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>

#include "base/os/unique_fd.h"

namespace skiff::net {
namespace {

constexpr size_t kMacBytes = 6;
// RFC 826: Ethernet, IPv4, their address sizes, request.
constexpr char kArpHeader[] = {0, 1, 8, 0, 6, 4, 0, 1};
// RFC 4861, section 4.4: the Override flag; the receivers replace what they know.
constexpr uint8_t kOverride = 0x20;
constexpr uint8_t kTargetLinkAddress = 2;
constexpr int kNeighbourHops = 255;  // anything less came over a router and is ignored

std::optional<std::string> ParseMac(std::string_view text) {
  std::string bytes;
  for (size_t i = 0; i < kMacBytes; ++i) {
    if (text.size() != 17 || (i > 0 && text[3 * i - 1] != ':')) return std::nullopt;
    uint8_t byte = 0;
    auto [end, status] = std::from_chars(text.data() + 3 * i, text.data() + 3 * i + 2, byte, 16);
    if (status != std::errc() || end != text.data() + 3 * i + 2) return std::nullopt;
    bytes.push_back(static_cast<char>(byte));
  }
  return bytes;
}

std::string BytesOf(const IpAddress& address) {
  return {reinterpret_cast<const char*>(address.bytes()), address.size()};
}

Result<> SendArp(int link, const std::string& message) {
  UniqueFd fd(::socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return Error::Sys(errno, "socket", "packet");
  sockaddr_ll to{};
  to.sll_family = AF_PACKET;
  to.sll_protocol = htons(ETHERTYPE_ARP);
  to.sll_ifindex = link;
  to.sll_halen = kMacBytes;
  memset(to.sll_addr, 0xff, kMacBytes);
  if (::sendto(fd.get(), message.data(), message.size(), 0, reinterpret_cast<sockaddr*>(&to),
               sizeof to) < 0) {
    return Error::Sys(errno, "send", "ARP");
  }
  return {};
}

Result<> SendAdvertisement(int link, const std::string& message) {
  UniqueFd fd(::socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMPV6));
  if (!fd.valid()) return Error::Sys(errno, "socket", "ICMPv6");
  if (::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &kNeighbourHops,
                   sizeof kNeighbourHops) != 0 ||
      ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_MULTICAST_IF, &link, sizeof link) != 0) {
    return Error::Sys(errno, "setsockopt", "ICMPv6");
  }
  sockaddr_in6 to{};
  to.sin6_family = AF_INET6;
  to.sin6_scope_id = static_cast<uint32_t>(link);
  ::inet_pton(AF_INET6, "ff02::1", &to.sin6_addr);  // all nodes of the link
  if (::sendto(fd.get(), message.data(), message.size(), 0, reinterpret_cast<sockaddr*>(&to),
               sizeof to) < 0) {
    return Error::Sys(errno, "send", "neighbour advertisement");
  }
  return {};
}

}  // namespace

Result<std::string> BuildAnnouncement(const std::string& mac, const IpAddress& address) {
  auto link_address = ParseMac(mac);
  if (!link_address) return Error(Code::kInvalidArgument, "\"" + mac + "\" is no MAC address");
  if (address.is_v4()) {
    // Sender and target are the address itself; nobody is asked.
    return std::string(kArpHeader, sizeof kArpHeader) + *link_address + BytesOf(address) +
           std::string(kMacBytes, '\0') + BytesOf(address);
  }
  // The kernel fills in the checksum.
  std::string message{static_cast<char>(ND_NEIGHBOR_ADVERT), 0, 0, 0, kOverride, 0, 0, 0};
  return message + BytesOf(address) + static_cast<char>(kTargetLinkAddress) + '\1' + *link_address;
}

Result<> AnnounceAddress(int link, const std::string& mac, const IpAddress& address) {
  std::string message = TRY(BuildAnnouncement(mac, address));
  auto sent = address.is_v4() ? SendArp(link, message) : SendAdvertisement(link, message);
  return std::move(sent).With("announce " + address.ToString());
}

}  // namespace skiff::net
