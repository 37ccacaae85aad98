// Short names made from hashes: of chains, interfaces. Not for secrets; collisions of what one node
// names are out of the question at these lengths.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace skiff::net {

// The first digits of the SHA-256 in hexadecimal; at most 64.
std::string ShortHashHex(std::string_view text, size_t digits);
// The first characters of the SHA-256 in base32 (RFC 4648, A-Z2-7); at most 52.
std::string ShortHashBase32(std::string_view text, size_t characters);

// The first eight bytes of the SHA-256.
uint64_t ShortHash64(std::string_view text);

}  // namespace skiff::net
