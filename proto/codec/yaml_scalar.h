// What an unquoted YAML scalar means. Pure function, any thread.
#pragma once

#include <string>
#include <string_view>

namespace skiff::codec {

// As JSON text, by the YAML 1.1 rules that kubectl users know (the resolver of go-yaml 2): yes and
// on are true, 0x1F, 0o17, 017 and 1_000 are integers, ~ is null, times are strings.
std::string PlainScalarToJson(std::string_view text);

}  // namespace skiff::codec
