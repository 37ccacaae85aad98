#include "proto/codec/yaml_scalar.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <optional>

#include "proto/codec/ascii.h"
#include "proto/codec/json_reader.h"

namespace skiff::codec {
namespace {

struct Word {
  std::string_view text;
  std::string_view json;
};

constexpr std::array<Word, 27> kWords{{
    {"", "null"},     {"~", "null"},      {"null", "null"},   {"Null", "null"},   {"NULL", "null"},
    {"y", "true"},    {"Y", "true"},      {"yes", "true"},    {"Yes", "true"},    {"YES", "true"},
    {"true", "true"}, {"True", "true"},   {"TRUE", "true"},   {"on", "true"},     {"On", "true"},
    {"ON", "true"},   {"n", "false"},     {"N", "false"},     {"no", "false"},    {"No", "false"},
    {"NO", "false"},  {"false", "false"}, {"False", "false"}, {"FALSE", "false"}, {"off", "false"},
    {"Off", "false"}, {"OFF", "false"},
}};

// The integer syntax of Go's strconv with base 0: 0x, 0o, 0b and a plain 0 in front.
std::optional<std::string> AsInteger(std::string_view text) {
  bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  int base = 10;
  if (text.size() > 1 && text[0] == '0') {
    char kind = text[1];
    base = kind == 'x' || kind == 'X' ? 16 : kind == 'b' || kind == 'B' ? 2 : 8;
    bool marked = base != 8 || kind == 'o' || kind == 'O';
    text.remove_prefix(marked ? 2 : 1);
  }
  uint64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if (negative && value > uint64_t{1} << 63) return std::nullopt;
  return (negative && value != 0 ? "-" : "") + std::to_string(value);
}

// [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?
std::optional<std::string> AsFloat(std::string_view text) {
  size_t at = 0;
  auto digits = [&] {
    size_t start = at;
    while (at < text.size() && IsDigit(text[at])) ++at;
    return at - start;
  };
  if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
  size_t whole = digits();
  size_t fraction = 0;
  if (at < text.size() && text[at] == '.') {
    ++at;
    fraction = digits();
  }
  if (whole + fraction == 0) return std::nullopt;
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
    if (digits() == 0) return std::nullopt;
  }
  if (at != text.size()) return std::nullopt;
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || !std::isfinite(value)) return std::nullopt;
  std::array<char, 64> out;
  // As Go prints floats in JSON: whole numbers without a point.
  bool whole_number = value == std::trunc(value) && std::fabs(value) < 1e21;
  if (whole_number) {
    int length = std::snprintf(out.data(), out.size(), "%.0f", value == 0 ? 0.0 : value);
    return std::string(out.data(), static_cast<size_t>(length));
  }
  auto printed = std::to_chars(out.data(), out.data() + out.size(), value);
  return std::string(out.data(), printed.ptr);
}

}  // namespace

std::string PlainScalarToJson(std::string_view text) {
  for (const Word& word : kWords) {
    if (word.text == text) return std::string(word.json);
  }
  char first = text.front();
  if (IsDigit(first) || first == '-' || first == '+' || first == '.') {
    std::string plain(text);
    std::erase(plain, '_');
    if (auto integer = AsInteger(plain)) return *std::move(integer);
    if (auto number = AsFloat(plain)) return *std::move(number);
  }
  std::string quoted;
  AppendJsonString(text, &quoted);
  return quoted;
}

}  // namespace skiff::codec
