#include "runtime/shim/log_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "base/os/files.h"

namespace skiff::runtime {
namespace {

constexpr size_t kFlushBytes = 64 << 10;
constexpr size_t kKeepBufferBytes = 4 << 10;  // what an idle container keeps of its buffers

std::string RotatedPath(const std::string& path, uint32_t number) {
  return path + "." + std::to_string(number);
}

}  // namespace

Result<> LogWriter::Open() {
  if (spec_.path.empty()) return {};
  constexpr int kFlags = O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW;
  Result<UniqueFd> file = OpenFile(spec_.path, kFlags, 0640);
  if (!file.ok() && file.error().sys_errno() == ENOENT) {
    TRY(MakeDirectories(spec_.path.substr(0, spec_.path.find_last_of('/'))));
    file = OpenFile(spec_.path, kFlags, 0640);
  }
  UniqueFd opened = TRY(std::move(file));
  struct stat info;
  if (::fstat(opened.get(), &info) != 0) return Error::Sys(errno, "fstat", spec_.path);
  file_ = std::move(opened);
  file_bytes_ = static_cast<uint64_t>(info.st_size);
  torn_ = false;
  return {};
}

void LogWriter::Write(LogStream stream, std::string_view output, WallTime time) {
  if (!file_) return;
  const std::string stamp = FormatNanoTime(time);
  std::string& pending = pending_[static_cast<int>(stream)];
  while (!output.empty()) {
    size_t newline = output.find('\n');
    size_t room = kLogPieceBytes - pending.size();
    bool whole = newline != std::string_view::npos && newline <= room;
    size_t take = whole ? newline : std::min(room, output.size());
    // A full piece waits for the next byte: where that is the newline, the line is whole.
    if (!whole && take == output.size()) {
      pending += output;
      break;
    }
    if (pending.empty()) {
      AppendLine(stream, output.substr(0, take), whole, stamp);
    } else {
      pending += output.substr(0, take);
      AppendLine(stream, pending, whole, stamp);
      pending.clear();
    }
    output.remove_prefix(take + (whole ? 1 : 0));
  }
  if (pending.empty() && pending.capacity() > kKeepBufferBytes) pending.shrink_to_fit();
  Flush();
}

void LogWriter::Finish(LogStream stream, WallTime time) {
  std::string& pending = pending_[static_cast<int>(stream)];
  if (file_ && !pending.empty()) AppendLine(stream, pending, false, FormatNanoTime(time));
  pending.clear();
  Flush();
}

void LogWriter::AppendLine(LogStream stream, std::string_view text, bool whole,
                           std::string_view time) {
  std::string_view label = stream == LogStream::kStdout ? " stdout " : " stderr ";
  size_t length = time.size() + label.size() + 2 + text.size() + 1;
  uint64_t after = file_bytes_ + out_.size() + length;
  // A line that never ends must not keep the log growing.
  bool may_part = at_line_end_ || after > 2 * spec_.rotate_bytes;
  if (spec_.rotate_bytes != 0 && after > spec_.rotate_bytes && may_part &&
      file_bytes_ + out_.size() > 0) {
    Flush();
    Rotate();
  }
  out_.append(time).append(label).append(whole ? "F " : "P ").append(text).append(1, '\n');
  at_line_end_ = whole;
  if (out_.size() >= kFlushBytes) Flush();
}

void LogWriter::Flush() {
  if (out_.empty()) return;
  if (torn_) out_.insert(out_.begin(), '\n');
  std::string_view rest = out_;
  while (!rest.empty()) {
    ssize_t put = ::write(file_.get(), rest.data(), rest.size());
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) break;  // no space, most likely: the container goes on, its words are lost
    torn_ = rest[static_cast<size_t>(put) - 1] != '\n';
    rest.remove_prefix(static_cast<size_t>(put));
    file_bytes_ += static_cast<uint64_t>(put);
  }
  dropped_bytes_ += rest.size();
  out_.clear();
  if (out_.capacity() > 2 * kFlushBytes) out_.shrink_to_fit();
}

void LogWriter::Rotate() {
  // path.1 is the newest. A rename that fails costs old lines, never new ones.
  for (uint32_t number = spec_.keep_files; number-- > 1;) {
    const std::string from = number == 1 ? spec_.path : RotatedPath(spec_.path, number - 1);
    (void)::rename(from.c_str(), RotatedPath(spec_.path, number).c_str());
  }
  if (spec_.keep_files <= 1) (void)::unlink(spec_.path.c_str());
  (void)Open();  // where it fails the old file goes on being written
}

}  // namespace skiff::runtime
