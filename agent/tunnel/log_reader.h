// Reads a container's log file in the CRI format: tail, since, limit, timestamps, follow across
// rotations.
//
// A line is "2026-01-02T03:04:05.000000006Z stdout F text": time, stream, F for a whole line or P
// for a part of one that goes on.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"

namespace skiff::agent {

struct LogOptions {
  bool follow = false;
  bool timestamps = false;
  std::optional<WallTime> since;
  std::optional<int64_t> tail_lines;
  std::optional<int64_t> limit_bytes;
  std::string stream;  // "stdout", "stderr"; empty: both
};

struct LogLine {
  std::string_view time;
  std::string_view stream;
  bool partial = false;
  std::string_view text;
};
// Nothing for a line that is not in the format.
std::optional<LogLine> ParseLogLine(std::string_view line);

// What a reader needs of its surroundings. Both may be called at any time on the reading thread.
struct LogSink {
  // False: nobody listens any more.
  std::function<bool(std::string data)> write;
  // Whether the container may still write. Asked only when the end of the file is reached.
  std::function<bool()> running;
  // Becomes readable when the reader should stop; -1: none.
  int stop_fd = -1;
};

// Blocks until the end (without follow), until the container has ended and all is read, or until
// nobody listens. NotFound when there is no file.
Result<> ReadLog(const std::string& path, const LogOptions& options, const LogSink& sink);

}  // namespace skiff::agent
