// Characters as the formats here name them: ASCII, whatever the locale is.
#pragma once

namespace skiff::codec {

inline bool IsDigit(char c) { return c >= '0' && c <= '9'; }

}  // namespace skiff::codec
