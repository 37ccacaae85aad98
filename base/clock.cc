#include "base/clock.h"

#include <charconv>
#include <cstdio>
#include <ctime>

namespace skiff {
namespace {

class RealClock : public Clock {
 public:
  SteadyTime Now() const override { return std::chrono::steady_clock::now(); }
  WallTime WallNow() const override { return std::chrono::system_clock::now(); }
};

// digits: how many of the nine digits of nanoseconds are printed.
std::string Format(WallTime time, int digits) {
  auto since_epoch = std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch());
  auto seconds = std::chrono::floor<std::chrono::seconds>(since_epoch);
  auto nanoseconds = static_cast<long long>((since_epoch - seconds).count());
  std::time_t unix_seconds = seconds.count();
  std::tm parts{};
  ::gmtime_r(&unix_seconds, &parts);
  char text[64];
  size_t size = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  std::string result(text, size);
  if (digits > 0) {
    std::snprintf(text, sizeof text, ".%09lld", nanoseconds);
    result.append(text, static_cast<size_t>(digits) + 1);
  }
  return result + "Z";
}

// Reads exactly `width` digits at the front of text.
bool TakeNumber(std::string_view& text, size_t width, int& value) {
  if (text.size() < width) return false;
  auto [end, error] = std::from_chars(text.data(), text.data() + width, value);
  if (error != std::errc() || end != text.data() + width || text[0] == '-') return false;
  text.remove_prefix(width);
  return true;
}

bool TakeChar(std::string_view& text, char wanted) {
  if (text.empty() || text[0] != wanted) return false;
  text.remove_prefix(1);
  return true;
}

// ".123" as nanoseconds; digits beyond the ninth are dropped.
bool TakeFraction(std::string_view& text, long long& nanoseconds) {
  nanoseconds = 0;
  if (!TakeChar(text, '.')) return true;
  size_t count = 0;
  long long scale = 100'000'000;
  while (!text.empty() && text[0] >= '0' && text[0] <= '9') {
    nanoseconds += (text[0] - '0') * scale;
    scale /= 10;
    ++count;
    text.remove_prefix(1);
  }
  return count > 0;
}

// "Z" or "+hh:mm", as seconds east of UTC.
bool TakeOffset(std::string_view& text, int& offset_seconds) {
  offset_seconds = 0;
  if (TakeChar(text, 'Z') || TakeChar(text, 'z')) return true;
  int sign = 1;
  if (TakeChar(text, '-')) {
    sign = -1;
  } else if (!TakeChar(text, '+')) {
    return false;
  }
  int hours = 0;
  int minutes = 0;
  if (!TakeNumber(text, 2, hours) || !TakeChar(text, ':') || !TakeNumber(text, 2, minutes)) {
    return false;
  }
  if (hours > 23 || minutes > 59) return false;
  offset_seconds = sign * (hours * 3600 + minutes * 60);
  return true;
}

}  // namespace

const Clock& Clock::Real() {
  static const RealClock clock;
  return clock;
}

std::string FormatTime(WallTime time) { return Format(time, 0); }
std::string FormatMicroTime(WallTime time) { return Format(time, 6); }
std::string FormatNanoTime(WallTime time) { return Format(time, 9); }

Result<WallTime> ParseTime(std::string_view text) {
  std::string_view rest = text;
  std::tm parts{};
  int offset_seconds = 0;
  long long nanoseconds = 0;
  bool good = TakeNumber(rest, 4, parts.tm_year) && TakeChar(rest, '-') &&
              TakeNumber(rest, 2, parts.tm_mon) && TakeChar(rest, '-') &&
              TakeNumber(rest, 2, parts.tm_mday) && (TakeChar(rest, 'T') || TakeChar(rest, 't')) &&
              TakeNumber(rest, 2, parts.tm_hour) && TakeChar(rest, ':') &&
              TakeNumber(rest, 2, parts.tm_min) && TakeChar(rest, ':') &&
              TakeNumber(rest, 2, parts.tm_sec) && TakeFraction(rest, nanoseconds) &&
              TakeOffset(rest, offset_seconds) && rest.empty();
  good = good && parts.tm_mon >= 1 && parts.tm_mon <= 12 && parts.tm_mday >= 1 &&
         parts.tm_mday <= 31 && parts.tm_hour <= 23 && parts.tm_min <= 59 && parts.tm_sec <= 60;
  if (!good) {
    return Error(Code::kInvalidArgument, "\"" + std::string(text.substr(0, 64)) +
                                             "\" is not a time as in 2006-01-02T15:04:05Z");
  }
  parts.tm_year -= 1900;
  parts.tm_mon -= 1;
  std::time_t seconds = ::timegm(&parts) - offset_seconds;
  return WallTime(std::chrono::duration_cast<WallTime::duration>(
      std::chrono::seconds(seconds) + std::chrono::nanoseconds(nanoseconds)));
}

}  // namespace skiff
