// Quantities, times and durations: the canonical form of what was read reads as the same.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "proto/codec/quantity.h"
#include "proto/codec/time_format.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  if (auto quantity = skiff::codec::Quantity::Parse(text)) {
    std::string canonical = quantity->ToString();
    auto again = skiff::codec::Quantity::Parse(canonical);
    if (!again || *again != *quantity || again->ToString() != canonical) std::abort();
    static_cast<void>(quantity->Value());
    static_cast<void>(quantity->MilliValue());
  }
  if (auto time = skiff::codec::ParseTime(text)) {
    static_cast<void>(skiff::codec::FormatMicroTime(*time));
  }
  if (auto duration = skiff::codec::ParseDuration(text)) {
    static_cast<void>(skiff::codec::FormatDuration(*duration));
  }
  return 0;
}
