#include "control-plane/api/cidr.h"

#include <charconv>

namespace skiff::cp {

std::optional<net::IpPrefix> ParseCidr(std::string_view text) {
  size_t slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  auto address = net::IpAddress::Parse(text.substr(0, slash));
  if (!address.ok()) return std::nullopt;
  std::string_view digits = text.substr(slash + 1);
  int length = 0;
  auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
  bool whole = failure == std::errc() && end == digits.data() + digits.size();
  // "+1", "01": no numbers of a prefix.
  bool plain = digits == "0" || (!digits.empty() && digits[0] >= '1' && digits[0] <= '9');
  if (!whole || !plain || length > address->bits()) return std::nullopt;
  return net::IpPrefix::Of(*address, length);
}

}  // namespace skiff::cp
