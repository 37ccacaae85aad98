// Base64 with padding (RFC 4648, section 4), as Go's encoding/json writes bytes. Pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace skiff::codec {

std::string EncodeBase64(std::string_view bytes);
// Nothing for malformed text; line breaks are skipped, as in Go. *bad_at (may be null) is the
// offset of the first character that is wrong.
std::optional<std::string> DecodeBase64(std::string_view text, size_t* bad_at = nullptr);

}  // namespace skiff::codec
