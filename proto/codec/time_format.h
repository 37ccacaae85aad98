// RFC 3339 times and Go durations as text. Pure functions, any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace skiff::codec {

struct TimePoint {
  int64_t seconds = 0;  // since the epoch
  int32_t nanos = 0;
};

// "2006-01-02T15:04:05Z", or with microseconds. Times outside the years 0 to 9999 are clamped.
std::string FormatTime(int64_t seconds);
std::string FormatMicroTime(TimePoint time);
// Any offset, any fraction; nothing for text that is no RFC 3339 time.
std::optional<TimePoint> ParseTime(std::string_view text);

// "1h2m3.5s".
std::string FormatDuration(int64_t nanoseconds);
std::optional<int64_t> ParseDuration(std::string_view text);

}  // namespace skiff::codec
