#include "proto/codec/base64.h"

#include <algorithm>
#include <array>
#include <cstdint>

namespace skiff::codec {
namespace {

constexpr std::string_view kAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr std::array<int8_t, 256> MakeValues() {
  std::array<int8_t, 256> values{};
  values.fill(-1);
  for (size_t i = 0; i < kAlphabet.size(); ++i) {
    values[static_cast<unsigned char>(kAlphabet[i])] = static_cast<int8_t>(i);
  }
  return values;
}
constexpr std::array<int8_t, 256> kValues = MakeValues();

}  // namespace

std::string EncodeBase64(std::string_view bytes) {
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    size_t count = std::min<size_t>(3, bytes.size() - i);
    uint32_t group = 0;
    for (size_t k = 0; k < 3; ++k) {
      group = group << 8 | (k < count ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    }
    for (size_t k = 0; k < 4; ++k) {
      out.push_back(k <= count ? kAlphabet[group >> (18 - 6 * k) & 63] : '=');
    }
  }
  return out;
}

std::optional<std::string> DecodeBase64(std::string_view text, size_t* bad_at) {
  std::string out;
  out.reserve(text.size() / 4 * 3);
  uint32_t group = 0;
  size_t digits = 0;
  size_t padding = 0;
  auto fail = [bad_at](size_t at) {
    if (bad_at != nullptr) *bad_at = at;
    return std::nullopt;
  };
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '\r' || c == '\n') continue;
    if (c == '=') {
      if (digits < 2 || digits + ++padding > 4) return fail(i);
      continue;
    }
    int8_t value = kValues[static_cast<unsigned char>(c)];
    if (value < 0 || padding > 0) return fail(i);
    group = group << 6 | static_cast<uint32_t>(value);
    if (++digits < 4) continue;
    out.push_back(static_cast<char>(group >> 16 & 255));
    out.push_back(static_cast<char>(group >> 8 & 255));
    out.push_back(static_cast<char>(group & 255));
    group = 0;
    digits = 0;
  }
  if (digits == 0) return padding == 0 ? std::optional(std::move(out)) : fail(text.size());
  if (digits + padding != 4) return fail(text.size());
  if (digits == 2) {
    out.push_back(static_cast<char>(group >> 4 & 255));
  } else {
    out.push_back(static_cast<char>(group >> 10 & 255));
    out.push_back(static_cast<char>(group >> 2 & 255));
  }
  return out;
}

}  // namespace skiff::codec
