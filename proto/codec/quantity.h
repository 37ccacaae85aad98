// Quantities: the amounts of CPU, memory and counts in Kubernetes objects ("100m", "2Gi", "1e3").
//
// Exact fixed point in billionths, magnitude at most 2^63-1 as upstream: what is finer is rounded
// away from zero, what is larger is capped. A value type; any thread.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace k8s::resource {
class Quantity;
}

namespace skiff::codec {

class Quantity {
 public:
  // How the amount is written; an amount keeps the notation it was read in.
  enum class Format { kDecimalSi, kBinarySi, kDecimalExponent };

  Quantity() = default;
  static Quantity FromValue(int64_t value, Format format = Format::kDecimalSi);
  static Quantity FromMilliValue(int64_t milli, Format format = Format::kDecimalSi);

  // InvalidArgument in upstream's words ("quantities must match the regular expression ...").
  static Result<Quantity> Parse(std::string_view text);
  // The amount of a message; unset and malformed ones (validation refuses those) count as zero.
  static Quantity From(const k8s::resource::Quantity& message);

  // The canonical text: no fraction, the largest suffix that keeps the mantissa whole.
  std::string ToString() const;
  void WriteTo(k8s::resource::Quantity* message) const;

  // Rounded up (away from zero), capped to the type: bytes, counts.
  int64_t Value() const;
  // Rounded up, in thousandths: CPU.
  int64_t MilliValue() const;
  double AsDouble() const;
  // True if the amount is a whole number.
  bool IsWhole() const;
  bool IsZero() const { return nanos_ == 0; }
  bool IsNegative() const { return nanos_ < 0; }
  Format format() const { return format_; }

  Quantity& operator+=(const Quantity& other);
  Quantity& operator-=(const Quantity& other);
  // By amount; notation does not matter.
  friend std::strong_ordering operator<=>(const Quantity& a, const Quantity& b) {
    return a.nanos_ <=> b.nanos_;
  }
  friend bool operator==(const Quantity& a, const Quantity& b) { return a.nanos_ == b.nanos_; }

 private:
  using Nanos = __int128;
  Quantity(Nanos nanos, Format format) : nanos_(nanos), format_(format) {}

  Nanos nanos_ = 0;
  Format format_ = Format::kDecimalSi;
};

}  // namespace skiff::codec
