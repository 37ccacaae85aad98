#include "proto/codec/time_format.h"

#include <algorithm>
#include <array>
#include <cstdio>

namespace skiff::codec {
namespace {

constexpr int64_t kDaySeconds = 86400;
constexpr int64_t kFirst = -62167219200;  // 0000-01-01T00:00:00Z
constexpr int64_t kLast = 253402300799;   // 9999-12-31T23:59:59Z

struct Date {
  int64_t year;
  int month;
  int day;
};

// The proleptic Gregorian calendar by eras of 400 years (Howard Hinnant, "chrono-Compatible
// Low-Level Date Algorithms").
int64_t DaysFromDate(Date date) {
  int64_t year = date.month <= 2 ? date.year - 1 : date.year;
  int64_t era = (year >= 0 ? year : year - 399) / 400;
  int64_t year_of_era = year - era * 400;
  int64_t month = (date.month + 9) % 12;
  int64_t day_of_year = (153 * month + 2) / 5 + date.day - 1;
  int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
  return era * 146097 + day_of_era - 719468;
}

Date DateFromDays(int64_t days) {
  days += 719468;
  int64_t era = (days >= 0 ? days : days - 146096) / 146097;
  int64_t day_of_era = days - era * 146097;
  int64_t year_of_era =
      (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  int64_t shifted = (5 * day_of_year + 2) / 153;
  int day = static_cast<int>(day_of_year - (153 * shifted + 2) / 5 + 1);
  int month = static_cast<int>(shifted < 10 ? shifted + 3 : shifted - 9);
  return {year_of_era + era * 400 + (month <= 2 ? 1 : 0), month, day};
}

int DaysInMonth(int64_t year, int month) {
  static constexpr std::array<int, 12> kDays{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  return month == 2 && leap ? 29 : kDays[static_cast<size_t>(month - 1)];
}

// The calendar part, without zone or fraction.
std::string FormatSeconds(int64_t seconds) {
  seconds = std::clamp(seconds, kFirst, kLast);
  int64_t days = seconds / kDaySeconds;
  int64_t rest = seconds % kDaySeconds;
  if (rest < 0) {
    rest += kDaySeconds;
    --days;
  }
  Date date = DateFromDays(days);
  std::array<char, 64> text;
  int length = std::snprintf(text.data(), text.size(), "%04d-%02d-%02dT%02d:%02d:%02d",
                             static_cast<int>(date.year), date.month, date.day,
                             static_cast<int>(rest / 3600), static_cast<int>(rest / 60 % 60),
                             static_cast<int>(rest % 60));
  return std::string(text.data(), static_cast<size_t>(length));
}

// Takes text apart from the left.
class Cursor {
 public:
  explicit Cursor(std::string_view text) : text_(text) {}

  bool Number(size_t width, int64_t* value) {
    if (text_.size() < width) return false;
    *value = 0;
    for (char c : text_.substr(0, width)) {
      if (c < '0' || c > '9') return false;
      *value = *value * 10 + (c - '0');
    }
    text_.remove_prefix(width);
    return true;
  }
  bool Take(char c) {
    if (text_.empty() || text_[0] != c) return false;
    text_.remove_prefix(1);
    return true;
  }
  // The digits of a fraction as billionths.
  bool Fraction(int32_t* nanos) {
    *nanos = 0;
    int32_t unit = 100'000'000;
    size_t digits = 0;
    for (; digits < text_.size() && text_[digits] >= '0' && text_[digits] <= '9'; ++digits) {
      *nanos += (text_[digits] - '0') * unit;
      unit /= 10;
    }
    text_.remove_prefix(digits);
    return digits > 0;
  }
  bool AtEnd() const { return text_.empty(); }

 private:
  std::string_view text_;
};

bool ReadOffset(Cursor* cursor, int64_t* offset) {
  *offset = 0;
  if (cursor->Take('Z')) return true;
  bool east = cursor->Take('+');
  if (!east && !cursor->Take('-')) return false;
  int64_t hours, minutes;
  if (!cursor->Number(2, &hours) || !cursor->Take(':') || !cursor->Number(2, &minutes) ||
      hours > 23 || minutes > 59) {
    return false;
  }
  *offset = (hours * 3600 + minutes * 60) * (east ? 1 : -1);
  return true;
}

constexpr int64_t kSecond = 1'000'000'000;

std::optional<int64_t> DurationUnit(std::string_view unit) {
  if (unit == "h") return 3600 * kSecond;
  if (unit == "m") return 60 * kSecond;
  if (unit == "s") return kSecond;
  if (unit == "ms") return 1'000'000;
  if (unit == "us" || unit == "\xC2\xB5s") return 1000;
  if (unit == "ns") return 1;
  return std::nullopt;
}

}  // namespace

std::string FormatTime(int64_t seconds) { return FormatSeconds(seconds) + "Z"; }

std::string FormatMicroTime(TimePoint time) {
  std::array<char, 16> fraction;
  int32_t nanos = std::clamp(time.nanos, 0, 999'999'999);
  int length = std::snprintf(fraction.data(), fraction.size(), ".%06dZ", nanos / 1000);
  return FormatSeconds(time.seconds).append(fraction.data(), static_cast<size_t>(length));
}

std::optional<TimePoint> ParseTime(std::string_view text) {
  Cursor cursor(text);
  int64_t year, month, day, hour, minute, second, offset;
  if (!cursor.Number(4, &year) || !cursor.Take('-') || !cursor.Number(2, &month) ||
      !cursor.Take('-') || !cursor.Number(2, &day) || !cursor.Take('T') ||
      !cursor.Number(2, &hour) || !cursor.Take(':') || !cursor.Number(2, &minute) ||
      !cursor.Take(':') || !cursor.Number(2, &second)) {
    return std::nullopt;
  }
  TimePoint time;
  if (cursor.Take('.') && !cursor.Fraction(&time.nanos)) return std::nullopt;
  if (!ReadOffset(&cursor, &offset) || !cursor.AtEnd()) return std::nullopt;
  if (month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59 || second > 59 ||
      day > DaysInMonth(year, static_cast<int>(month))) {
    return std::nullopt;
  }
  int64_t days = DaysFromDate({year, static_cast<int>(month), static_cast<int>(day)});
  time.seconds = days * kDaySeconds + hour * 3600 + minute * 60 + second - offset;
  return time;
}

std::string FormatDuration(int64_t nanoseconds) {
  if (nanoseconds == 0) return "0s";
  std::string text = nanoseconds < 0 ? "-" : "";
  // Through unsigned, for the most negative value.
  uint64_t rest = nanoseconds < 0 ? ~static_cast<uint64_t>(nanoseconds) + 1
                                  : static_cast<uint64_t>(nanoseconds);
  auto with_fraction = [](uint64_t value, uint64_t unit) {
    std::string number = std::to_string(value / unit);
    if (value % unit == 0) return number;
    std::string fraction = std::to_string(unit + value % unit).substr(1);
    fraction.erase(fraction.find_last_not_of('0') + 1);
    return number + "." + fraction;
  };
  constexpr auto kUnit = static_cast<uint64_t>(kSecond);
  if (rest < 1000) return text + std::to_string(rest) + "ns";
  if (rest < 1'000'000) return text + with_fraction(rest, 1000) + "\xC2\xB5s";
  if (rest < kUnit) return text + with_fraction(rest, 1'000'000) + "ms";
  uint64_t minutes = rest / (60 * kUnit);
  if (minutes >= 60) text += std::to_string(minutes / 60) + "h";
  if (minutes > 0) text += std::to_string(minutes % 60) + "m";
  return text + with_fraction(rest % (60 * kUnit), kUnit) + "s";
}

std::optional<int64_t> ParseDuration(std::string_view text) {
  bool negative = !text.empty() && text[0] == '-';
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
  if (text == "0") return 0;
  if (text.empty() || text.size() > 64) return std::nullopt;
  long double total = 0;
  while (!text.empty()) {
    size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
    std::string_view number = text.substr(0, digits);
    if (number.empty() || number == "." || std::count(number.begin(), number.end(), '.') > 1) {
      return std::nullopt;
    }
    text.remove_prefix(digits);
    size_t letters = std::min(text.find_first_of("0123456789."), text.size());
    std::optional<int64_t> unit = DurationUnit(text.substr(0, letters));
    if (!unit) return std::nullopt;
    text.remove_prefix(letters);
    total += std::stold(std::string(number)) * static_cast<long double>(*unit);
  }
  if (total > 9.2e18L) return std::nullopt;
  auto value = static_cast<int64_t>(total);
  return negative ? -value : value;
}

}  // namespace skiff::codec
