// Random identifiers and bytes from the kernel (getrandom(2)). Thread-safe.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace skiff {

std::string RandomBytes(size_t count);
// 2 * count hexadecimal digits: container and sandbox ids use 32.
std::string RandomHex(size_t count);
// A version 4 UUID (RFC 9562), as metadata.uid.
std::string RandomUuid();
// length characters, each drawn evenly from the alphabet.
std::string RandomString(size_t length, std::string_view alphabet);

}  // namespace skiff
