// The dictionary that both ends prime the header compression with (SPDY/3.1, section 2.6.10.1).
#pragma once

#include <string>

namespace skiff::streaming {

// 1423 bytes; Adler-32 0xe3c6a7c2, which zlib streams primed with it begin with.
const std::string& SpdyDictionary();

}  // namespace skiff::streaming
