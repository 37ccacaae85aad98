#include "runtime/image/byte_source.h"

#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>

namespace skiff::runtime {
namespace {

constexpr size_t kFileChunk = 256 << 10;
constexpr size_t kInflateChunk = 256 << 10;
// A zstd window above this is refused: it would be allocated at the sender's word. 128 MiB is what
// `zstd --long` gives and decoders must accept by default.
constexpr int kZstdWindowLogMax = 27;

}  // namespace

FileSource::FileSource(int fd, uint64_t limit_bytes)
    : fd_(fd), left_(limit_bytes), buffer_(kFileChunk, '\0') {}

Result<std::string_view> FileSource::Next() {
  if (left_ == 0) return std::string_view();
  ssize_t got = 0;
  do {
    got = read(fd_, buffer_.data(), std::min<uint64_t>(buffer_.size(), left_));
  } while (got < 0 && errno == EINTR);
  if (got < 0) return Error::Sys(errno, "read");
  left_ -= static_cast<uint64_t>(got);
  return std::string_view(buffer_.data(), static_cast<size_t>(got));
}

HashingSource::HashingSource(ByteSource& below, std::string_view algorithm, uint64_t limit_bytes)
    : below_(below), hasher_(algorithm), left_(limit_bytes) {}

Result<std::string_view> HashingSource::Next() {
  const std::string_view chunk = TRY(below_.Next());
  if (chunk.size() > left_) {
    return Error(Code::kResourceExhausted, "the layer is larger than allowed when unpacked");
  }
  left_ -= chunk.size();
  hasher_.Update(chunk);
  return chunk;
}

Result<Digest> HashingSource::Finish() {
  while (!TRY(Next()).empty()) {
  }
  return hasher_.Finish();
}

class InflatingSource::Inflater {
 public:
  virtual ~Inflater() = default;
  // Consumes from input and fills output; returns how much was filled.
  virtual Result<size_t> Step(std::string_view* input, std::string* output) = 0;
  // Whether the stream may end here: between members or frames.
  virtual bool AtBoundary() const = 0;
};

class InflatingSource::Gzip : public Inflater {
 public:
  Gzip() { CHECK(inflateInit2(&stream_, 15 + 16) == Z_OK); }  // 16: gzip framing
  ~Gzip() override { inflateEnd(&stream_); }

  Result<size_t> Step(std::string_view* input, std::string* output) override {
    if (boundary_) {
      // Another member follows (RFC 1952, 2.2); zeroes after the last one are padding.
      if (members_ > 0) {
        const size_t padding = std::min(input->find_first_not_of('\0'), input->size());
        input->remove_prefix(padding);
        if (input->empty()) return size_t{0};
      }
      CHECK(inflateReset(&stream_) == Z_OK);
      boundary_ = false;
    }
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(input->data()));
    stream_.avail_in = static_cast<uInt>(std::min<size_t>(input->size(), 1 << 30));
    const uInt given = stream_.avail_in;
    stream_.next_out = reinterpret_cast<Bytef*>(output->data());
    stream_.avail_out = static_cast<uInt>(output->size());
    const int result = inflate(&stream_, Z_NO_FLUSH);
    input->remove_prefix(given - stream_.avail_in);
    if (result == Z_STREAM_END) {
      boundary_ = true;
      ++members_;
    } else if (result != Z_OK && result != Z_BUF_ERROR) {
      return Error(Code::kDataLoss, std::string("damaged gzip data: ") +
                                        (stream_.msg != nullptr ? stream_.msg : "unknown"));
    }
    return output->size() - stream_.avail_out;
  }
  bool AtBoundary() const override { return boundary_; }

 private:
  z_stream stream_{};
  bool boundary_ = true;
  int members_ = 0;
};

class InflatingSource::Zstd : public Inflater {
 public:
  Zstd() : stream_(ZSTD_createDStream()) {
    CHECK(stream_ != nullptr);
    ZSTD_DCtx_setParameter(stream_, ZSTD_d_windowLogMax, kZstdWindowLogMax);
  }
  ~Zstd() override { ZSTD_freeDStream(stream_); }

  Result<size_t> Step(std::string_view* input, std::string* output) override {
    if (boundary_ && input->empty()) return size_t{0};  // or the next frame would count as begun
    ZSTD_inBuffer in{input->data(), input->size(), 0};
    ZSTD_outBuffer out{output->data(), output->size(), 0};
    const size_t left = ZSTD_decompressStream(stream_, &out, &in);
    input->remove_prefix(in.pos);
    if (ZSTD_isError(left) != 0) {
      return Error(Code::kDataLoss, std::string("damaged zstd data: ") + ZSTD_getErrorName(left));
    }
    boundary_ = left == 0;
    return out.pos;
  }
  bool AtBoundary() const override { return boundary_; }

 private:
  ZSTD_DStream* stream_;
  bool boundary_ = true;
};

InflatingSource::InflatingSource(ByteSource& below) : below_(below) {}
InflatingSource::~InflatingSource() = default;

Result<> InflatingSource::Sniff() {
  sniffed_ = true;
  while (first_.size() < 4) {
    const std::string_view chunk = TRY(below_.Next());
    if (chunk.empty()) break;
    first_.append(chunk);
  }
  input_ = first_;
  if (input_.starts_with("\x1f\x8b")) {
    inflater_ = std::make_unique<Gzip>();
  } else if (input_.starts_with("\x28\xb5\x2f\xfd") ||
             // A skippable frame (RFC 8878, 3.1.2): seekable zstd may start with one.
             (input_.size() >= 4 && (input_[0] & 0xf0) == 0x50 &&
              input_.substr(1, 3) == "\x2a\x4d\x18")) {
    inflater_ = std::make_unique<Zstd>();
  } else {
    plain_ = true;
  }
  if (!plain_) output_.resize(kInflateChunk);
  return {};
}

Result<std::string_view> InflatingSource::Next() {
  if (!sniffed_) TRY(Sniff());
  if (plain_) {
    if (!input_.empty()) return std::exchange(input_, {});
    return below_.Next();
  }
  while (true) {
    // A step without input may still have output to give.
    const bool had_input = !input_.empty();
    const size_t filled = TRY(inflater_->Step(&input_, &output_));
    if (filled > 0) return std::string_view(output_.data(), filled);
    if (!input_.empty() && had_input) continue;
    if (input_ended_) break;
    input_ = TRY(below_.Next());
    input_ended_ = input_.empty();
    if (input_ended_) break;
  }
  if (!inflater_->AtBoundary()) return Error(Code::kDataLoss, "the compressed data is cut short");
  return std::string_view();
}

bool ByteQueue::Push(std::string_view bytes) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return reader_gone_ || queued_ < capacity_; });
  if (reader_gone_) return false;
  // Small writes (a TLS record each) join the chunk that waits.
  if (!chunks_.empty() && chunks_.back().size() + bytes.size() <= kFileChunk) {
    chunks_.back().append(bytes);
  } else {
    chunks_.emplace_back(bytes);
  }
  queued_ += bytes.size();
  changed_.notify_all();
  return true;
}

void ByteQueue::CloseWriter(Result<> outcome) {
  std::lock_guard lock(mutex_);
  if (!outcome_) outcome_ = std::move(outcome);
  changed_.notify_all();
}

void ByteQueue::CloseReader() {
  std::lock_guard lock(mutex_);
  reader_gone_ = true;
  chunks_.clear();
  queued_ = 0;
  changed_.notify_all();
}

Result<std::string_view> ByteQueue::Next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !chunks_.empty() || outcome_.has_value(); });
  if (chunks_.empty()) {
    if (!outcome_->ok()) return Error(outcome_->error());
    return std::string_view();
  }
  current_ = std::move(chunks_.front());
  chunks_.pop_front();
  queued_ -= current_.size();
  changed_.notify_all();
  return std::string_view(current_);
}

}  // namespace skiff::runtime
