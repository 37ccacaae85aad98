// The environment a container's program finds. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace skiff::runtime {

// The entry "NAME=value" of that name; null where there is none.
const std::string* FindVariable(const std::vector<std::string>& env, std::string_view name);

// With what every program expects: PATH, HOME, and TERM where there is a terminal.
std::vector<std::string> FullEnvironment(std::vector<std::string> env, const std::string& home,
                                         bool terminal);

}  // namespace skiff::runtime
