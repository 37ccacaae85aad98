// IpAddress and IpPrefix: IPv4 and IPv6 addresses and networks as values.
//
// Plain values, comparable and hashable by their text; no I/O, no names, usable from any thread.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace skiff::net {

enum class IpFamily : uint8_t { kV4, kV6 };

// "IPv4" or "IPv6", as the Kubernetes API names them.
std::string_view FamilyName(IpFamily family);

class IpAddress {
 public:
  // 0.0.0.0
  IpAddress() = default;
  // Dotted quad (four decimal numbers, no leading zeros) or RFC 4291 text, without a zone.
  // InvalidArgument otherwise. An IPv4-mapped IPv6 address stays IPv6.
  static Result<IpAddress> Parse(std::string_view text);
  // From network byte order: 4 bytes for IPv4, 16 for IPv6.
  static IpAddress FromBytes(IpFamily family, const void* bytes);
  static IpAddress V4(uint8_t a, uint8_t b, uint8_t c, uint8_t d);

  IpFamily family() const { return family_; }
  bool is_v4() const { return family_ == IpFamily::kV4; }
  bool is_v6() const { return family_ == IpFamily::kV6; }
  // Network byte order; size() of them count.
  const uint8_t* bytes() const { return bytes_.data(); }
  size_t size() const { return is_v4() ? 4 : 16; }
  int bits() const { return is_v4() ? 32 : 128; }
  bool is_loopback() const;     // 127.0.0.0/8 or ::1
  bool is_unspecified() const;  // 0.0.0.0 or ::
  bool is_link_local() const;   // 169.254.0.0/16 or fe80::/10

  // The address that many further on; wraps around at the end of the family's space.
  IpAddress Plus(uint64_t offset) const;
  // How far this address is behind start, both of one family; saturates at 2^64-1.
  uint64_t OffsetFrom(const IpAddress& start) const;

  // The canonical text (RFC 5952 for IPv6).
  std::string ToString() const;
  // "10.0.0.1:80", "[fd00::1]:80".
  std::string WithPort(uint16_t port) const;

  auto operator<=>(const IpAddress&) const = default;

 private:
  IpFamily family_ = IpFamily::kV4;
  std::array<uint8_t, 16> bytes_{};
};

// An address with a port: "10.0.0.1:53", "[fd00::1]:53"; without a port, the default one.
struct Endpoint {
  IpAddress address;
  uint16_t port = 0;
  std::string ToString() const { return address.WithPort(port); }
  auto operator<=>(const Endpoint&) const = default;
};
// InvalidArgument says what is wrong with the text.
Result<Endpoint> ParseEndpoint(std::string_view text, uint16_t default_port);

class IpPrefix {
 public:
  // 0.0.0.0/0
  IpPrefix() = default;
  // "10.0.0.0/24", "fd00::/64". InvalidArgument for anything else, also for host bits that are set.
  static Result<IpPrefix> Parse(std::string_view text);
  // The network of that length that holds the address. CHECKs length against the family.
  static IpPrefix Of(const IpAddress& address, int length);
  // The network of just this address.
  static IpPrefix Host(const IpAddress& address) { return Of(address, address.bits()); }

  IpFamily family() const { return first_.family(); }
  const IpAddress& first() const { return first_; }
  IpAddress last() const;
  int length() const { return length_; }
  bool Contains(const IpAddress& address) const;
  bool Contains(const IpPrefix& other) const;
  bool Overlaps(const IpPrefix& other) const;
  // How many addresses it holds; saturates at 2^64-1.
  uint64_t size() const;
  // first() + index. CHECKs index < size().
  IpAddress At(uint64_t index) const;

  std::string ToString() const;
  auto operator<=>(const IpPrefix&) const = default;

 private:
  IpAddress first_;
  int length_ = 0;
};

}  // namespace skiff::net
