#include "proto/codec/quantity.h"

#include <algorithm>
#include <array>
#include <limits>

#include "proto/codec/ascii.h"
#include "proto/k8s/resource/quantity.pb.h"

namespace skiff::codec {
namespace {

using Format = Quantity::Format;
using Wide = __int128;

constexpr Wide kNano = 1'000'000'000;
constexpr Wide kMaxNanos = Wide{std::numeric_limits<int64_t>::max()} * kNano;
constexpr size_t kMaxText = 256;  // far beyond any amount that is not capped or rounded

Error FormatWrong() {
  return Error(Code::kInvalidArgument,
               "quantities must match the regular expression "
               "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'");
}

Error SuffixWrong() { return Error(Code::kInvalidArgument, "unable to parse quantity's suffix"); }

struct Suffix {
  int base;  // 10 or 2
  int exponent;
  Format format;
};

struct NamedSuffix {
  std::string_view text;
  Suffix suffix;
};

constexpr std::array<NamedSuffix, 16> kSuffixes{{
    {"", {10, 0, Format::kDecimalSi}},
    {"n", {10, -9, Format::kDecimalSi}},
    {"u", {10, -6, Format::kDecimalSi}},
    {"m", {10, -3, Format::kDecimalSi}},
    {"k", {10, 3, Format::kDecimalSi}},
    {"M", {10, 6, Format::kDecimalSi}},
    {"G", {10, 9, Format::kDecimalSi}},
    {"T", {10, 12, Format::kDecimalSi}},
    {"P", {10, 15, Format::kDecimalSi}},
    {"E", {10, 18, Format::kDecimalSi}},
    {"Ki", {2, 10, Format::kBinarySi}},
    {"Mi", {2, 20, Format::kBinarySi}},
    {"Gi", {2, 30, Format::kBinarySi}},
    {"Ti", {2, 40, Format::kBinarySi}},
    {"Pi", {2, 50, Format::kBinarySi}},
    {"Ei", {2, 60, Format::kBinarySi}},
}};

Result<Suffix> ParseExponent(std::string_view text) {
  bool negative = false;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  if (text.empty() || !std::all_of(text.begin(), text.end(), IsDigit)) return SuffixWrong();
  int value = 0;
  // Beyond 1000 every amount is zero or capped.
  for (char c : text) value = std::min(value * 10 + (c - '0'), 1000);
  return Suffix{10, negative ? -value : value, Format::kDecimalExponent};
}

Result<Suffix> ParseSuffix(std::string_view text) {
  for (const NamedSuffix& named : kSuffixes) {
    if (named.text == text) return named.suffix;
  }
  if (text.size() > 1 && (text[0] == 'e' || text[0] == 'E')) return ParseExponent(text.substr(1));
  return SuffixWrong();
}

// An upper bound for intermediate values: capped amounts stay above kMaxNanos, exact ones below.
constexpr Wide kHuge = Wide{1} << 120;

Wide MultiplyCapped(Wide value, Wide factor) {
  if (value > kHuge / factor) return kHuge;
  return value * factor;
}

// digits * 10^exponent, rounded up to a whole number, or kHuge.
Wide ScaleDecimal(Wide digits, int exponent) {
  for (; exponent > 0 && digits != 0 && digits < kHuge; --exponent) {
    digits = MultiplyCapped(digits, 10);
  }
  for (bool inexact = false; exponent < 0; ++exponent) {
    if (digits == 0) return inexact ? 1 : 0;
    inexact = inexact || digits % 10 != 0;
    digits /= 10;
    if (exponent == -1 && inexact) ++digits;
  }
  return digits;
}

struct Number {
  Wide digits = 0;   // all digits, the point left out
  int exponent = 0;  // of ten
};

// Digits with at most one point. What exceeds 30 digits only moves the exponent: such an amount is
// capped or rounded anyway.
Result<Number> ParseNumber(std::string_view text) {
  Number number;
  bool point = false;
  bool any = false;
  bool lost = false;
  for (char c : text) {
    if (c == '.') {
      if (point) return FormatWrong();
      point = true;
      continue;
    }
    any = true;
    if (number.digits >= Wide{1'000'000'000'000'000} * 1'000'000'000'000'000) {
      lost = lost || c != '0';
      if (!point) ++number.exponent;
      continue;
    }
    number.digits = number.digits * 10 + (c - '0');
    if (point) --number.exponent;
  }
  if (!any) return FormatWrong();
  if (lost) ++number.digits;
  return number;
}

std::string WideToString(Wide value) {
  if (value == 0) return "0";
  bool negative = value < 0;
  std::string text;
  for (Wide rest = negative ? -value : value; rest != 0; rest /= 10) {
    text.push_back(static_cast<char>('0' + static_cast<int>(rest % 10)));
  }
  if (negative) text.push_back('-');
  std::reverse(text.begin(), text.end());
  return text;
}

Wide Clamp(Wide nanos) { return std::clamp(nanos, -kMaxNanos, kMaxNanos); }

// nanos / unit, rounded away from zero, capped to int64.
int64_t DivideUp(Wide nanos, Wide unit) {
  Wide quotient = nanos / unit;
  if (nanos % unit != 0) quotient += nanos < 0 ? -1 : 1;
  constexpr Wide kMax = std::numeric_limits<int64_t>::max();
  return static_cast<int64_t>(std::clamp(quotient, -kMax, kMax));
}

std::string BinaryText(Wide nanos) {
  static constexpr std::array<std::string_view, 7> kUnits{"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};
  Wide value = nanos / kNano;
  size_t unit = 0;
  for (; value % 1024 == 0 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  return WideToString(value).append(kUnits[unit]);
}

std::string DecimalText(Wide nanos, Format format) {
  static constexpr std::array<std::string_view, 10> kUnits{"n", "u", "m", "",  "k",
                                                           "M", "G", "T", "P", "E"};
  size_t unit = 0;
  for (; nanos % 1000 == 0 && unit + 1 < kUnits.size(); ++unit) nanos /= 1000;
  if (format == Format::kDecimalSi) return WideToString(nanos).append(kUnits[unit]);
  int exponent = static_cast<int>(unit) * 3 - 9;
  std::string text = WideToString(nanos);
  return exponent == 0 ? text : text + "e" + std::to_string(exponent);
}

}  // namespace

Quantity Quantity::FromValue(int64_t value, Format format) {
  return Quantity(Clamp(Wide{value} * kNano), format);
}

Quantity Quantity::FromMilliValue(int64_t milli, Format format) {
  return Quantity(Wide{milli} * (kNano / 1000), format);
}

Result<Quantity> Quantity::Parse(std::string_view text) {
  if (text.empty() || text.size() > kMaxText) return FormatWrong();
  bool negative = text[0] == '-';
  if (negative || text[0] == '+') text.remove_prefix(1);
  size_t end = text.find_first_not_of("0123456789.");
  Number number = TRY(ParseNumber(text.substr(0, end)));
  std::string_view rest = end == std::string_view::npos ? "" : text.substr(end);
  if (rest.find_first_not_of("eEinumkKMGTP+-0123456789") != std::string_view::npos) {
    return FormatWrong();
  }
  Suffix suffix = TRY(ParseSuffix(rest));
  if (suffix.base == 2) {
    number.digits = MultiplyCapped(number.digits, Wide{1} << suffix.exponent);
  } else {
    number.exponent += suffix.exponent;
  }
  Wide nanos = std::min(ScaleDecimal(number.digits, number.exponent + 9), kMaxNanos);
  return Quantity(negative ? -nanos : nanos, suffix.format);
}

Quantity Quantity::From(const k8s::resource::Quantity& message) {
  return Parse(message.string()).value_or(Quantity());
}

std::string Quantity::ToString() const {
  if (nanos_ == 0) return "0";
  // A binary amount that is small or has a fraction is written in decimal, to stay exact.
  bool large = nanos_ >= 1024 * kNano || nanos_ <= -1024 * kNano;
  if (format_ == Format::kBinarySi && large && IsWhole()) return BinaryText(nanos_);
  return DecimalText(nanos_, format_ == Format::kBinarySi ? Format::kDecimalSi : format_);
}

void Quantity::WriteTo(k8s::resource::Quantity* message) const { message->set_string(ToString()); }

int64_t Quantity::Value() const { return DivideUp(nanos_, kNano); }
int64_t Quantity::MilliValue() const { return DivideUp(nanos_, kNano / 1000); }
double Quantity::AsDouble() const {
  return static_cast<double>(nanos_) / static_cast<double>(kNano);
}
bool Quantity::IsWhole() const { return nanos_ % kNano == 0; }

Quantity& Quantity::operator+=(const Quantity& other) {
  if (nanos_ == 0) format_ = other.format_;
  nanos_ = Clamp(nanos_ + other.nanos_);
  return *this;
}

Quantity& Quantity::operator-=(const Quantity& other) {
  if (nanos_ == 0) format_ = other.format_;
  nanos_ = Clamp(nanos_ - other.nanos_);
  return *this;
}

}  // namespace skiff::codec
