// Byte streams as chunks: a source hands out views until it is empty, and stages stand on each
// other without copying (network -> inflate -> hash -> tar).
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "runtime/image/digest.h"

namespace skiff::runtime {

// One reader. The view is valid until the next call; an empty view is the end.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual Result<std::string_view> Next() = 0;
};

// A file descriptor from its present place, limited to a number of bytes (default: all).
class FileSource : public ByteSource {
 public:
  explicit FileSource(int fd, uint64_t limit_bytes = UINT64_MAX);
  Result<std::string_view> Next() override;

 private:
  int fd_;  // not owned
  uint64_t left_;
  std::string buffer_;
};

// Bytes in memory, in chunks of a size that a test chooses.
class MemorySource : public ByteSource {
 public:
  explicit MemorySource(std::string_view bytes, size_t chunk = SIZE_MAX)
      : rest_(bytes), chunk_(chunk) {}
  Result<std::string_view> Next() override {
    const std::string_view view = rest_.substr(0, chunk_);
    rest_.remove_prefix(view.size());
    return view;
  }

 private:
  std::string_view rest_;
  size_t chunk_;
};

// Passes bytes through, hashing and counting them. Above the limit: ResourceExhausted.
class HashingSource : public ByteSource {
 public:
  HashingSource(ByteSource& below, std::string_view algorithm, uint64_t limit_bytes);
  Result<std::string_view> Next() override;
  // Reads what is left and returns the digest of the whole stream; once.
  Result<Digest> Finish();

 private:
  ByteSource& below_;
  Hasher hasher_;
  uint64_t left_;
};

// Inflates gzip (all its members) and zstd (all its frames), seen from the first bytes; anything
// else passes as it is. DataLoss for a damaged or cut stream.
class InflatingSource : public ByteSource {
 public:
  explicit InflatingSource(ByteSource& below);
  ~InflatingSource() override;
  Result<std::string_view> Next() override;

 private:
  class Inflater;
  class Gzip;
  class Zstd;
  Result<> Sniff();
  ByteSource& below_;
  std::string first_;  // read while sniffing
  std::string_view input_;
  bool sniffed_ = false;
  bool plain_ = false;
  bool input_ended_ = false;
  std::unique_ptr<Inflater> inflater_;
  std::string output_;
};

// A bounded queue between the thread that fetches and the thread that unpacks.
class ByteQueue : public ByteSource {
 public:
  explicit ByteQueue(size_t capacity_bytes) : capacity_(capacity_bytes) {}
  // Waits for room. False when the reader has gone: stop producing.
  bool Push(std::string_view bytes);
  // No more bytes: the end, or the error that Next will return.
  void CloseWriter(Result<> outcome);
  // The reader gives up; pushes fail from now on.
  void CloseReader();
  Result<std::string_view> Next() override;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> chunks_;
  size_t queued_ = 0;
  const size_t capacity_;
  std::optional<Result<>> outcome_;
  bool reader_gone_ = false;
  std::string current_;
};

}  // namespace skiff::runtime
