#include "base/random.h"

#include <sys/random.h>

#include <cerrno>

#include "base/result.h"

namespace skiff {
namespace {

std::string ToHex(std::string_view bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size() * 2);
  for (unsigned char byte : bytes) {
    text.push_back(kDigits[byte >> 4]);
    text.push_back(kDigits[byte & 0xf]);
  }
  return text;
}

}  // namespace

std::string RandomBytes(size_t count) {
  std::string bytes(count, '\0');
  size_t filled = 0;
  while (filled < count) {
    ssize_t got = ::getrandom(bytes.data() + filled, count - filled, 0);
    if (got < 0 && errno == EINTR) continue;
    CHECK(got > 0);  // without flags the call only fails on a bad pointer
    filled += static_cast<size_t>(got);
  }
  return bytes;
}

std::string RandomHex(size_t count) { return ToHex(RandomBytes(count)); }

std::string RandomUuid() {
  std::string bytes = RandomBytes(16);
  bytes[6] = static_cast<char>((bytes[6] & 0x0f) | 0x40);
  bytes[8] = static_cast<char>((bytes[8] & 0x3f) | 0x80);
  std::string hex = ToHex(bytes);
  return hex.substr(0, 8) + "-" + hex.substr(8, 4) + "-" + hex.substr(12, 4) + "-" +
         hex.substr(16, 4) + "-" + hex.substr(20);
}

std::string RandomString(size_t length, std::string_view alphabet) {
  CHECK(!alphabet.empty() && alphabet.size() <= 256);
  // Bytes from this limit on would favour the first letters.
  size_t limit = 256 - 256 % alphabet.size();
  std::string text;
  while (text.size() < length) {
    for (unsigned char byte : RandomBytes(length - text.size())) {
      if (byte < limit) text.push_back(alphabet[byte % alphabet.size()]);
    }
  }
  return text;
}

}  // namespace skiff
