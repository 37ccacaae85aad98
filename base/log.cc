#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

namespace skiff::log {
namespace {

spdlog::logger& Logger() {
  // Never destroyed: threads may log while the process exits.
  static spdlog::logger* logger = [] {
    auto* made = new spdlog::logger("skiff", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%fZ %^%l%$ %v", spdlog::pattern_time_type::utc);
    made->set_level(spdlog::level::info);
    made->flush_on(spdlog::level::trace);
    return made;
  }();
  return *logger;
}

spdlog::level::level_enum ToSpdlog(Level level) {
  switch (level) {
    case Level::kDebug: return spdlog::level::debug;
    case Level::kInfo: return spdlog::level::info;
    case Level::kWarning: return spdlog::level::warn;
    case Level::kError: return spdlog::level::err;
  }
  return spdlog::level::err;
}

bool NeedsQuotes(std::string_view value) {
  if (value.empty()) return true;
  for (char c : value) {
    if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c == 0x7f) return true;
  }
  return false;
}

void AppendQuoted(std::string& line, std::string_view value) {
  line.push_back('"');
  for (char c : value) {
    if (c == '"' || c == '\\') {
      line.push_back('\\');
      line.push_back(c);
    } else if (c == '\n') {
      line.append("\\n");
    } else if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) {
      static constexpr char kHex[] = "0123456789abcdef";
      line.append("\\x");
      line.push_back(kHex[(c >> 4) & 0xf]);
      line.push_back(kHex[c & 0xf]);
    } else {
      line.push_back(c);
    }
  }
  line.push_back('"');
}

}  // namespace

void Write(Level level, std::string_view message, Fields fields) {
  spdlog::level::level_enum at = ToSpdlog(level);
  if (!Logger().should_log(at)) return;
  std::string line(message);
  for (const Field& field : fields) {
    line.append(" ").append(field.key()).append("=");
    if (NeedsQuotes(field.value())) {
      AppendQuoted(line, field.value());
    } else {
      line.append(field.value());
    }
  }
  Logger().log(at, spdlog::string_view_t(line.data(), line.size()));
}

void SetLevel(Level level) { Logger().set_level(ToSpdlog(level)); }

Result<Level> ParseLevel(std::string_view name) {
  if (name == "debug") return Level::kDebug;
  if (name == "info") return Level::kInfo;
  if (name == "warning") return Level::kWarning;
  if (name == "error") return Level::kError;
  return skiff::Error(Code::kInvalidArgument,
                      "log level \"" + std::string(name) + "\": use debug, info, warning or error");
}

}  // namespace skiff::log
