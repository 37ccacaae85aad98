#include "proto/codec/int_or_string.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "proto/k8s/intstr/int_or_string.pb.h"

namespace skiff::codec {

using k8s::intstr::IntOrString;

namespace {
constexpr int64_t kTypeInt = 0;
constexpr int64_t kTypeString = 1;
}  // namespace

bool IsInt(const IntOrString& value) { return value.type() == kTypeInt; }

void SetInt(IntOrString* value, int32_t number) {
  value->set_type(kTypeInt);
  value->set_int_val(number);
  value->set_str_val("");
}

void SetText(IntOrString* value, std::string text) {
  value->set_type(kTypeString);
  value->set_int_val(0);
  value->set_str_val(std::move(text));
}

std::string ToText(const IntOrString& value) {
  return IsInt(value) ? std::to_string(value.int_val()) : value.str_val();
}

Result<int32_t> ScaledValue(const IntOrString& value, int32_t total, bool round_up) {
  if (IsInt(value)) return value.int_val();
  const std::string& text = value.str_val();
  int64_t percent = 0;
  const char* end = text.data() + text.size();
  auto [rest, error] = std::from_chars(text.data(), end, percent);
  if (error != std::errc() || rest + 1 != end || *rest != '%' || percent > 1'000'000 ||
      percent < -1'000'000) {
    return Error(Code::kInvalidArgument,
                 "invalid value for IntOrString: invalid type: string is not a percentage");
  }
  int64_t product = percent * total;
  int64_t scaled = product / 100;
  if (round_up && product > 0 && product % 100 != 0) ++scaled;
  if (!round_up && product < 0 && product % 100 != 0) --scaled;
  constexpr int64_t kMax = std::numeric_limits<int32_t>::max();
  return static_cast<int32_t>(std::clamp(scaled, -kMax, kMax));
}

}  // namespace skiff::codec
