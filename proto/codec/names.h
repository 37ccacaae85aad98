// The forms of label keys and values. Each function returns what is wrong with the text, in
// upstream's words, or an empty string. Pure functions, any thread.
#pragma once

#include <string>
#include <string_view>

namespace skiff::codec {

// "[prefix/]name": label and annotation keys, resource names.
std::string LabelKeyProblem(std::string_view text);
std::string LabelValueProblem(std::string_view text);

}  // namespace skiff::codec
