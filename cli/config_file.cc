#include "cli/config_file.h"

#include <algorithm>

#include "base/os/files.h"

namespace skiff::cli {

namespace {

constexpr size_t kMaxConfigBytes = 1 << 20;

std::string Quote(const std::string& value) {
  std::string text = "\"";
  for (char c : value) {
    if (c == '"' || c == '\\') text += '\\';
    text += c;
  }
  return text + '"';
}

// Whether the line sets the key: "key: ...", or "#key: ..." if that counts too.
bool Sets(std::string_view line, std::string_view key, bool commented) {
  if (commented && line.starts_with('#')) line.remove_prefix(1);
  return line.starts_with(key) && line.substr(key.size()).starts_with(':');
}

std::vector<std::string> Lines(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    size_t end = std::min(text.find('\n'), text.size());
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(text.size(), end + 1));
  }
  return lines;
}

}  // namespace

std::string WithSettings(std::string_view text, const Settings& settings) {
  std::vector<std::string> lines = Lines(text);
  for (const auto& [key, value] : settings) {
    std::string setting = key + ": " + Quote(value);
    std::string* place = nullptr;
    for (std::string& line : lines) {
      if (Sets(line, key, false)) {
        place = &line;
        break;
      }
      if (place == nullptr && Sets(line, key, true)) place = &line;
    }
    if (place != nullptr) {
      *place = std::move(setting);
    } else {
      lines.push_back(std::move(setting));
    }
  }
  std::string result;
  for (const std::string& line : lines) result += line + "\n";
  return result;
}

std::string SettingOf(std::string_view text, std::string_view key) {
  for (const std::string& line : Lines(text)) {
    if (!Sets(line, key, false)) continue;
    std::string_view value = std::string_view(line).substr(key.size() + 1);
    while (value.starts_with(' ')) value.remove_prefix(1);
    while (value.ends_with(' ')) value.remove_suffix(1);
    if (value.size() >= 2 && (value.front() == '"' || value.front() == '\'') &&
        value.back() == value.front()) {
      value = value.substr(1, value.size() - 2);
    }
    return std::string(value);
  }
  return {};
}

Result<> WriteSettings(const std::string& path, const Settings& settings) {
  Result<std::string> text = ReadFile(path, kMaxConfigBytes);
  if (!text.ok() && text.error().code() != Code::kNotFound) return std::move(text).error();
  std::string present = text.ok() ? std::move(*text) : std::string();
  if (size_t slash = path.rfind('/'); slash != std::string::npos && slash > 0) {
    TRY(MakeDirectories(path.substr(0, slash)));
  }
  // The token in it is a secret.
  return WriteFileAtomic(path, WithSettings(present, settings), Durability::kPower, 0600);
}

}  // namespace skiff::cli
