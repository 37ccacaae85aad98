// Settings in the commented configuration files of the daemons (flat "key: value" lines).
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace skiff::cli {

using Settings = std::vector<std::pair<std::string, std::string>>;

// Pure: the text with each top-level key set, in its own line if it has one (also a commented-out
// one), else at the end. Everything else stays as it is. Values are quoted as YAML strings.
std::string WithSettings(std::string_view text, const Settings& settings);
// The value of a top-level key that is not commented out; empty when it is not there.
std::string SettingOf(std::string_view text, std::string_view key);

// Changes the file in one step, mode 0600; one that is not there is begun.
Result<> WriteSettings(const std::string& path, const Settings& settings);

}  // namespace skiff::cli
