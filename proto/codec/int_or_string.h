// IntOrString: a port by number or name, a count or a percentage. Pure functions, any thread.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace k8s::intstr {
class IntOrString;
}

namespace skiff::codec {

bool IsInt(const k8s::intstr::IntOrString& value);
void SetInt(k8s::intstr::IntOrString* value, int32_t number);
void SetText(k8s::intstr::IntOrString* value, std::string text);
// "80", "http", "25%".
std::string ToText(const k8s::intstr::IntOrString& value);

// A number as it is; a percentage of `total`, rounded as asked. InvalidArgument: other text.
Result<int32_t> ScaledValue(const k8s::intstr::IntOrString& value, int32_t total, bool round_up);

}  // namespace skiff::codec
