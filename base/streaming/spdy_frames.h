// SPDY/3.1 frames (https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/), the part
// that remote commands use. Values and bytes, no I/O.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace skiff::streaming {

using SpdyHeaders = std::vector<std::pair<std::string, std::string>>;  // names in lower case

inline constexpr size_t kMaxSpdyControlBytes = 64 << 10;
inline constexpr size_t kMaxSpdyHeaderBytes = 32 << 10;  // of one block, uncompressed
inline constexpr size_t kMaxSpdyHeaderPairs = 64;
inline constexpr int64_t kSpdyInitialWindowBytes = 64 << 10;

enum class SpdyResetStatus : uint32_t {
  kProtocolError = 1,
  kInvalidStream = 2,
  kRefusedStream = 3,
  kCancel = 5,
};

// What a parser finds. Unknown and unneeded frames are left out.
class SpdySink {
 public:
  virtual ~SpdySink() = default;
  virtual Result<> OnSynStream(uint32_t id, SpdyHeaders headers, bool fin) = 0;
  virtual Result<> OnSynReply(uint32_t id, SpdyHeaders headers, bool fin) = 0;
  // A piece of a data frame; fin: with it, the peer's direction ends. May be empty.
  virtual void OnData(uint32_t id, std::string_view data, bool fin) = 0;
  virtual void OnReset(uint32_t id) = 0;
  virtual void OnPing(uint32_t id) = 0;
  virtual void OnGoAway() = 0;
  virtual void OnWindowUpdate(uint32_t id, uint32_t delta) = 0;
  virtual void OnInitialWindow(uint32_t bytes) = 0;
};

// Any cutting of the byte stream gives the same calls. After an error it must not be fed again.
class SpdyParser {
 public:
  explicit SpdyParser(SpdySink& sink);
  ~SpdyParser();
  Result<> Feed(std::string_view bytes);

 private:
  struct Inflater;
  Result<> TakeControlFrame(std::string_view frame);
  Result<> TakeStreamFrame(uint16_t type, uint8_t flags, std::string_view payload);
  Result<> TakeSettings(std::string_view payload);
  Result<SpdyHeaders> ReadHeaders(std::string_view block);

  SpdySink& sink_;
  std::unique_ptr<Inflater> inflater_;
  std::string buffer_;        // of a frame header or control frame that is not whole yet
  uint32_t data_stream_ = 0;  // the data frame under way
  size_t data_left_ = 0;
  bool data_fin_ = false;
};

// One connection's frames to send; headers share a compression context, so order matters.
class SpdyWriter {
 public:
  SpdyWriter();
  ~SpdyWriter();
  std::string SynStream(uint32_t id, const SpdyHeaders& headers, bool fin);
  std::string SynReply(uint32_t id, const SpdyHeaders& headers);
  static std::string Data(uint32_t id, std::string_view data, bool fin);
  static std::string Reset(uint32_t id, SpdyResetStatus status);
  static std::string Ping(uint32_t id);
  static std::string GoAway(uint32_t last_good_id);
  static std::string WindowUpdate(uint32_t id, uint32_t delta);

 private:
  struct Deflater;
  std::string Compress(const SpdyHeaders& headers);
  std::unique_ptr<Deflater> deflater_;
};

}  // namespace skiff::streaming
