#include "runtime/oci/log.h"

#include <algorithm>
#include <charconv>

namespace skiff::runtime {
namespace {

constexpr size_t kErrorTextLimitBytes = 4096;

// The text of a JSON string that begins at its first character, up to the closing quote.
std::string UnescapeJson(std::string_view rest) {
  std::string text;
  while (!rest.empty() && rest.front() != '"' && text.size() < kErrorTextLimitBytes) {
    const char c = rest.front();
    rest.remove_prefix(1);
    if (c != '\\' || rest.empty()) {
      text += c;
      continue;
    }
    const char escaped = rest.front();
    rest.remove_prefix(1);
    unsigned code = 0;
    switch (escaped) {
      case 'n':
      case 'r':
      case 't': text += ' '; break;
      case 'u': {
        const std::string_view digits = rest.substr(0, 4);
        std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
        rest.remove_prefix(digits.size());
        text += code < 0x80 && code >= 0x20 ? static_cast<char>(code) : '?';
        break;
      }
      default: text += escaped;
    }
  }
  return text;
}

// The string value of a member: `"msg":"text"`, with or without a space behind the colon.
std::string Member(std::string_view line, std::string_view name) {
  const std::string key = "\"" + std::string(name) + "\"";
  const size_t at = line.find(key);
  if (at == std::string_view::npos) return {};
  const size_t begin = line.find('"', at + key.size());
  if (begin == std::string_view::npos) return {};
  return UnescapeJson(line.substr(begin + 1));
}

}  // namespace

std::string LastLogMessage(std::string_view log) {
  std::string last;
  std::string last_error;
  while (!log.empty()) {
    const std::string_view line = log.substr(0, log.find('\n'));
    log.remove_prefix(std::min(log.size(), line.size() + 1));
    std::string message = Member(line, "msg");
    if (message.empty()) continue;
    if (Member(line, "level") == "error") last_error = message;
    last = std::move(message);
  }
  return last_error.empty() ? last : last_error;
}

}  // namespace skiff::runtime
