#include "base/streaming/spdy_frames.h"

#include <zlib.h>

#include <algorithm>
#include <cctype>

#include "base/streaming/spdy_dictionary.h"

namespace skiff::streaming {

namespace {

constexpr uint16_t kVersion = 3;
constexpr size_t kFrameHeaderBytes = 8;
enum FrameType : uint16_t {
  kSynStream = 1,
  kSynReply = 2,
  kRstStream = 3,
  kSettings = 4,
  kPing = 6,
  kGoAway = 7,
  kHeaders = 8,
  kWindowUpdate = 9,
};
constexpr uint8_t kFlagFin = 1;
constexpr uint32_t kSettingInitialWindow = 7;
constexpr uint32_t kIdMask = 0x7fffffff;

uint32_t Read32(std::string_view bytes, size_t at) {
  auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<uint8_t>(bytes[at + i])); };
  return byte(0) << 24 | byte(1) << 16 | byte(2) << 8 | byte(3);
}

void Append32(std::string& out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift & 0xff);
}

Error Bad(const char* what) { return Error(Code::kInvalidArgument, std::string("SPDY: ") + what); }

std::string ControlFrame(FrameType type, uint8_t flags, std::string_view payload) {
  std::string frame;
  frame.reserve(kFrameHeaderBytes + payload.size());
  Append32(frame, 0x80000000u | uint32_t{kVersion} << 16 | type);
  Append32(frame, uint32_t{flags} << 24 | static_cast<uint32_t>(payload.size()));
  frame += payload;
  return frame;
}

// Pairs out of an uncompressed header block (section 2.6.10).
Result<SpdyHeaders> ParseHeaderBlock(std::string_view block) {
  auto take_text = [&block](std::string& text) {
    if (block.size() < 4) return false;
    size_t size = Read32(block, 0);
    if (block.size() - 4 < size) return false;
    text.assign(block.substr(4, size));
    block.remove_prefix(4 + size);
    return true;
  };
  if (block.size() < 4) return Bad("truncated header block");
  size_t count = Read32(block, 0);
  block.remove_prefix(4);
  if (count > kMaxSpdyHeaderPairs) return Bad("too many headers");
  SpdyHeaders headers(count);
  for (auto& [name, value] : headers) {
    if (!take_text(name) || !take_text(value)) return Bad("truncated header block");
    if (name.empty()) return Bad("empty header name");
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return headers;
}

}  // namespace

// ---- reading ----

struct SpdyParser::Inflater {
  z_stream stream{};
  Inflater() { CHECK(inflateInit(&stream) == Z_OK); }
  ~Inflater() { inflateEnd(&stream); }
  Inflater(const Inflater&) = delete;

  // The block is one piece of the connection's zlib stream, ended by a sync flush.
  Result<std::string> Run(std::string_view block) {
    const std::string& dictionary = SpdyDictionary();
    std::string out(kMaxSpdyHeaderBytes, '\0');
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(block.data()));
    stream.avail_in = static_cast<uInt>(block.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    while (stream.avail_in > 0) {
      int status = inflate(&stream, Z_SYNC_FLUSH);
      if (status == Z_NEED_DICT) {
        status = inflateSetDictionary(&stream, reinterpret_cast<const Bytef*>(dictionary.data()),
                                      static_cast<uInt>(dictionary.size()));
      }
      if (status != Z_OK) return Bad("broken header compression");
      if (stream.avail_out == 0) return Bad("header block is too large");
    }
    out.resize(out.size() - stream.avail_out);
    return out;
  }
};

SpdyParser::SpdyParser(SpdySink& sink) : sink_(sink), inflater_(std::make_unique<Inflater>()) {}
SpdyParser::~SpdyParser() = default;

Result<> SpdyParser::Feed(std::string_view bytes) {
  while (!bytes.empty()) {
    if (data_left_ > 0) {
      std::string_view piece = bytes.substr(0, data_left_);
      bytes.remove_prefix(piece.size());
      data_left_ -= piece.size();
      sink_.OnData(data_stream_, piece, data_fin_ && data_left_ == 0);
      continue;
    }
    size_t want = kFrameHeaderBytes;
    if (buffer_.size() >= kFrameHeaderBytes) want += Read32(buffer_, 4) & 0xffffff;
    size_t taken = std::min(want - buffer_.size(), bytes.size());
    buffer_ += bytes.substr(0, taken);
    bytes.remove_prefix(taken);
    if (buffer_.size() < kFrameHeaderBytes) break;
    uint32_t first = Read32(buffer_, 0);
    size_t length = Read32(buffer_, 4) & 0xffffff;
    if ((first & 0x80000000u) == 0) {
      data_stream_ = first;
      data_left_ = length;
      data_fin_ = (static_cast<uint8_t>(buffer_[4]) & kFlagFin) != 0;
      buffer_.clear();
      if (length == 0) sink_.OnData(data_stream_, {}, data_fin_);
      continue;
    }
    if (length > kMaxSpdyControlBytes) return Bad("control frame is too large");
    if (buffer_.size() < kFrameHeaderBytes + length) continue;
    std::string frame = std::exchange(buffer_, {});
    TRY(TakeControlFrame(frame));
  }
  return {};
}

Result<> SpdyParser::TakeControlFrame(std::string_view frame) {
  uint32_t first = Read32(frame, 0);
  auto flags = static_cast<uint8_t>(frame[4]);
  if ((first >> 16 & 0x7fff) != kVersion) return Bad("unsupported version");
  auto type = static_cast<uint16_t>(first & 0xffff);
  std::string_view payload = frame.substr(kFrameHeaderBytes);
  switch (type) {
    case kSynStream:
    case kSynReply:
    case kHeaders: return TakeStreamFrame(type, flags, payload);
    case kSettings: return TakeSettings(payload);
    case kRstStream:
      if (payload.size() != 8) return Bad("RST_STREAM of a wrong size");
      sink_.OnReset(Read32(payload, 0) & kIdMask);
      return {};
    case kPing:
      if (payload.size() != 4) return Bad("PING of a wrong size");
      sink_.OnPing(Read32(payload, 0));
      return {};
    case kGoAway: sink_.OnGoAway(); return {};
    case kWindowUpdate:
      if (payload.size() != 8) return Bad("WINDOW_UPDATE of a wrong size");
      sink_.OnWindowUpdate(Read32(payload, 0) & kIdMask, Read32(payload, 4) & kIdMask);
      return {};
    default: return {};  // section 2.2.1: frames of unknown types are ignored
  }
}

Result<> SpdyParser::TakeStreamFrame(uint16_t type, uint8_t flags, std::string_view payload) {
  size_t fixed = type == kSynStream ? 10 : 4;
  if (payload.size() < fixed) return Bad("truncated stream frame");
  uint32_t id = Read32(payload, 0) & kIdMask;
  // Read in any case: the compression context runs through all header blocks.
  SpdyHeaders headers = TRY(ReadHeaders(payload.substr(fixed)));
  bool fin = (flags & kFlagFin) != 0;
  if (type == kSynStream) return sink_.OnSynStream(id, std::move(headers), fin);
  if (type == kSynReply) return sink_.OnSynReply(id, std::move(headers), fin);
  if (fin) sink_.OnData(id, {}, true);
  return {};
}

Result<> SpdyParser::TakeSettings(std::string_view payload) {
  if (payload.size() < 4) return Bad("truncated SETTINGS");
  size_t count = Read32(payload, 0);
  if ((payload.size() - 4) / 8 != count || (payload.size() - 4) % 8 != 0) {
    return Bad("SETTINGS of a wrong size");
  }
  for (size_t i = 0; i < count; ++i) {
    uint32_t id = Read32(payload, 4 + i * 8) & 0xffffff;
    uint32_t value = Read32(payload, 8 + i * 8);
    if (id == kSettingInitialWindow) sink_.OnInitialWindow(value & kIdMask);
  }
  return {};
}

Result<SpdyHeaders> SpdyParser::ReadHeaders(std::string_view block) {
  return ParseHeaderBlock(TRY(inflater_->Run(block)));
}

// ---- writing ----

struct SpdyWriter::Deflater {
  z_stream stream{};
  Deflater() {
    // A window of 2 KiB holds the dictionary: our few short headers need no more memory.
    CHECK(deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, 11, 1, Z_DEFAULT_STRATEGY) == Z_OK);
    const std::string& dictionary = SpdyDictionary();
    CHECK(deflateSetDictionary(&stream, reinterpret_cast<const Bytef*>(dictionary.data()),
                               static_cast<uInt>(dictionary.size())) == Z_OK);
  }
  ~Deflater() { deflateEnd(&stream); }
  Deflater(const Deflater&) = delete;
};

SpdyWriter::SpdyWriter() : deflater_(std::make_unique<Deflater>()) {}
SpdyWriter::~SpdyWriter() = default;

std::string SpdyWriter::Compress(const SpdyHeaders& headers) {
  std::string block;
  Append32(block, static_cast<uint32_t>(headers.size()));
  for (const auto& [name, value] : headers) {
    Append32(block, static_cast<uint32_t>(name.size()));
    block += name;
    Append32(block, static_cast<uint32_t>(value.size()));
    block += value;
  }
  z_stream& stream = deflater_->stream;
  std::string out(deflateBound(&stream, block.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(block.data());
  stream.avail_in = static_cast<uInt>(block.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  CHECK(deflate(&stream, Z_SYNC_FLUSH) == Z_OK && stream.avail_in == 0 && stream.avail_out > 0);
  out.resize(out.size() - stream.avail_out);
  return out;
}

std::string SpdyWriter::SynStream(uint32_t id, const SpdyHeaders& headers, bool fin) {
  std::string payload;
  Append32(payload, id);
  Append32(payload, 0);
  payload.append(2, '\0');
  payload += Compress(headers);
  return ControlFrame(kSynStream, fin ? kFlagFin : 0, payload);
}

std::string SpdyWriter::SynReply(uint32_t id, const SpdyHeaders& headers) {
  std::string payload;
  Append32(payload, id);
  payload += Compress(headers);
  return ControlFrame(kSynReply, 0, payload);
}

std::string SpdyWriter::Data(uint32_t id, std::string_view data, bool fin) {
  CHECK(data.size() <= 0xffffff);
  std::string frame;
  frame.reserve(kFrameHeaderBytes + data.size());
  Append32(frame, id);
  Append32(frame, (fin ? uint32_t{kFlagFin} << 24 : 0) | static_cast<uint32_t>(data.size()));
  frame += data;
  return frame;
}

std::string SpdyWriter::Reset(uint32_t id, SpdyResetStatus status) {
  std::string payload;
  Append32(payload, id);
  Append32(payload, static_cast<uint32_t>(status));
  return ControlFrame(kRstStream, 0, payload);
}

std::string SpdyWriter::Ping(uint32_t id) {
  std::string payload;
  Append32(payload, id);
  return ControlFrame(kPing, 0, payload);
}

std::string SpdyWriter::GoAway(uint32_t last_good_id) {
  std::string payload;
  Append32(payload, last_good_id);
  Append32(payload, 0);
  return ControlFrame(kGoAway, 0, payload);
}

std::string SpdyWriter::WindowUpdate(uint32_t id, uint32_t delta) {
  std::string payload;
  Append32(payload, id);
  Append32(payload, delta);
  return ControlFrame(kWindowUpdate, 0, payload);
}

}  // namespace skiff::streaming
