// Time as an injected dependency: real in daemons, moved by hand in tests.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "base/result.h"

namespace skiff {

using SteadyTime = std::chrono::steady_clock::time_point;
using WallTime = std::chrono::system_clock::time_point;

// Thread-safe. Steady time measures intervals; wall time is what objects and logs show.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual SteadyTime Now() const = 0;
  virtual WallTime WallNow() const = 0;
  // The machine's own clocks; lives for ever.
  static const Clock& Real();
};

// "2026-01-02T03:04:05Z" (RFC 3339, whole seconds, UTC), as metav1.Time.
std::string FormatTime(WallTime time);
// "2026-01-02T03:04:05.000006Z", as metav1.MicroTime.
std::string FormatMicroTime(WallTime time);
// "2026-01-02T03:04:05.000000006Z", as the CRI log format.
std::string FormatNanoTime(WallTime time);
// RFC 3339 with any fraction and offset. InvalidArgument otherwise.
Result<WallTime> ParseTime(std::string_view text);

}  // namespace skiff
