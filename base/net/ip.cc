#include "base/net/ip.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>

namespace skiff::net {
namespace {

Error Malformed(std::string_view what, std::string_view text) {
  return Error(Code::kInvalidArgument,
               "\"" + std::string(text.substr(0, 64)) + "\" is not " + std::string(what));
}

// Clears the bits behind the first `length`.
void KeepBits(uint8_t* bytes, size_t size, int length) {
  for (size_t i = 0; i < size; ++i) {
    int keep = length - static_cast<int>(i) * 8;
    if (keep >= 8) continue;
    bytes[i] = keep <= 0 ? 0 : static_cast<uint8_t>(bytes[i] & (0xff << (8 - keep)));
  }
}

}  // namespace

std::string_view FamilyName(IpFamily family) { return family == IpFamily::kV4 ? "IPv4" : "IPv6"; }

Result<IpAddress> IpAddress::Parse(std::string_view text) {
  char buffer[INET6_ADDRSTRLEN];
  if (text.empty() || text.size() >= sizeof buffer || text.find('\0') != std::string_view::npos) {
    return Malformed("an IP address", text);
  }
  memcpy(buffer, text.data(), text.size());
  buffer[text.size()] = '\0';
  IpAddress address;
  address.family_ = text.find(':') == std::string_view::npos ? IpFamily::kV4 : IpFamily::kV6;
  // inet_pton refuses leading zeros and abbreviated IPv4.
  if (inet_pton(address.is_v4() ? AF_INET : AF_INET6, buffer, address.bytes_.data()) != 1) {
    return Malformed("an IP address", text);
  }
  return address;
}

IpAddress IpAddress::FromBytes(IpFamily family, const void* bytes) {
  IpAddress address;
  address.family_ = family;
  memcpy(address.bytes_.data(), bytes, address.size());
  return address;
}

IpAddress IpAddress::V4(uint8_t a, uint8_t b, uint8_t c, uint8_t d) {
  uint8_t bytes[4] = {a, b, c, d};
  return FromBytes(IpFamily::kV4, bytes);
}

bool IpAddress::is_loopback() const {
  if (is_v4()) return bytes_[0] == 127;
  static constexpr std::array<uint8_t, 16> kLoopback{0, 0, 0, 0, 0, 0, 0, 0,
                                                     0, 0, 0, 0, 0, 0, 0, 1};
  return bytes_ == kLoopback;
}

bool IpAddress::is_unspecified() const { return bytes_ == std::array<uint8_t, 16>{}; }

bool IpAddress::is_link_local() const {
  if (is_v4()) return bytes_[0] == 169 && bytes_[1] == 254;
  return bytes_[0] == 0xfe && (bytes_[1] & 0xc0) == 0x80;
}

IpAddress IpAddress::Plus(uint64_t offset) const {
  IpAddress sum = *this;
  for (size_t i = size(); i-- > 0 && offset != 0;) {
    uint64_t byte = sum.bytes_[i] + (offset & 0xff);
    sum.bytes_[i] = static_cast<uint8_t>(byte);
    offset = (offset >> 8) + (byte >> 8);
  }
  return sum;
}

uint64_t IpAddress::OffsetFrom(const IpAddress& start) const {
  CHECK(family_ == start.family_);
  unsigned __int128 mine = 0, other = 0;
  for (size_t i = 0; i < size(); ++i) {
    mine = (mine << 8) | bytes_[i];
    other = (other << 8) | start.bytes_[i];
  }
  unsigned __int128 offset = mine - other;
  return offset > std::numeric_limits<uint64_t>::max() ? std::numeric_limits<uint64_t>::max()
                                                       : static_cast<uint64_t>(offset);
}

std::string IpAddress::ToString() const {
  char buffer[INET6_ADDRSTRLEN];
  inet_ntop(is_v4() ? AF_INET : AF_INET6, bytes_.data(), buffer, sizeof buffer);
  return buffer;
}

std::string IpAddress::WithPort(uint16_t port) const {
  std::string text = ToString();
  return (is_v4() ? text : "[" + text + "]") + ":" + std::to_string(port);
}

Result<Endpoint> ParseEndpoint(std::string_view text, uint16_t default_port) {
  auto bad = [&] {
    return Error(Code::kInvalidArgument, "\"" + std::string(text) +
                                             "\" is no endpoint: want an IP address, or "
                                             "ADDRESS:PORT with an IPv6 address in []");
  };
  Endpoint endpoint{{}, default_port};
  std::string_view address = text, port;
  if (text.starts_with('[')) {
    size_t end = text.find(']');
    if (end == std::string_view::npos) return bad();
    address = text.substr(1, end - 1);
    port = text.substr(end + 1);
    if (!port.empty() && !port.starts_with(':')) return bad();
  } else if (std::count(text.begin(), text.end(), ':') == 1) {
    address = text.substr(0, text.find(':'));
    port = text.substr(text.find(':'));
  }
  auto parsed = IpAddress::Parse(address);
  if (!parsed.ok()) return bad();
  endpoint.address = *parsed;
  if (!port.empty()) {
    port.remove_prefix(1);
    auto [end, error] = std::from_chars(port.begin(), port.end(), endpoint.port);
    if (error != std::errc() || end != port.end() || endpoint.port == 0) return bad();
  }
  return endpoint;
}

Result<IpPrefix> IpPrefix::Parse(std::string_view text) {
  size_t slash = text.find('/');
  if (slash == std::string_view::npos) return Malformed("a CIDR (address/length)", text);
  auto address = IpAddress::Parse(text.substr(0, slash));
  std::string_view digits = text.substr(slash + 1);
  int length = -1;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
  if (!address.ok() || error != std::errc() || end != digits.data() + digits.size() || length < 0 ||
      length > address->bits() || (digits.size() > 1 && digits[0] == '0')) {
    return Malformed("a CIDR (address/length)", text);
  }
  IpPrefix prefix = Of(*address, length);
  if (prefix.first_ != *address) {
    return Error(Code::kInvalidArgument, "\"" + std::string(text) +
                                             "\" has bits set behind its length; the network is " +
                                             prefix.ToString());
  }
  return prefix;
}

IpPrefix IpPrefix::Of(const IpAddress& address, int length) {
  CHECK(length >= 0 && length <= address.bits());
  uint8_t bytes[16];
  memcpy(bytes, address.bytes(), address.size());
  KeepBits(bytes, address.size(), length);
  IpPrefix prefix;
  prefix.first_ = IpAddress::FromBytes(address.family(), bytes);
  prefix.length_ = length;
  return prefix;
}

IpAddress IpPrefix::last() const {
  uint8_t bytes[16];
  memcpy(bytes, first_.bytes(), first_.size());
  for (int bit = length_; bit < first_.bits(); ++bit) {
    bytes[bit / 8] = static_cast<uint8_t>(bytes[bit / 8] | (0x80 >> (bit % 8)));
  }
  return IpAddress::FromBytes(family(), bytes);
}

bool IpPrefix::Contains(const IpAddress& address) const {
  return address.family() == family() && Of(address, length_).first_ == first_;
}

bool IpPrefix::Contains(const IpPrefix& other) const {
  return other.length_ >= length_ && Contains(other.first_);
}

bool IpPrefix::Overlaps(const IpPrefix& other) const {
  return Contains(other) || other.Contains(*this);
}

uint64_t IpPrefix::size() const {
  int host_bits = first_.bits() - length_;
  return host_bits >= 64 ? std::numeric_limits<uint64_t>::max() : uint64_t{1} << host_bits;
}

IpAddress IpPrefix::At(uint64_t index) const {
  CHECK(index < size());
  return first_.Plus(index);
}

std::string IpPrefix::ToString() const { return first_.ToString() + "/" + std::to_string(length_); }

}  // namespace skiff::net
