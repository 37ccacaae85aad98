// Base64 with padding (RFC 4648, section 4). Pure functions.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace skiff {

std::string Base64Encode(std::string_view bytes);
// InvalidArgument for anything but canonical padded base64: no blanks, no line breaks.
Result<std::string> Base64Decode(std::string_view text);

}  // namespace skiff
