// LogWriter: a container's output as a CRI log file.
//
//   2026-01-02T03:04:05.000000006Z stdout F a whole line
//   2026-01-02T03:04:05.000000006Z stderr P the first 16 KiB of a long one
//
// The format is that of the Kubernetes design "CRI logging": P marks a piece whose line goes on.
// A last line without a newline is a P too. Files are parted between lines, so that each can be
// read by itself; only a line that alone is as long as a file goes on in the next. Where a write
// fails (a full disk), whole lines are lost, and a line that was cut short gets its end when there
// is room again. Owned by one container of the shim.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/os/unique_fd.h"
#include "base/result.h"
#include "runtime/spec.h"

namespace skiff::runtime {

enum class LogStream { kStdout = 0, kStderr = 1 };
constexpr size_t kLogPieceBytes = 16 << 10;  // as kubelet's own limit of a piece

class LogWriter {
 public:
  // An empty path throws everything away.
  explicit LogWriter(LogSpec spec) : spec_(std::move(spec)) {}

  // Opens the file to append to; makes it (and its directory) where it is missing.
  Result<> Open();
  // Output as it was read, in pieces of any size. Lines that cannot be written (a full disk) are
  // dropped and counted.
  void Write(LogStream stream, std::string_view output, WallTime time);
  // What is left of a last line, at the end of the stream.
  void Finish(LogStream stream, WallTime time);

  uint64_t dropped_bytes() const { return dropped_bytes_; }

 private:
  void AppendLine(LogStream stream, std::string_view text, bool whole, std::string_view time);
  void Flush();
  void Rotate();

  LogSpec spec_;
  UniqueFd file_;
  uint64_t file_bytes_ = 0;
  uint64_t dropped_bytes_ = 0;
  bool at_line_end_ = true;  // of the log: the last piece was the end of its line
  bool torn_ = false;        // the last write ended within a piece
  std::string pending_[2];   // of each stream: the beginning of a line
  std::string out_;          // formatted, not written yet
};

}  // namespace skiff::runtime
