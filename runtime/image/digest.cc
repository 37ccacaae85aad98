#include "runtime/image/digest.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>

namespace skiff::runtime {
namespace {

size_t HexLength(std::string_view algorithm) {
  if (algorithm == "sha256") return 64;
  if (algorithm == "sha512") return 128;
  return 0;
}

bool IsLowerHex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }

}  // namespace

Result<Digest> Digest::Parse(std::string_view text) {
  const size_t colon = text.find(':');
  const size_t length = colon == std::string_view::npos ? 0 : HexLength(text.substr(0, colon));
  if (length == 0 || text.size() != colon + 1 + length ||
      !std::all_of(text.begin() + static_cast<ptrdiff_t>(colon) + 1, text.end(), IsLowerHex)) {
    return Error(Code::kInvalidArgument,
                 "not a digest: \"" + std::string(text.substr(0, 160)) + "\"");
  }
  return Digest(std::string(text));
}

Digest Digest::OfBytes(std::string_view bytes) {
  Hasher hasher;
  hasher.Update(bytes);
  return hasher.Finish();
}

std::string_view Digest::algorithm() const {
  return std::string_view(text_).substr(0, text_.find(':'));
}

std::string_view Digest::hex() const {
  const size_t colon = text_.find(':');
  return colon == std::string::npos ? std::string_view()
                                    : std::string_view(text_).substr(colon + 1);
}

struct Hasher::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  std::string algorithm;
  ~State() { EVP_MD_CTX_free(context); }
};

Hasher::Hasher(std::string_view algorithm) : state_(std::make_unique<State>()) {
  state_->algorithm = algorithm;
  const EVP_MD* digest = algorithm == "sha512" ? EVP_sha512() : EVP_sha256();
  CHECK(HexLength(algorithm) != 0 && state_->context != nullptr);
  CHECK(EVP_DigestInit_ex(state_->context, digest, nullptr) == 1);
}

Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;
Hasher::~Hasher() = default;

void Hasher::Update(std::string_view bytes) {
  CHECK(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) == 1);
}

Digest Hasher::Finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> sum{};
  unsigned int length = 0;
  CHECK(EVP_DigestFinal_ex(state_->context, sum.data(), &length) == 1);
  constexpr char kHex[] = "0123456789abcdef";
  std::string text = state_->algorithm + ":";
  text.reserve(text.size() + 2 * length);
  for (unsigned int i = 0; i < length; ++i) {
    text.push_back(kHex[sum[i] >> 4]);
    text.push_back(kHex[sum[i] & 15]);
  }
  return Digest(std::move(text));
}

}  // namespace skiff::runtime
