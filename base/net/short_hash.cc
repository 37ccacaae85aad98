#include "base/net/short_hash.h"

// The plain functions, which need none of the providers that EVP looks for: a program that is
// linked statically (cni/plugin) stays small and starts at once.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

#include "base/result.h"

namespace skiff::net {
namespace {

struct Digest {
  unsigned char bytes[32];
};

Digest Sha256(std::string_view text) {
  Digest digest;
  SHA256_CTX context;
  CHECK(SHA256_Init(&context) == 1 && SHA256_Update(&context, text.data(), text.size()) == 1 &&
        SHA256_Final(digest.bytes, &context) == 1);
  return digest;
}

// The first `count` groups of `bits` bits, each as its letter of the alphabet.
std::string Encode(const Digest& digest, size_t count, unsigned bits, const char* alphabet) {
  CHECK(count * bits <= sizeof digest.bytes * 8 + bits - 1);
  std::string text;
  unsigned held = 0, held_bits = 0;
  size_t next = 0;
  while (text.size() < count) {
    if (held_bits < bits) {
      held = (held << 8) | (next < sizeof digest.bytes ? digest.bytes[next++] : 0u);
      held_bits += 8;
    }
    held_bits -= bits;
    text += alphabet[(held >> held_bits) & ((1u << bits) - 1)];
  }
  return text;
}

}  // namespace

std::string ShortHashHex(std::string_view text, size_t digits) {
  return Encode(Sha256(text), digits, 4, "0123456789abcdef");
}

std::string ShortHashBase32(std::string_view text, size_t characters) {
  return Encode(Sha256(text), characters, 5, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567");
}

uint64_t ShortHash64(std::string_view text) {
  const Digest digest = Sha256(text);
  uint64_t hash = 0;
  for (size_t i = 0; i < sizeof hash; ++i) hash = hash << 8 | digest.bytes[i];
  return hash;
}

}  // namespace skiff::net
