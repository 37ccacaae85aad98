#include "agent/tunnel/log_reader.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/os/files.h"

namespace skiff::agent {
namespace {

constexpr size_t kChunkBytes = 64 << 10;
// Longer ones are cut: no writer of ours makes them.
constexpr size_t kMaxLineBytes = 1 << 20;
// The writer's last lines may come after the runtime says that it ended; this is how often a silent
// follower asks.
constexpr int kAskMillis = 1000;

// Where the last `lines` lines of the file begin.
Result<off_t> TailOffset(int fd, int64_t lines) {
  struct stat status;
  if (::fstat(fd, &status) != 0) return Error::Sys(errno, "fstat log");
  off_t end = status.st_size;
  if (lines <= 0) return end;
  std::string chunk(kChunkBytes, '\0');
  off_t position = end;
  int64_t found = 0;
  while (position > 0) {
    size_t length = static_cast<size_t>(std::min<off_t>(position, kChunkBytes));
    position -= static_cast<off_t>(length);
    ssize_t got = ::pread(fd, chunk.data(), length, position);
    if (got < 0) return Error::Sys(errno, "read log");
    for (ssize_t i = got - 1; i >= 0; --i) {
      off_t at = position + i;
      if (chunk[static_cast<size_t>(i)] != '\n' || at == end - 1) continue;
      if (++found == lines) return at + 1;
    }
  }
  return 0;
}

// As many rotated files are looked at.
constexpr int kMaxRotated = 1000;

class Reader {
 public:
  Reader(std::string path, const LogOptions& options, const LogSink& sink)
      : path_(std::move(path)), options_(options), sink_(sink) {}

  Result<> Run() {
    fd_ = TRY(OpenFile(path_, O_RDONLY));
    if (options_.tail_lines) {
      position_ = TRY(TailOffset(fd_.get(), *options_.tail_lines));
    }
    if (options_.follow) TRY(Watch());
    for (;;) {
      TRY(ReadToEnd());
      if (done_ || !options_.follow) return {};
      bool rotated = TRY(ReopenIfRotated());
      if (rotated) continue;
      if (ended_) return {};
      // Read once more after the end was seen: the last lines may have come in between.
      ended_ = !sink_.running();
      if (ended_) continue;
      if (!Wait()) return {};
    }
  }

 private:
  Result<> Watch() {
    notify_ = UniqueFd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (!notify_.valid()) return Error::Sys(errno, "inotify_init1");
    std::string directory = path_.substr(0, path_.rfind('/'));
    // The directory's watch tells of writes and of rotation alike.
    constexpr uint32_t kEvents = IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_CLOSE_WRITE;
    if (::inotify_add_watch(notify_.get(), directory.c_str(), kEvents) < 0) {
      return Error::Sys(errno, "inotify_add_watch", directory);
    }
    return {};
  }

  // False when it is time to stop.
  bool Wait() {
    struct pollfd fds[2] = {{notify_.get(), POLLIN, 0}, {sink_.stop_fd, POLLIN, 0}};
    (void)::poll(fds, sink_.stop_fd >= 0 ? 2 : 1, kAskMillis);
    if (sink_.stop_fd >= 0 && fds[1].revents != 0) return false;
    char events[4096];
    while (::read(notify_.get(), events, sizeof events) > 0) {
    }
    return true;
  }

  // True when the path is another file now: the old one is read to its end already.
  Result<bool> ReopenIfRotated() {
    struct stat open_status;
    struct stat path_status;
    if (::fstat(fd_.get(), &open_status) != 0) return Error::Sys(errno, "fstat log");
    if (::stat(path_.c_str(), &path_status) != 0) return false;  // between rename and create
    bool same =
        open_status.st_ino == path_status.st_ino && open_status.st_dev == path_status.st_dev;
    if (same) {
      if (path_status.st_size >= position_) return false;
      position_ = 0;  // truncated
      return true;
    }
    TRY(ReadToEnd());
    FlushRest();
    Result<UniqueFd> successor = OpenSuccessor(open_status);
    // Between rename and create once more: its directory's watch tells when it is there.
    if (!successor.ok() && successor.error().code() == Code::kNotFound) return false;
    fd_ = TRY(std::move(successor));
    position_ = 0;
    return true;
  }

  static bool IsFile(const std::string& path, const struct stat& wanted) {
    struct stat found;
    return ::stat(path.c_str(), &found) == 0 && found.st_ino == wanted.st_ino &&
           found.st_dev == wanted.st_dev;
  }
  std::string RotatedPath(int number) const { return path_ + "." + std::to_string(number); }

  // The file that came after the one just read. The writer may have gone on by several files since:
  // ours names them .1 (the newest), .2 and so on, and drops the last.
  Result<UniqueFd> OpenSuccessor(const struct stat& old) {
    for (;;) {
      int number = 0;  // of the one just read
      int oldest = 0;
      for (int n = 1; n <= kMaxRotated && PathExists(RotatedPath(n)); ++n) {
        oldest = n;
        if (IsFile(RotatedPath(n), old)) number = n;
      }
      struct stat now;
      bool dropped = ::fstat(fd_.get(), &now) == 0 && now.st_nlink == 0;
      // Renamed by somebody else's rule, it is followed by the file of the plain name.
      int next = number > 0 ? number - 1 : dropped ? oldest : 0;
      std::string path = next == 0 ? path_ : RotatedPath(next);
      Result<UniqueFd> opened = OpenFile(path, O_RDONLY);
      if (!opened.ok() && next == 0) return opened;
      // If the writer rotated meanwhile, the numbers no longer mean what they did.
      if (opened.ok() && (number == 0 || IsFile(RotatedPath(number), old))) return opened;
    }
  }

  Result<> ReadToEnd() {
    std::string chunk(kChunkBytes, '\0');
    while (!done_) {
      ssize_t got = ::pread(fd_.get(), chunk.data(), chunk.size(), position_);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return Error::Sys(errno, "read log", path_);
      if (got == 0) break;
      position_ += got;
      rest_.append(chunk.data(), static_cast<size_t>(got));
      TakeLines();
      Flush();
    }
    return {};
  }

  void TakeLines() {
    size_t start = 0;
    for (;;) {
      size_t end = rest_.find('\n', start);
      if (end == std::string::npos) break;
      TakeLine(std::string_view(rest_).substr(start, end - start));
      start = end + 1;
      if (done_) return;
    }
    rest_.erase(0, start);
    if (rest_.size() > kMaxLineBytes) FlushRest();
  }

  // An end without newline: what a killed writer left.
  void FlushRest() {
    if (!rest_.empty()) TakeLine(rest_);
    rest_.clear();
    Flush();
  }

  void TakeLine(std::string_view line) {
    auto parsed = ParseLogLine(line);
    if (!parsed) return;
    if (!options_.stream.empty() && parsed->stream != options_.stream) return;
    if (options_.since) {
      auto time = ParseTime(parsed->time);
      if (!time.ok() || *time < *options_.since) return;
    }
    if (options_.timestamps && line_begins_) Put(std::string(parsed->time) + " ");
    Put(parsed->text);
    if (!parsed->partial) Put("\n");
    line_begins_ = !parsed->partial;
  }

  void Put(std::string_view text) {
    if (options_.limit_bytes) {
      auto left = static_cast<size_t>(std::max<int64_t>(*options_.limit_bytes - written_, 0));
      text = text.substr(0, left);
      if (left <= text.size()) done_ = true;
    }
    written_ += static_cast<int64_t>(text.size());
    out_.append(text);
  }

  void Flush() {
    for (size_t start = 0; start < out_.size(); start += kChunkBytes) {
      if (!sink_.write(out_.substr(start, kChunkBytes))) {
        done_ = true;
        break;
      }
    }
    out_.clear();
  }

  const std::string path_;
  const LogOptions& options_;
  const LogSink& sink_;
  UniqueFd fd_;
  UniqueFd notify_;
  off_t position_ = 0;
  std::string rest_;  // a line whose end is not read yet
  std::string out_;
  int64_t written_ = 0;
  bool line_begins_ = true;
  bool ended_ = false;
  bool done_ = false;
};

}  // namespace

std::optional<LogLine> ParseLogLine(std::string_view line) {
  LogLine parsed;
  size_t time_end = line.find(' ');
  if (time_end == std::string_view::npos) return std::nullopt;
  size_t stream_end = line.find(' ', time_end + 1);
  if (stream_end == std::string_view::npos) return std::nullopt;
  size_t tag_end = line.find(' ', stream_end + 1);
  parsed.time = line.substr(0, time_end);
  parsed.stream = line.substr(time_end + 1, stream_end - time_end - 1);
  if (parsed.stream != "stdout" && parsed.stream != "stderr") return std::nullopt;
  std::string_view tag =
      line.substr(stream_end + 1, tag_end == std::string_view::npos ? std::string_view::npos
                                                                    : tag_end - stream_end - 1);
  // Further tags may follow after a colon.
  tag = tag.substr(0, tag.find(':'));
  if (tag != "F" && tag != "P") return std::nullopt;
  parsed.partial = tag == "P";
  if (tag_end != std::string_view::npos) parsed.text = line.substr(tag_end + 1);
  return parsed;
}

Result<> ReadLog(const std::string& path, const LogOptions& options, const LogSink& sink) {
  return Reader(path, options, sink).Run();
}

}  // namespace skiff::agent
