#include "control-plane/api/kinds/config_keys.h"

#include <algorithm>

namespace skiff::cp {

codec::Complaints CheckConfigKey(std::string_view key) {
  codec::Complaints complaints;
  if (key.size() > 253) complaints.push_back("must be no more than 253 characters");
  bool valid = !key.empty() && std::all_of(key.begin(), key.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  });
  if (!valid) {
    complaints.push_back(
        "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. "
        "'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is "
        "'[-._a-zA-Z0-9]+')");
  }
  if (key == ".") {
    complaints.push_back("must not be '.'");
  } else if (key == "..") {
    complaints.push_back("must not be '..'");
  } else if (key.starts_with("..")) {
    complaints.push_back("must not start with '..'");
  }
  return complaints;
}

codec::Complaints CheckEnvVarName(std::string_view name) {
  bool valid = !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return c >= ' ' && c <= '~' && c != '=';
  });
  if (valid) return {};
  return {
      "a valid environment variable name must consist only of printable ASCII characters other "
      "than '='"};
}

}  // namespace skiff::cp
