// Logging: one line an event, key=value, a constant message.
//
//   log::Info("container started", {{"pod", name}, {"container", id}});
//
// Error: someone must act. Warning: we went on, and the text says how. Info: a state changed.
// Debug: for developers; library code below the daemons logs at this level only. Values are quoted
// where they need it; secrets never get here. Thread-safe; lines go to standard error, which
// systemd hands to the journal.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace skiff::log {

enum class Level { kDebug, kInfo, kWarning, kError };

class Field {
 public:
  Field(std::string_view key, std::string_view value) : key_(key), value_(value) {}
  Field(std::string_view key, const std::string& value) : key_(key), value_(value) {}
  Field(std::string_view key, const char* value) : key_(key), value_(value) {}
  template <class T>
  requires(std::is_integral_v<T> && !std::is_same_v<T, bool>) Field(std::string_view key, T value)
      : key_(key), value_(std::to_string(value)) {}
  Field(std::string_view key, bool value) : key_(key), value_(value ? "true" : "false") {}
  Field(std::string_view key, const Error& error) : key_(key), value_(error.ToString()) {}

  std::string_view key() const { return key_; }
  const std::string& value() const { return value_; }

 private:
  std::string_view key_;
  std::string value_;
};
using Fields = std::initializer_list<Field>;

void Write(Level level, std::string_view message, Fields fields);
inline void Debug(std::string_view message, Fields fields = {}) {
  Write(Level::kDebug, message, fields);
}
inline void Info(std::string_view message, Fields fields = {}) {
  Write(Level::kInfo, message, fields);
}
inline void Warning(std::string_view message, Fields fields = {}) {
  Write(Level::kWarning, message, fields);
}
inline void Error(std::string_view message, Fields fields = {}) {
  Write(Level::kError, message, fields);
}

// Lines below the level are dropped; Info at the start.
void SetLevel(Level level);
// "debug", "info", "warning" or "error".
Result<Level> ParseLevel(std::string_view name);

}  // namespace skiff::log
