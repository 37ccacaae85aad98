// IpAddress and IpPrefix: what parses prints as something that parses to the same.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/net/ip.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using skiff::net::IpAddress;
  using skiff::net::IpPrefix;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  if (auto address = IpAddress::Parse(text); address.ok()) {
    CHECK(IpAddress::Parse(address->ToString()).value() == *address);
    CHECK(IpPrefix::Host(*address).Contains(*address));
  }
  if (auto prefix = IpPrefix::Parse(text); prefix.ok()) {
    CHECK(IpPrefix::Parse(prefix->ToString()).value() == *prefix);
    CHECK(prefix->Contains(prefix->last()));
    CHECK(prefix->At(prefix->size() - 1).family() == prefix->family());
  }
  return 0;
}
